"""The run plan against brute force: every token value is unique, so each row can be traced by reading it."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_specs.spec import Spec
from tasks.arrays.hashing import seeded_hash
from tasks.planning import run_plan
from tasks.planning.collect import Values
from tasks.planning.mixture import MixtureError
from tasks.planning.run_plan import build, plan_folder, plan_key
from tasks.planning.trace import materialise, step_documents
from tasks.storage.store import Store
from tests.golden import check_golden

VOCABULARY = 2**17
SEQUENCE, ROWS = 8, 4


def make_spec(
    channels: tuple[str, ...], budget: int, workers: int = 1, evaluated: int = 5 * SEQUENCE, **mixture: Any
) -> Spec:
    return Spec(
        name="test",
        sources={"pages": {"kind": "jsonl", "paths": "pages.jsonl"}},
        channels={name: f"domain = '{name}'" for name in channels},
        mixture={"tokens": budget, **mixture},
        training={
            "sequence": SEQUENCE,
            "workers": workers,
            "batch": {"tokens": SEQUENCE * ROWS, "micro": 1},
            "evaluate": {"tokens": evaluated},
        },
    )


class Corpus:
    """Documents in token files, each token a number of its own."""

    def __init__(self, shards: list[list[tuple[str, int | None, bool]]], good: Any = lambda number: True) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(self.folder.name)
        self.documents: dict[int, tuple[str, bool, list[int]]] = {}
        self.of_token: dict[int, int] = {}
        self.shards: list[tuple[str, pa.Table]] = []
        number = token = 0
        for index, shard in enumerate(shards):
            lists: list[list[int] | None] = []
            first = number
            for channel, length, held_out in shard:
                values = None if length is None else list(range(token, token + length))
                if values is not None:
                    self.documents[number] = channel, held_out, values
                    self.of_token |= dict.fromkeys(values, number)
                    token += len(values)
                lists.append(values)
                number += 1
            path = f"tokens/test/{index}.arrow"
            column = pa.table({"tokens": pa.array(lists, pa.list_(pa.uint32()))})
            with self.store.writer(path) as file, pa.ipc.new_file(file, column.schema) as writer:
                writer.write_table(column)
            ids = [n.to_bytes(8, "little") * 2 for n in range(first, number)]
            table = pa.table(
                {
                    "id": pa.array(ids, pa.binary(16)),
                    "channel": pa.array([c for c, _, _ in shard], pa.string()),
                    "length": pa.array([n for _, n, _ in shard], pa.int32()),
                    "held_out": pa.array([h for _, _, h in shard], pa.bool_()),
                }
            )
            good_ones = pa.array([good(n) for n in range(first, number)], pa.bool_())
            for phase in range(3):
                table = table.append_column(f"where_{phase}", good_ones)
            self.shards.append((path, table))

    def build(self, spec: Spec, key: str = "0" * 32) -> dict[str, Any]:
        return build(spec, VOCABULARY, key, self.shards, self.store)

    def rows(self, plan: dict[str, Any], spec: Spec, prefix: str = "rows") -> list[tuple[str, list[list[int]]]]:
        """Every row as (channel, its segments' tokens), read one value at a time."""
        flat = {}
        for number, path in enumerate(plan["files"]):
            lists = pa.ipc.open_file(self.store.open(path)).read_all()["tokens"].to_pylist()
            flat[number] = [value for values in lists if values is not None for value in values]
        folder, result = plan_folder(spec, plan["digest"]), []
        for name in sorted(name for name in plan["content"] if name.startswith(prefix)):
            for row in pa.ipc.open_file(self.store.open(f"{folder}/{name}")).read_all().to_pylist():
                segments = zip(row["file"], row["offset"], row["length"], strict=True)
                tokens = [flat[file][offset : offset + length] for file, offset, length in segments]
                assert row["supervised"] == sum(map(len, tokens)) - len(tokens)
                result.append((plan["channels"][row["channel"]], tokens))
        return result


documents = st.tuples(
    st.sampled_from(["a", "b"]), st.one_of(st.none(), st.integers(1, 90)), st.sampled_from([False] * 4 + [True])
)
corpora = st.lists(st.lists(documents, max_size=12), min_size=1, max_size=4).map(
    lambda shards: [[("a", 50, False), ("b", 61, False)], *shards]
)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(corpora, st.floats(0, 3), st.sampled_from([1.0, 1.5, 2.0, 4.0]), st.booleans(), st.integers(0, 99))
def test_each_token_but_a_documents_first_is_a_target_as_often_as_the_document_is_used(
    shards: list[list[tuple[str, int | None, bool]]], share: float, cap: float, phased: bool, seed: int
) -> None:
    corpus = Corpus(shards)
    scarcest = min(sum(n or 0 for s in shards for c, n, held in s if c == name and not held) for name in "ab")
    steps = 2 + int(share * cap * scarcest / SEQUENCE / ROWS)
    phases = [{"until": 0.4, "weights": {"a": 1, "b": 2}}, {"until": 1, "weights": {"a": 3, "b": 1}}] if phased else []
    spec = make_spec(("a", "b"), steps * SEQUENCE * ROWS, epochs={"default": cap}, phases=phases)
    spec = spec.model_copy(update={"seed": seed})
    try:
        plan = corpus.build(spec)
    except MixtureError:
        assert not corpus.store.walk("plans")
        return
    rows = corpus.rows(plan, spec)
    assert len(rows) == steps * ROWS
    assert all(sum(map(len, segments)) == SEQUENCE + 1 for _, segments in rows)
    targets = Counter(token for _, segments in rows for segment in segments for token in segment[1:])
    leftover: Counter[str] = Counter()
    used: dict[str, list[int]] = {"a": [], "b": []}
    for channel, held_out, tokens in corpus.documents.values():
        found = [targets[token] for token in tokens]
        assert found[0] == 0
        if held_out or len(tokens) < 2:
            assert not any(found)
            continue
        count = max(found[1:])
        assert count <= np.ceil(cap)
        assert set(found[1:]) <= {count, count - 1}
        unread = [at for at, times in enumerate(found) if at and times < count]
        assert not unread or unread == list(range(unread[0], len(tokens)))
        leftover[channel] += len(unread)
        used[channel].append(count)
    for channel, counts in used.items():
        facts = plan["usage"][channel]
        planned = {int(times): number for times, number in facts["counts"].items()}
        assert sum(planned.values()) == len(counts)
        assert max(planned, default=0) - min(planned, default=0) <= 1
        unseen = sum(times * number for times, number in planned.items()) - sum(counts)
        assert unseen in (0, 1)  # 1: a document cut right after its first token, all its targets left over
        assert (facts["leftover"] > leftover[channel]) if unseen else (facts["leftover"] == leftover[channel])
        assert facts["used"] <= cap * facts["tokens"]
    assert plan["supervised"] == sum(targets.values()) == sum(plan["channel_tokens"].values())
    for channel in plan["channels"]:
        assert plan["channel_tokens"][channel] == sum(
            len(segment) - 1 for name, segments in rows if name == channel for segment in segments
        )


@relaxed
@given(corpora, st.integers(2, 9))
def test_a_document_cut_at_a_rows_end_goes_on_with_an_overlap_of_one_token(
    shards: list[list[tuple[str, int | None, bool]]], steps: int
) -> None:
    corpus = Corpus(shards)
    spec = make_spec(("a", "b"), steps * SEQUENCE * ROWS)
    try:
        plan = corpus.build(spec)
    except MixtureError:
        return
    begins: Counter[int] = Counter()
    ends: Counter[int] = Counter()
    for channel, segments in corpus.rows(plan, spec):
        for segment in segments:
            name, held_out, tokens = corpus.documents[corpus.of_token[segment[0]]]
            assert (name, held_out) == (channel, False)
            at = tokens.index(segment[0])
            assert segment == tokens[at : at + len(segment)]
            begins[segment[0]] += 1
            ends[segment[-1]] += 1
    for _, _, tokens in corpus.documents.values():
        for token in tokens[1:-1]:
            assert 0 <= ends[token] - begins[token] <= 1  # one end more only where the run ends inside the document


def mixed_corpus(count: int = 400) -> Corpus:
    rng = np.random.default_rng(7)
    shard = [
        ("abc"[i], int(n), bool(h))
        for i, n, h in zip(rng.integers(0, 3, count), rng.integers(2, 60, count), rng.random(count) < 0.1, strict=True)
    ]
    return Corpus([shard[:150], [], shard[150:]], good=lambda number: number % 2 == 0)


WEIGHTS = {"a": 0.46, "b": 0.33, "c": 0.21}


def test_every_window_of_steps_holds_each_channels_share_and_no_step_lacks_a_channel() -> None:
    corpus = mixed_corpus()
    spec = make_spec(tuple(WEIGHTS), 300 * SEQUENCE * ROWS, phases=[{"until": 1, "weights": WEIGHTS}])
    spec = spec.model_copy(
        update={
            "training": spec.training.model_copy(
                update={"batch": spec.training.batch.model_copy(update={"tokens": 80})}
            )
        }
    )
    plan = corpus.build(spec)
    channels = [channel for channel, _ in corpus.rows(plan, spec)]
    per_step = np.array([Counter(channels[i : i + 10])[c] for i in range(0, len(channels), 10) for c in "abc"])
    per_step = per_step.reshape(-1, 3)
    exact = per_step.sum(axis=0) / len(per_step)
    assert np.abs(exact / 10 - list(WEIGHTS.values())).max() <= 1 / len(channels)
    sums = np.concatenate([[[0, 0, 0]], np.cumsum(per_step, axis=0)])
    assert per_step.min() >= 1
    for window in range(1, len(per_step) + 1):
        found = sums[window:] - sums[:-window]
        assert np.abs(found - window * exact).max() < 2


def test_rows_are_shuffled_within_their_channel() -> None:
    corpus = mixed_corpus()
    spec = make_spec(("a", "b", "c"), 200 * SEQUENCE * ROWS)
    rows = corpus.rows(corpus.build(spec), spec)
    documents = [corpus.of_token[segments[0][0]] for channel, segments in rows if channel == "a"]
    repeated = sum(first == second for first, second in itertools.pairwise(documents))
    assert repeated < len(documents) / 10  # a document gives 4 rows on average: in its order 3 of 4 would repeat


def test_where_restricts_a_phase_and_usage_carries_across_phases() -> None:
    corpus = mixed_corpus()
    phases = [
        {"until": 0.7, "weights": {"a": 1, "b": 1, "c": 1}},
        {"until": 1.0, "weights": {"a": 1, "b": 1, "c": 1}, "where": "good"},
    ]
    size = sum(len(tokens) for _, held, tokens in corpus.documents.values() if not held)
    spec = make_spec(("a", "b", "c"), size, phases=phases, epochs={"default": 2})
    plan = corpus.build(spec)
    rows = corpus.rows(plan, spec)
    first = plan["phases"][0]["rows"]
    before = {corpus.of_token[s[0]] for _, segments in rows[:first] for s in segments}
    after = Counter(corpus.of_token[s[0]] for _, segments in rows[first:] for s in segments)
    assert all(number % 2 == 0 for number in after)
    assert before - set(after)
    fresh = {n for n, (_, held, tokens) in corpus.documents.items() if n % 2 == 0 and not held and n not in before}
    assert fresh
    assert len(fresh - set(after)) == 0  # documents not used yet come first


def test_the_plan_depends_neither_on_workers_nor_on_the_order_of_shards() -> None:
    corpus = mixed_corpus()
    plans = []
    for workers in (1, 2, 4):
        spec = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS, workers)
        key = plan_key(spec, VOCABULARY, [(path, path) for path, _ in corpus.shards])
        plans.append(corpus.build(spec, key))
    assert plans[0] == plans[1] == plans[2]
    straight = corpus.rows(plans[0], spec)
    corpus.shards.reverse()
    assert corpus.rows(corpus.build(spec, "1" * 32), spec) == straight


