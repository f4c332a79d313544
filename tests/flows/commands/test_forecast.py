"""What `plan` expects of a run, against what the run's manifests, logs and records then say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from data_specs.load import load
from data_specs.objectives import ARCHITECTURES
from flows.commands import costs, forecast_printed
from tasks.dedup.clusters import Clusters
from tasks.engine.worker import Job
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import DeniedError, Store
from tests.commands import ask, told
from tests.whole import direct, go
from training import log


def entries(store: Store) -> Iterator[tuple[str, str, Entry]]:
    """(stage, kind of step, entry) of every job that any run did."""
    for folder in sorted({path.split("/manifest/")[0] for path in store.walk() if "/manifest/" in path}):
        top, stage, *rest = folder.split("/")
        if top == "models":
            name, kind = f"learn_{stage}", "sample" if rest else "fit"
        else:
            name = stage.split("@")[0] if top == "columns" else top
            kind = rest[0] if rest else "scatter"
        yield from ((name, kind, entry) for entry in Manifest(store, folder).entries() if "rows" in entry)


CHANGED = (
    "name=other",
    "seed=8",
    "stages.duplicates.threshold=0.7",
    "stages.duplicates.floor=0.52",
    "stages.language.characters=900",
)
"""Another lineage learns everything anew, and every stage but signals and exact has another fingerprint or
other input."""


def asked(spec: Path, *settings: str) -> dict[str, Any]:
    return told("plan", spec, *(part for each in settings for part in ("--set", each)))


@pytest.mark.slow
def test_what_is_expected_of_a_stage_is_what_all_its_steps_then_cost(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clusters, "rows_per_reduce", 8)  # so that there are rounds
    first = go(copied, ["stages.duplicates.threshold=0.75"])
    before = [(kind, entry) for name, kind, entry in entries(first.store) if name == "clusters"]
    expected = {stage["name"]: stage for stage in asked(copied, *CHANGED)["stages"] if "expected_jobs" in stage}
    run = go(copied, CHANGED)
    did: dict[str, list[tuple[str, Entry]]] = {}
    for name, kind, entry in entries(run.store):
        if entry["run"] == run.name and name != "counts":  # what a version counts is no stage
            did.setdefault(name, []).append((kind, entry))
    assert {"language", "candidates", "alike", "verdict", "tokens", "learn_tokenizer"} <= did.keys() <= expected.keys()
    for name, jobs in did.items():
        if name != "clusters":
            assert expected[name]["expected_jobs"] == len(jobs), name
            size = sum(entry["bytes"] for _, entry in jobs)
            assert expected[name]["expected_bytes"] == pytest.approx(size, rel=0.25), name
    assert {kind for kind, _ in did["candidates"]} == {"map", "reduce", "scatter"}
    assert {kind for kind, _ in did["learn_quality"]} == {"sample", "fit"}
    assert len(did["clusters"]) <= expected["clusters"]["expected_jobs"]  # some shards' pairs were as before
    rounds = [entry for kind, entry in before if kind == "round" and entry["run"] == first.name]
    assert rounds
    assert expected["clusters"]["expected_jobs"] == 4 + len(rounds) + 2 + 4
    seconds = sum(entry["seconds"] for jobs in did.values() for _, entry in jobs)
    predicted = 3600 * sum(expected[name]["expected_core_hours"] for name in did)
    assert seconds / 10 < predicted < seconds * 10


def test_a_step_is_expected_to_take_what_it_took_when_it_last_ran() -> None:
    def entry(run: str, shard: str, seconds: float) -> Entry:
        return {"run": run, "shard": shard, "seconds": seconds, "bytes": 10, "rows": 1}

    old = [entry("a", "0", 9.0), entry("a", "1", 2.0), {"run": "b", "shard": "1", "error": "no"}]
    new = [entry("b", "0", 3.0), entry("b", "0", 1.0)]  # two rounds of one partition
    assert costs.past([*old, *new]) == costs.Cost(3, 6.0, 30)


def test_only_the_steps_that_are_left_are_expected(copied: Path) -> None:
    change = ["stages.duplicates.floor=0.6"]
    run = go(copied, change, until="signals")
    pipeline = run.pipeline
    whole = {stage["name"]: stage for stage in asked(copied, *change)["stages"]}
    node = pipeline.node("candidates")

    def run_jobs(jobs: Sequence[Job]) -> None:
        direct(batch.stage, batch.stage_key, jobs, pipeline.store, None, lambda found: pipeline.commit(batch, found))

    batch = pipeline.resolve(node).batches[0]
    assert batch.jobs[0].kind == "map"
    run_jobs(batch.jobs[:3])
    left = {stage["name"]: stage for stage in asked(copied, *change)["stages"]}
    assert left["candidates"]["expected_jobs"] == whole["candidates"]["expected_jobs"] - 3 == 7
    assert left["candidates"]["expected_bytes"] < whole["candidates"]["expected_bytes"]
    pipeline.tried.clear()
    while (batch := pipeline.resolve(node).batches[0]).jobs[0].kind != "scatter":
        run_jobs(batch.jobs)
    assert {s["name"]: s for s in asked(copied, *change)["stages"]}["candidates"]["expected_jobs"] == 4


def trained(store: Store, spec: Path, run: str, seconds: list[float], workers: int = 1) -> None:
    """What a training leaves of its pace."""
    written = log.Log(store, run, -1)
    for step, each in enumerate(seconds, 1):
        written.write("step", step, phase=0, rows=16, seconds=each)
    written.write("held_out", len(seconds), losses={}, seconds=1.0)
    written.flush()
    said = load(str(spec), ()).model_dump(mode="json")
    said["training"]["workers"] = workers
    parameters = asked(spec)["training"]["parameters"]
    store.commit(f"runs/{run}/run.json", orjson.dumps({"spec": said, "parameters": parameters}))


def test_the_training_is_expected_at_the_pace_of_the_last_one(copied: Path) -> None:
    store = Store(str(copied.parent / "store"))
    train = asked(copied)["stages"][-1]
    assert train["because"] == "no training of this lineage ran"
    assert "expected_core_hours" not in train
    trained(store, copied, "small-0123456789ab", [9.0] * 8)
    trained(store, copied, "small-ba9876543210", [2.0, 3.0, 4.0, 2.0], workers=2)
    trained(store, copied, "small-er-0123456789ab", [70.0])  # another lineage
    found = asked(copied)
    train = found["stages"][-1]
    assert train["because"] == "8 steps, as in runs/small-ba9876543210: 3 s a step x 2 workers"
    assert 3600 * train["expected_core_hours"] == pytest.approx(8 * (11 + 1) / 4 * 2, abs=0.01)
    assert train["expected_bytes"] == found["training"]["parameters"] * (2 * 12 + 4)
    assert found["expected"] == {
        "core_hours": train["expected_core_hours"],
        "bytes": train["expected_bytes"],
        "unknown": [],
    }
    larger = asked(copied, "training.batch.tokens=2048", "training.steps=16")["stages"][-1]
    assert 3600 * larger["expected_core_hours"] == pytest.approx(16 * 3 * 2 * 2, abs=0.01)
    assert larger["because"].endswith("x 2 for another model or batch")


def test_steps_of_phases_with_batches_of_their_own_are_expected_at_their_size(copied: Path) -> None:
    store = Store(str(copied.parent / "store"))
    trained(store, copied, "small-0123456789ab", [3.0] * 8)
    weights = "weights: {zh: 0.4, en: 0.4, code: 0.2}"
    phases = f"[{{until: 50%, {weights}}}, {{until: 100%, {weights}, batch: 2048, sequence: 128}}]"
    train = asked(copied, f"mixture.phases={phases}")["stages"][-1]
    pace = (8 * 3 + 1) / 8
    assert 3600 * train["expected_core_hours"] == pytest.approx((4 + 2 * 2) * pace, abs=0.01)
    assert train["because"].endswith("6 steps, as in runs/small-0123456789ab: 3.12 s a step x 1 worker x 1.33 for "
                                     "another model or batch")  # fmt: skip
    written = log.Log(store, "small-0123456789ab", 8)
    for step in range(9, 17):
        written.write("step", step, phase=1, rows=16, seconds=6.0)
    written.close()
    said = store.json("runs/small-0123456789ab/run.json")
    said["spec"]["mixture"]["phases"][1]["sequence"] = 128
    store.commit_json("runs/small-0123456789ab/run.json", said)
    train = asked(copied)["stages"][-1]
    assert 3600 * train["expected_core_hours"] == pytest.approx(8 * 1024 * (25 + 48) / (24 * 1024), abs=0.01)


@pytest.mark.parametrize("kind", ["causal", "masked", "span_corruption", "permutation"])
def test_the_memory_of_a_step_of_any_objectives_model_is_said(copied: Path, kind: str) -> None:
    model = {"architecture": ARCHITECTURES[kind], "hidden": 32, "layers": 2, "heads": 2, "intermediate": 64}
    settings = f"model={orjson.dumps(model).decode()}", f"training.objective={kind}"
    found = asked(copied, *settings)["training"]["memory"]
    assert found["total"] > found["activations"] > found["weights"] > 0
    assert found["fits"]
    assert "sure" not in found  # which is for models of folders
    text = ask("plan", copied, *(part for each in settings for part in ("--set", each))).output
    assert "(weights, states and a micro-batch): fits" in text


def test_of_what_a_stage_reads_only_the_difference_is_told(copied: Path) -> None:
    copied.write_text(copied.read_text().replace("\nrules:\n", '\nrules:\n  - few_lines: "lines < 3"\n'))
    [verdict] = [stage for stage in asked(copied)["stages"] if stage["name"] == "verdict"]
    assert verdict["because"].startswith("reads: + lines; settings.rules.few_lines.")


def test_the_run_plan_is_expected_as_it_was_last_written(copied: Path) -> None:
    run = go(copied)
    written = run.execution.results[-1]
    written.state, written.seconds = "computed", 36.0
    run.save(ended=True)
    found = asked(copied, "mixture.tokens=4096")
    plan, train = found["stages"][-2:]
    assert plan["because"] == f"as in run {run.name}"
    assert plan["expected_core_hours"] == 0.01
    assert plan["expected_bytes"] == sum(run.store.walk(run.record["plan"]).values())
    assert found["expected"]["unknown"] == ["train"]
    assert train["state"] == "waiting"
    shown = ask("plan", copied, "--set", "mixture.tokens=4096").output
    assert "and what is unknown: train" in shown
    assert "one core each" in shown


def test_a_plan_without_the_records_of_other_users_says_which_costs_it_does_not_know(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(Store(str(copied.parent / "store")), copied, "small-0123456789ab", [9.0] * 8)
    read = Store.read

    def mine(store: Store, path: str) -> bytes:
        if path.endswith("/run.json"):
            raise DeniedError(f"{path} cannot be read")
        return read(store, path)

    monkeypatch.setattr(Store, "read", mine)
    found = asked(copied, "mixture.tokens=4096")
    plan, train = found["stages"][-2:]
    assert plan["because"] == train["because"] == costs.DENIED
    assert found["expected"]["unknown"] == ["plan", "train"]


def test_targets_are_not_called_positions(computed: Any) -> None:
    spec, run = computed
    training = asked(spec)["training"]
    assert training["positions"] == 8 * 1024 > training["tokens"] == run.plan_facts["supervised"]
    assert "supervised_tokens" not in asked(spec, "mixture.tokens=4096")["training"]


QUALITY = 'stages: {quality: {reference: "length(text) > 9", where: "%s"}}\n'


@pytest.mark.parametrize(
    ("where", "channel", "bound"),
    [
        ("source <> 'code'", "source = 'code'", True),
        ("source <> 'code'", "source in ('code', 'web')", False),
        ("source not in ('code', 'notes') and words > 5", "source = 'notes'", True),
        ("words >= 50", "words < 50", True),
        ("words >= 50", "words <= 50", False),
        ("source is null", "source is not null", True),
        ("regexp_matches(url, '^https')", "source = 'code'", False),
        ("source <> 'code'", "contains(source, 'code')", False),
        ("source <> 'code'", "source = 'code' and source = 'web'", False),
    ],
)
def test_a_run_that_is_bound_to_stop_at_the_gate_skipped_is_told_so_by_its_plan_and_before_its_first_stage(
    where: str, channel: str, bound: bool, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    (tmp_path / "web.jsonl").write_text('{"text": "one"}\n')
    sources = f"name: x\nstore: {tmp_path}/store\nsources: {{web: {{kind: jsonl, paths: {tmp_path}/web.jsonl}}}}\n"
    spec.write_text(f'{sources}{QUALITY % where}channels: {{odd: "{channel}", rest: "true"}}\n')
    stops = told("plan", spec)["certain_stops"]
    assert [stop.partition(" takes")[0] for stop in stops] == (["channels.odd"] if bound else [])
    if bound:
        assert "stages.quality.where skips" in ask("plan", spec).stdout.replace("\n", " ")
        found = told("run", spec, code=3)
        assert "set gates.skipped: true" in found["error"]
        assert not (tmp_path / "store" / "documents").exists()
        assert told("plan", spec, "--set", "gates.skipped=true")["certain_stops"] == []


def test_a_plan_tells_where_code_that_differs_in_its_symbols_alone_counts_as_copies(computed: Any) -> None:
    spec, _ = computed
    assert asked(spec)["duplicates"]["code_without_symbols"] == ["code"]
    assert "of the code of code symbols do not count" in " ".join(ask("plan", spec).output.split())
    for symbols in ("\"kind = 'code'\"", "'false'"):
        assert asked(spec, f"stages.duplicates.symbols={symbols}")["duplicates"]["code_without_symbols"] == []
    demo = load(str(Path(__file__).parents[3] / "data_specs" / "demo.yaml"))
    assert demo.duplicates.symbols == "kind = 'code'"


def test_no_number_of_a_small_run_is_shown_as_none(computed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    spec, _ = computed
    found = told("plan", spec)
    found["expected"] = {"core_hours": 0.000003, "bytes": 9, "unknown": []}
    found["training"] |= {"tokens_per_parameter": 0.004, "epochs": {"zh": 0.0042, "en": 0.0, "code": 1.234}}
    assert 0 < found["training"]["memory"]["total"] < 0.005 * 2**30
    forecast_printed.show(found)
    shown = capsys.readouterr().out
    assert re.search(r"expected .* 3e-06 ", shown)
    assert "zh 0.0042, en 0.00, code 1.23" in shown
    assert re.search(r"tokens per parameter +│ 0.004 ", shown)
    assert "0.00 GiB" not in shown
    missed = 1 - dict(map(tuple, found["duplicates"]["curve"]))[found["duplicates"]["threshold"]]
    assert 0 < missed < 1e-6
    assert "<0.1 % of those right at 0.8 are missed" in " ".join(shown.split())
