"""Reading a run plan: batches, cursors, and what is refused."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from subprocess import run as process
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from data_specs.objectives import Causal
from data_specs.training import LearningRate
from tasks.planning.run_plan import build, plan_folder
from tasks.planning.trace import materialise
from tasks.storage.store import Store
from tests import training_plan
from tests.tasks.planning.test_run_plan import Corpus, make_spec
from tests.training_plan import CHANNELS, PLAN, spec
from training import ahead
from training.rows import IGNORED, Cursor, Phase, Plan, PlanError, Rows
from training.schedule import learning_rate

T = 16


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("plan")))
    training_plan.write(store, phases=(10, 5))
    return store


def documents(store: Store, channel: int) -> list[list[int]]:
    file = pa.ipc.open_file(pa.BufferReader(store.read(f"tokens/tiny@0/{CHANNELS[channel]}.arrow")))
    return [document for document in file.read_all()["tokens"].to_pylist() if document]


def read_rows(store: Store, name: str) -> list[dict]:
    return pa.ipc.open_file(pa.BufferReader(store.read(f"{PLAN}/{name}.arrow"))).read_all().to_pylist()


def test_a_batch_is_what_the_plan_says_token_by_token(store: Store) -> None:
    rows = Rows(store, Plan.read(store, PLAN), 0)
    records = read_rows(store, "rows-0-00000") + read_rows(store, "rows-0-00001")
    flat = [[token for document in documents(store, channel) for token in document] for channel in range(3)]
    batch = rows.batch(30, 12)  # over the boundary of two row files
    for row, record in enumerate(records[30:42]):
        inputs, positions, labels = [], [], []
        for file, offset, length in zip(record["file"], record["offset"], record["length"], strict=True):
            inputs += flat[file][offset : offset + length]
            positions += range(length)
            labels += [IGNORED, *flat[file][offset + 1 : offset + length]]
        assert batch.inputs[row].tolist() == inputs[:-1]
        assert batch.positions[row].tolist() == positions[:-1]
        assert batch.labels[row].tolist() == labels[1:]
        assert batch.channels[row] == record["channel"]


def test_rows_written_out_give_the_same_batches(store: Store) -> None:
    tokens, written = (Rows(store, Plan.read(store, PLAN, w), 1) for w in (False, True))
    for name in ("inputs", "positions", "labels", "channels"):
        assert np.array_equal(getattr(tokens.batch(3, 36), name), getattr(written.batch(3, 36), name))


def test_every_token_but_a_documents_first_is_a_target_once(store: Store) -> None:
    plan = Plan.read(store, PLAN)
    targets: dict[int, list[int]] = {channel: [] for channel in range(3)}
    for number, phase in enumerate(plan.phases):
        batch = Rows(store, plan, number).batch(0, phase.rows)
        for labels, channel in zip(batch.labels, batch.channels, strict=True):
            targets[int(channel)] += labels[labels != IGNORED].tolist()
    for channel, found in targets.items():
        expected = [token for document in documents(store, channel) for token in document[1:]]
        assert found == expected[: len(found)]
        assert len(found) > 300


def test_a_short_held_out_row_is_filled_and_unsupervised(store: Store) -> None:
    rows = Rows(store, Plan.read(store, PLAN), None)
    batch, records = rows.batch(0, 9), read_rows(store, "held_out")
    assert [sum(record["length"]) for record in records[:3]] == [T + 1, T + 1, 5]
    assert (batch.labels != IGNORED).sum(1).tolist() == [record["supervised"] for record in records]
    assert (batch.labels[2, 4:] == IGNORED).all()
    assert (batch.positions[2, 5:] == 0).all()


def test_the_cursor_visits_every_step_of_every_phase_and_leaves_out_skipped_ranges(store: Store) -> None:
    plan = Plan.read(store, PLAN)

    def visit(cursor: Cursor) -> list[tuple[int, int, int]]:
        seen = []
        while place := cursor.seek(plan):
            seen.append((place.step, place.phase, place.row))
            cursor = place.after(plan)
        return seen

    straight = visit(Cursor())
    assert straight == [(s, int(s >= 10), 8 * (s if s < 10 else s - 10)) for s in range(15)]
    skipping = visit(Cursor(skipped=((0, 8, 8), (0, 16, 8), (1, 32, 8))))
    assert [place[1:] for place in skipping] == [p[1:] for p in straight if p[1:] not in [(0, 8), (0, 16), (1, 32)]]
    assert [place[0] for place in skipping] == list(range(12))
    middle = Cursor(4, 0, 32)
    assert visit(middle) == straight[4:]


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
@pytest.mark.parametrize("skipped", [((0, 8, 8), (1, 0, 16)), ((0, 4, 8), (1, 8, 4)), ((0, 72, 8), (1, 8, 16))])
def test_the_learning_rate_follows_the_plan_past_what_is_skipped_and_ends_where_it_ends(
    store: Store, schedule: Any, skipped: tuple[tuple[int, int, int], ...]
) -> None:
    plan, settings = Plan.read(store, PLAN), LearningRate(schedule=schedule, warmup=2, decay=0.6)

    def rates(cursor: Cursor) -> list[tuple[int, float]]:
        found = []
        while place := cursor.seek(plan):
            found.append((place.planned(plan), learning_rate(place.planned(plan), plan.steps, settings, 64)))
            cursor = place.after(plan)
        return found

    straight, skipping = rates(Cursor()), rates(Cursor(skipped=skipped))
    assert straight == [(step, learning_rate(step, plan.steps, settings, 64)) for step in range(plan.steps)]
    assert len(skipping) < len(straight)
    assert [rate for _, rate in skipping] == [straight[step][1] for step, _ in skipping]
    assert skipping[-1] == straight[-1]
    assert all(one < other for (one, _), (other, _) in pairwise(skipping))


def test_a_plan_that_does_not_fit_is_refused(store: Store, tmp_path: Path) -> None:
    plan = Plan.read(store, PLAN)
    with pytest.raises(PlanError, match=r"T is 16, but training\.sequence is 32"):
        plan.check(spec(sequence=32).training)
    with pytest.raises(PlanError, match="not a multiple of micro x workers = 12"):
        plan.check(spec(workers=3, micro=4, rows=12).training)
    with pytest.raises(PlanError, match="no run plan here"):
        Plan.read(store, "plans/other@0")
    with pytest.raises(PlanError, match="missing"):
        Rows(store, plan, 0).batch(78, 8)
    damaged = Store(str(tmp_path))
    training_plan.write(damaged, phases=(4,))
    table = pa.ipc.open_file(pa.BufferReader(damaged.read(f"{PLAN}/rows-0-00000.arrow"))).read_all()
    wrong = pa.array([n + (row == 5) for row, n in enumerate(table["supervised"].to_pylist())], pa.int32())
    with damaged.writer(f"{PLAN}/rows-0-00000.arrow") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table.set_column(4, "supervised", wrong))
    with pytest.raises(PlanError, match="row 5 of phase 0 supervises"):
        Rows(damaged, Plan.read(damaged, PLAN), 0).batch(4, 4)
    raw = orjson.loads(damaged.read(f"{PLAN}/plan.json"))
    damaged.commit(f"{PLAN}/plan.json", orjson.dumps(raw | {"steps": 5}))
    with pytest.raises(PlanError, match="4 steps, not 5"):
        Plan.read(damaged, PLAN)


def test_importing_the_launcher_imports_neither_torch_nor_ray() -> None:
    heavy = "{'torch', 'ray', 'deepspeed', 'transformers', 'prefect'}"
    code = f"import sys, training.launch; print(sorted({heavy} & set(sys.modules)))"
    assert process([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_the_planner_writes_is_what_the_loader_reads() -> None:
    rng = np.random.default_rng(11)
    shards = [
        [("ab"[int(rng.integers(2))], int(rng.integers(1, 60)), bool(rng.random() < 0.1)) for _ in range(30)]
        for _ in range(4)
    ]
    corpus = Corpus([[("a", 50, True), ("b", 61, True), *shards[0]], *shards[1:]])
    phases = [{"until": 0.4, "weights": {"a": 1, "b": 2}}, {"until": 1, "weights": {"a": 3, "b": 1}}]
    made = make_spec(("a", "b"), 1600, phases=phases)
    written = corpus.build(made)
    folder = plan_folder(made, written["digest"])
    materialise(corpus.store, folder)
    plan = Plan.read(corpus.store, folder)
    plan.check(made.training)
    supervised = 0
    for number, phase in enumerate(plan.phases):
        expected = corpus.rows(written, made, f"rows-{number}-")
        for rows in (Rows(corpus.store, Plan.read(corpus.store, folder, w), number) for w in (False, True)):
            batch = rows.batch(0, phase.rows)
            assert [plan.channels[channel] for channel in batch.channels] == [channel for channel, _ in expected]
            for inputs, labels, (_, segments) in zip(batch.inputs, batch.labels, expected, strict=True):
                tokens = [token for segment in segments for token in segment]
                targets = [token for segment in segments for token in [IGNORED, *segment[1:]]]
                assert inputs.tolist() == tokens[:-1]
                assert labels.tolist() == targets[1:]
        supervised += int((batch.labels[: phase.steps * phase.rows_per_step] != IGNORED).sum())
    assert supervised == written["supervised"]
    held_out = Rows(corpus.store, plan, None)
    assert (held_out.batch(0, len(held_out)).labels != IGNORED).sum() == sum(written["held_out"]["supervised"].values())


def test_the_files_of_the_next_steps_are_opened_ahead_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "AHEAD", 3)
    phase = Phase("1", 80, 0, 10, 8, rows_per_file=80, sequence=16, objective=Causal())
    opened: list[tuple[int, int]] = []
    plan = SimpleNamespace(phases=(phase,))
    phases = [SimpleNamespace(open=lambda first, count: opened.append((first, count)))]
    cursor = Cursor()

    def until(count: int) -> None:
        deadline = time.monotonic() + 30
        while len(opened) < count and time.monotonic() < deadline:
            time.sleep(0.01)

    with ahead.opening(phases, plan, lambda: cursor, 1, 2, lambda sequence: 2):
        until(8)
        time.sleep(0.3)
        early = len(opened)
        cursor = Cursor(step=9, phase=0, row=72)
        until(20)
    assert early == 8  # this rank's two micro-batches of steps 1 to 4
    assert opened == [(8 * step + first, 2) for step in range(10) for first in (2, 6)]


def test_a_mask_that_the_tokenizer_has_is_the_one_that_rows_show() -> None:
    corpus = Corpus([[("a", 20, False)] * 40])
    made = make_spec(("a",), 320)
    objective = {"kind": "masked", "rate": 0.5, "masks": 1.0, "random": 0.0}
    asked = made.model_validate(
        made.model_dump(mode="json", exclude_unset=True)
        | {
            "model": {"architecture": "bert"},
            "tokenizer": {"kind": "file", "path": "tokenizer.json", "mask": "[MASK]"},
            "training": made.training.model_dump(exclude_unset=True) | {"objective": objective},
        }
    )
    build(asked, 2**17, "0" * 32, corpus.shards, corpus.store, own={"<mask>": 2**17 - 3})
    read = Plan.read(corpus.store, plan_folder(asked, "0" * 32))
    found = Rows(corpus.store, read, 0).batch(0, 4)
    assert read.vocabulary == 2**17
    shown = np.take_along_axis(found.inputs, found.origin, 1)
    assert (shown[found.labels != IGNORED] == 2**17 - 3).all()
    assert (found.labels != IGNORED).any()