def test_the_key_tells_every_input_apart_and_building_again_gives_the_same_bytes() -> None:
    corpus = mixed_corpus()
    shards = [(path, "digest") for path, _ in corpus.shards]
    spec = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS)
    other = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS, phases=[{"until": 1, "weights": WEIGHTS}])
    written = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS, shards="rows")
    keys = [
        plan_key(spec, VOCABULARY, shards),
        plan_key(spec, VOCABULARY, [(path, "another") for path, _ in shards]),
        plan_key(spec, VOCABULARY, shards[:-1]),
        plan_key(spec, 2, shards),
        plan_key(spec.model_copy(update={"seed": 1}), VOCABULARY, shards),
        plan_key(other, VOCABULARY, shards),
    ]
    assert len(set(keys)) == len(keys)
    assert plan_key(written, VOCABULARY, shards) == keys[0]
    first = corpus.build(spec)
    for path in corpus.store.walk("plans"):
        corpus.store.remove(path)
    assert corpus.build(spec)["content"] == first["content"]
    assert corpus.build(spec.model_copy(update={"seed": 1}))["content"] != first["content"]


def test_held_out_rows_are_grouped_capped_and_the_same_for_every_seed() -> None:
    corpus = mixed_corpus()
    spec = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS)
    plan = corpus.build(spec)
    rows = corpus.rows(plan, spec, "held_out")
    assert [channel for channel, _ in rows] == sorted(channel for channel, _ in rows)
    assert Counter(channel for channel, _ in rows) == plan["held_out"]["rows"] == {"a": 5, "b": 5, "c": 5}
    for _, segments in rows:
        assert all(corpus.documents[corpus.of_token[token]][1] for segment in segments for token in segment)
    again = corpus.build(spec.model_copy(update={"seed": 1}), "1" * 32)
    assert again["content"]["held_out.arrow"] == plan["content"]["held_out.arrow"]


