"""Best-fit packing against a loop, and plans whose rows are packed so."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.mixture import Curriculum
from tasks.planning.best_fit import best_fit, pack, pieces
from tasks.planning.mixture import Stream
from tasks.planning.objectives import RowShape
from tasks.planning.run_plan import build, plan_folder
from tasks.planning.trace import usage
from tests.tasks.planning.test_run_plan import ROWS, SEQUENCE, VOCABULARY, Corpus, make_spec
from training.rows import IGNORED, Plan, Rows

KEY = "0" * 32
WEIGHTS = {"a": 1, "b": 0.001}


def by_loop(lengths: list[int], width: int) -> list[int]:
    """Room that is left in each row, the longest piece first, each into the fullest row that it fits into."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - length)
        else:
            rooms.append(width - length)
    return sorted(rooms)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 40), st.data())
def test_rows_are_as_full_as_those_of_a_loop(width: int, data: Any) -> None:
    lengths = data.draw(st.lists(st.integers(1, width), max_size=60))
    rows = best_fit(np.array(lengths, np.int64), width)
    filled = Counter[int]()
    for row, length in zip(rows.tolist(), lengths, strict=True):
        filled[row] += length
    assert sorted(width - each for each in filled.values()) == by_loop(lengths, width)
    assert sorted(filled) == list(range(len(filled)))


@pytest.mark.parametrize("last", ["best_fit", "end_to_end"])
def test_a_document_of_which_no_row_holds_a_piece_does_not_count_as_used(last: str) -> None:
    lengths = [2 + 7 * number % 13 for number in range(120)]
    corpus = Corpus([[("ab"[number % 2], length, False) for number, length in enumerate(lengths)]])
    phases = [
        {"until": end, "weights": {"a": 0.6, "b": 0.4}, "packing": each} for end, each in ((0.5, "best_fit"), (1, last))
    ]
    spec = make_spec(("a", "b"), 14 * ROWS * SEQUENCE, phases=phases, epochs={"default": 1})
    plan = build(spec, VOCABULARY, KEY, corpus.shards, corpus.store)
    rows = corpus.rows(plan, spec)
    held = {corpus.of_token[segment[0]] for _, segments in rows for segment in segments}
    table = usage(corpus.store, plan_folder(spec, KEY))
    used = {number: row["uses"] for number, row in zip(_in_order(corpus), table.to_pylist(), strict=True)}
    assert {number for number, uses in used.items() if uses} == held
    for place, name in enumerate(plan["channels"]):
        mine = [uses for number, uses in used.items() if number % 2 == place]
        assert plan["usage"][name]["counts"] == {str(uses): count for uses, count in sorted(Counter(mine).items())}


@pytest.mark.parametrize("packing", [*itertools.product(["best_fit", "end_to_end"], repeat=3)])
def test_tokens_used_are_those_that_rows_hold_also_where_a_phase_goes_on_with_a_document(
    packing: tuple[str, ...],
) -> None:
    rng = np.random.default_rng(5)
    corpus = Corpus([[("ab"[number % 2], int(rng.integers(2, 40)), False) for number in range(200)]])
    for seed in range(10):
        ends = (*np.sort(rng.choice(np.arange(2, 10), 2, replace=False) / 10).tolist(), 1)
        phases = [
            {"until": end, "weights": {"a": 0.6, "b": 0.4}, "packing": each, "where": where}
            for end, each, where in zip(ends, packing, (None, "x", None) if seed % 2 else (None,) * 3, strict=True)
        ]
        spec = make_spec(("a", "b"), 20 * ROWS * SEQUENCE, phases=phases, epochs={"default": 1})
        plan = build(spec, VOCABULARY, f"{seed:032}", corpus.shards, corpus.store)
        held: dict[str, set[int]] = {"a": set(), "b": set()}
        for channel, segments in corpus.rows(plan, spec):
            held[channel].update(*segments)
        assert {name: usage["used"] for name, usage in plan["usage"].items()} == {
            name: len(tokens) for name, tokens in held.items()
        }


def _in_order(corpus: Corpus) -> list[int]:
    """Documents as a table of usage has them: channel by channel."""
    return sorted(corpus.documents, key=lambda number: (corpus.documents[number][0], number))


def test_a_channel_without_a_row_in_a_phase_leaves_nothing_empty_and_discards_nothing_there() -> None:
    corpus = Corpus([[("ab"[number % 2], 10, False) for number in range(80)]])
    spec = make_spec(("a", "b"), 5 * ROWS * SEQUENCE, packing="best_fit", phases=[{"until": 1, "weights": WEIGHTS}])
    phase = build(spec, VOCABULARY, KEY, corpus.shards, corpus.store)["phases"][0]
    found = phase["channels"]["b"]
    assert (found["rows"], found["supervised"], found["padding"], found["discarded"]) == (0, 0, 0, 0)
    assert phase["channels"]["a"]["rows"] == 5 * ROWS


@pytest.mark.parametrize("shape", [RowShape(5, 1), RowShape(5, 0)])
def test_every_token_of_a_long_document_is_in_a_piece_and_a_target_once(shape: RowShape) -> None:
    for length in range(1, 40):
        part, start, size = pieces(np.array([length]), shape)
        assert (part == 0).all()
        assert size.max() <= 5
        assert (start[0], start[-1] + size[-1]) == (0, length)
        assert all(
            second == first + each - shape.overlap for first, each, second in zip(start, size, start[1:], strict=False)
        )
        targets = [at + place for at, each in zip(start, size, strict=True) for place in range(shape.overlap, each)]
        assert sorted(targets) == list(range(shape.overlap, length))