def test_the_last_held_out_row_of_a_channel_may_be_short() -> None:
    corpus = Corpus([[("a", 12, True), ("b", 400, False), ("a", 400, False)]])
    spec = make_spec(("a", "b"), 10 * SEQUENCE * ROWS)
    plan = corpus.build(spec)
    assert [list(map(len, segments)) for _, segments in corpus.rows(plan, spec, "held_out")] == [[6, 3], [4]]
    assert plan["held_out"] == {
        "documents": {"a": 1, "b": 0},
        "rows": {"a": 2, "b": 0},
        "supervised": {"a": 10, "b": 0},
    }


def held_out_windows(corpus: Corpus, channel: str) -> list[list[int]]:
    """What would be evaluated of a channel were there no limit, one document and one token at a time."""
    found: dict[int, list[list[int]]] = {}
    for number, (name, held_out, tokens) in corpus.documents.items():
        if held_out and name == channel and len(tokens) > 1:
            hashed = np.array([number], np.uint64)
            parts = next(n for n in itertools.count(1) if n * (SEQUENCE + 1) >= len(tokens))
            cuts = [len(tokens) * part // parts for part in range(parts + 1)]
            first = int(seeded_hash(hashed, "window")[0]) % parts
            of_document = [tokens[start:end] for start, end in itertools.pairwise(cuts)]
            found[int(seeded_hash(hashed, "held_out")[0])] = of_document[first:] + of_document[:first]
    turns = itertools.zip_longest(*(found[hashed] for hashed in sorted(found)))
    return [window for turn in turns for window in turn if window is not None]


held_out_corpora = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.one_of(st.integers(0, 12), st.integers(0, 150)), st.booleans()),
    max_size=14,
)


@relaxed
@given(held_out_corpora, st.integers(1, 60), st.integers(0, 99))
def test_held_out_loss_is_of_one_window_of_every_document_before_a_second_one_of_any(
    documents: list[tuple[str, int, bool]], rows: int, seed: int
) -> None:
    corpus = Corpus([documents, [("a", 400, False), ("b", 400, False)]])
    spec = make_spec(("a", "b"), SEQUENCE * ROWS, evaluated=rows * SEQUENCE)
    plan = corpus.build(spec.model_copy(update={"seed": seed}))
    cut = corpus.rows(plan, spec, "held_out")
    for name in ("a", "b"):
        lines = [[token for segment in segments for token in segment] for channel, segments in cut if channel == name]
        assert all(before[-1] == line[0] for before, line in itertools.pairwise(lines))
        read = [token for number, line in enumerate(lines) for token in line[number > 0 :]]
        expected = [token for window in held_out_windows(corpus, name) for token in window]
        assert read == expected[: rows * SEQUENCE + 1]
        assert len(set(read)) == len(read)
        each = Counter(corpus.of_token[token] for token in read)
        there = [n for n, (c, held, tokens) in corpus.documents.items() if held and c == name and len(tokens) > 1]
        assert max(each.values(), default=0) <= SEQUENCE + 1 or set(each) == set(there)
        targets = [s[1:] for channel, segments in cut if channel == name for s in segments if len(s) > 1]
        assert plan["held_out"]["documents"][name] == len({corpus.of_token[s[0]] for s in targets})
        assert plan["held_out"]["supervised"][name] == sum(map(len, targets))
        assert plan["held_out"]["rows"][name] == len(lines)