def stream(lengths: list[int]) -> Stream:
    many = np.arange(len(lengths))
    return Stream(many, np.zeros_like(many), np.array(lengths, np.int64), np.ones_like(many))


def test_padding_and_what_is_discarded_are_counted() -> None:
    packed = pack(stream([4, 4, 3, 2, 2, 12]), 4, RowShape(5, 1))
    assert (packed.padding, packed.discarded) == (1, 9)  # 5, 5, 3 + 2 and 4; the others are 4, 4 and 2
    assert packed.length.sum() == 4 * 5 - packed.padding
    whole = pack(stream([5, 5, 5]), 3, RowShape(5, 1))
    assert (whole.padding, whole.discarded) == (0, 0)


def test_a_plan_of_whole_documents_keeps_them_whole_and_says_what_it_left_out() -> None:
    rng = np.random.default_rng(0)
    documents = [(("a", "b")[number % 2], int(rng.integers(2, 15)), number % 20 == 0) for number in range(400)]
    corpus = Corpus([documents[:200], documents[200:]])
    spec = make_spec(("a", "b"), SEQUENCE * ROWS * 20, packing="best_fit")
    plan = build(spec, VOCABULARY, KEY, corpus.shards, corpus.store)
    rows = Rows(corpus.store, Plan.read(corpus.store, plan_folder(spec, KEY)), 0)
    width, seen, tokens = SEQUENCE + 1, Counter[int](), 0
    table = rows.columns(0, len(rows))
    for row in table.to_pylist():
        assert sum(row["length"]) <= width
        tokens += sum(row["length"])
    batch = rows.batch(0, len(rows))
    labels = batch.labels[batch.labels != IGNORED].tolist()
    seen.update(labels)
    assert max(seen.values()) == 1  # one epoch is not over
    said = plan["phases"][0]["channels"]
    assert sum(each["padding"] for each in said.values()) == len(rows) * width - tokens
    assert sum(each["supervised"] for each in said.values()) == len(labels) == plan["supervised"]
    cut = 0
    for number, (_, held, values) in corpus.documents.items():
        read = [value in seen for value in values[1:]]
        if not held and 1 < len(values) <= width and any(read):
            cut += not all(read)
            assert number >= 0
    assert cut <= 2  # but for the last document of each channel
    used = sum(each["used"] for each in plan["usage"].values())
    begun = sum(each["counts"].get("1", 0) for each in plan["usage"].values())
    assert abs(used - len(labels) - begun) <= sum(each["discarded"] for each in said.values()) + 2 * begun
    assert "padding" not in build(make_spec(("a", "b"), SEQUENCE * ROWS * 20), VOCABULARY, "1" * 32, corpus.shards,
                                  corpus.store)["phases"][0]["channels"]["a"]  # fmt: skip


def test_real_lengths_leave_less_than_one_in_a_hundred_empty(shared: Path) -> None:
    lengths: list[int] = []
    with gzip.open(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", "rt") as lines:
        lengths = [len(json.loads(line)["text"]) // 4 + 2 for line in lines]
    rows = sum(lengths) // 2049 - 20
    packed = pack(stream(lengths), rows, RowShape(2049, 1))
    assert packed.padding < 0.01 * rows * 2049
    assert packed.discarded < 0.01 * sum(lengths)
    part, _, _ = pieces(np.array(lengths), RowShape(2049, 1))
    assert len(part) > len(lengths)


def test_rows_written_out_are_not_packed_by_best_fit() -> None:
    with pytest.raises(ValueError, match="rows that are packed by best_fit are of many lengths"):
        make_spec(("a",), SEQUENCE * ROWS * 20, packing="best_fit", shards="rows")


def test_a_curriculum_goes_from_one_end_of_a_column_to_the_other_in_every_channel() -> None:
    documents = [(("a", "b")[number % 2], 9, False) for number in range(400)]
    corpus = Corpus([documents])
    hardness = np.random.default_rng(1).permutation(400).astype(float)
    hardness[7] = np.nan
    shards = [(path, table.append_column("order_0", [hardness])) for path, table in corpus.shards]
    phase = {"until": 1.0, "weights": {"a": 0.75, "b": 0.25}}
    for descending in (False, True):
        order = Curriculum(by="quality", bins=4, descending=descending)
        spec = make_spec(("a", "b"), SEQUENCE * ROWS * 25, phases=[phase | {"order": order}])
        build(spec, VOCABULARY, KEY[:-1] + str(int(descending)), shards, corpus.store)
        read = Plan.read(corpus.store, plan_folder(spec, KEY[:-1] + str(int(descending))))
        assert read.steps == 25
        found = Rows(corpus.store, read, 0)
        means = []
        for name in (0, 1):
            values = []
            for step in range(25):
                batch = found.batch(step * ROWS, ROWS)
                mine = batch.channels == name
                labels = batch.labels[mine]
                values.append([hardness[corpus.of_token[value]] for value in labels[labels != IGNORED].tolist()])
            quarters = [np.nanmean([*chain(*values[at : at + 6])]) for at in (0, 6, 12, 18)]
            means.append(quarters)
            assert all((first > second) == descending for first, second in pairwise(quarters))
        counts = [Counter(found.batch(step * ROWS, ROWS).channels.tolist())[0] for step in range(25)]
        assert set(counts) == {3}  # channels stay even
    again = make_spec(("a", "b"), SEQUENCE * ROWS * 25, phases=[phase | {"order": order, "packing": "best_fit"}])
    build(again, VOCABULARY, "2" * 32, shards, corpus.store)