def test_held_out_windows_lie_anywhere_in_their_documents() -> None:
    corpus = Corpus([[*[("a", 90, True)] * 400, ("a", 400, False)]])
    spec = make_spec(("a",), SEQUENCE * ROWS, evaluated=400 * (SEQUENCE + 1))
    segments = [s for _, segments in corpus.rows(corpus.build(spec), spec, "held_out") for s in segments]
    places = Counter(corpus.documents[corpus.of_token[s[0]]][2].index(s[0]) // 9 for s in segments if len(s) > 1)
    assert len(places) == 10
    assert max(places.values()) < 2 * min(places.values())


def test_a_document_to_train_on_without_a_channel_is_an_error_that_names_it() -> None:
    corpus = Corpus([[("a", 400, False), ("z", 5, False)]])
    with pytest.raises(ValueError, match=r"tokens/test/0\.arrow: document 1 .* channel is z"):
        corpus.build(make_spec(("a", "b"), 10 * SEQUENCE * ROWS))


def test_rows_span_several_files_and_can_be_written_out_and_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_plan, "FILE_TOKENS", 50 * (SEQUENCE + 1))
    corpus = mixed_corpus()
    phases = [{"until": 0.5, "weights": WEIGHTS}, {"until": 1, "weights": WEIGHTS}]
    spec = make_spec(("a", "b", "c"), 90 * SEQUENCE * ROWS, phases=phases, shards="rows")
    plan = corpus.build(spec)
    folder = plan_folder(spec, plan["digest"])
    materialise(corpus.store, folder)
    rows = corpus.rows(plan, spec)
    content = orjson.loads(corpus.store.read(f"{folder}/tokens.json"))["content"]
    assert sorted(content) == [f"tokens-{p}-{n:05d}.arrow" for p in (0, 1) for n in range(4)]
    written = [
        r for n in sorted(content) for r in pa.ipc.open_file(corpus.store.open(f"{folder}/{n}")).read_all().to_pylist()
    ]
    assert [r["tokens"] for r in written] == [[t for s in segments for t in s] for _, segments in rows]
    for step in (0, 12, 44, 45, 89):
        found = step_documents(corpus.store, folder, step).to_pylist()
        expected = [
            (place, channel, corpus.of_token[segment[0]], len(segment))
            for place, (channel, segments) in enumerate(rows[step * ROWS : (step + 1) * ROWS])
            for segment in segments
        ]
        number = {"tokens/test/0.arrow": 0, "tokens/test/2.arrow": 150}
        assert [(f["row"], f["channel"], number[f["file"]] + f["position"], f["length"]) for f in found] == expected
    with pytest.raises(ValueError, match="steps 0 to 89, not 90"):
        step_documents(corpus.store, folder, 90)


def test_the_realised_share_is_said_beside_the_target() -> None:
    corpus = mixed_corpus()
    spec = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS, phases=[{"until": 1, "weights": WEIGHTS}])
    plan = corpus.build(spec)
    on_disk = corpus.store.json(f"{plan_folder(spec, plan['digest'])}/plan.json")
    assert on_disk == plan
    channels = plan["phases"][0]["channels"]
    assert {name: facts["target"] for name, facts in channels.items()} == WEIGHTS
    assert all(abs(facts["share"] - facts["target"]) * 400 < 1 for facts in channels.values())
    assert sum(facts["rows"] for facts in channels.values()) == plan["phases"][0]["rows"] == 400


def test_a_plans_rows_change_only_with_the_version() -> None:
    corpus = mixed_corpus()
    phases = [{"until": 0.5, "weights": WEIGHTS}, {"until": 1, "weights": WEIGHTS, "where": "good"}]
    spec = make_spec(("a", "b", "c"), 100 * SEQUENCE * ROWS, phases=phases)
    folder = plan_folder(spec, corpus.build(spec)["digest"])
    names = ("rows-0-00000.arrow", "rows-1-00000.arrow", "held_out.arrow")
    tables = [pa.ipc.open_file(corpus.store.open(f"{folder}/{name}")).read_all() for name in names]
    check_golden("run_plan", run_plan.VERSION, pa.concat_tables(tables))


def test_the_key_tells_budgets_apart_whose_phases_of_other_batches_have_as_many_steps_together() -> None:
    batch = SEQUENCE * ROWS
    phases = [{"until": 0.5, "weights": WEIGHTS, "batch": 4 * batch}, {"until": 1, "weights": WEIGHTS}]
    specs = [make_spec(tuple(WEIGHTS), steps * batch, phases=phases) for steps in range(20, 60)]
    known: dict[str, list[int]] = {}
    for spec in specs:
        steps = [shape.steps for shape in spec.shapes]
        assert known.setdefault(plan_key(spec, VOCABULARY, []), steps) == steps
    assert len({spec.steps for spec in specs}) < len(known)


def test_losses_by_a_column_keep_no_value_and_a_value_called_none_apart() -> None:
    values = Values()
    numbers = values.numbered(pa.chunked_array([["none", None, "en"], [None, "none", "'none'"]], pa.string()))
    assert [list(values.number)[number] for number in numbers] == ["'none'", "none", "en", "none", "'none'", "''none''"]
    assert values.numbered(pa.chunked_array([], pa.string())).tolist() == []
