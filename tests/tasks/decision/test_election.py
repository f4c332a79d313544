"""The election of one large cluster, which is never held as a whole, against one that holds it all."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.arrays import external
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS, addresses
from tasks.decision import election
from tasks.decision.verdict import Verdict
from tests.corpus_runner import number

SCHEMA = pa.schema([*Verdict((), ("quality", "length")).shuffled, ("shard", pa.uint64())])
PREFERRED = [("quality", "descending"), ("text_length", "descending")]


def address(document: int) -> dict[str, Any]:
    return {"shard": number(document % 3), "position": document // 3}


def cluster(documents: int, seed: int, older: float = 0, held_out: float = 0) -> pa.Table:
    """Documents of one cluster: chains, copies, hubs, equal preferences, and some that fail a rule; a share of `older`
    ones, which list only each other."""
    chance = random.Random(seed)
    first = [chance.randrange(each) if each and chance.random() < 0.3 else each for each in range(documents)]
    for each in range(documents):
        first[each] = first[first[each]]
    old = [chance.random() < older for _ in range(documents)]
    alike: list[dict[int, float]] = [{} for _ in range(documents)]
    for _ in range(2 * documents):
        one, other = (first[chance.randrange(documents)] for _ in range(2))
        if one != other:
            score = alike[other].get(one, chance.choice([0.8125, 0.875, 0.9375]))
            for each, partner in ((one, other), (other, one)):
                if not old[each] or old[partner]:
                    alike[each][partner] = score
    rows = [
        address(each)
        | {
            "id": None if old[each] else chance.randbytes(16),
            "cluster": 1,
            "copy_of": None if first[each] == each else address(first[each]),
            "alike": [address(other) | {"similarity": score} for other, score in alike[each].items()] or None,
            "hub": chance.random() < 0.1,
            "held_out": not old[each] and chance.random() < held_out,
            "passes": chance.random() < 0.8,
            "quality": chance.choice([None, 0.25, 0.5, 0.75]),
            "text_length": chance.randrange(3),
        }
        for each in range(documents)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def plainly(rows: pa.Table) -> dict[int, tuple[int, float]]:
    """Removed row -> the row that survives in its place, and their similarity; by the rule as it is written, with all
    rows in dictionaries."""
    documents = rows.to_pylist()
    key = lambda each: (each["shard"], each["position"])  # noqa: E731
    texts = [key(each["copy_of"] or each) for each in documents]
    partners: dict[Any, dict[Any, float]] = {text: {} for text in texts}
    for text, each in zip(texts, documents, strict=True):
        for other in each["alike"] or ():
            if key(other) in partners:
                partners[text][key(other)] = partners[key(other)][text] = other["similarity"]
    hubs = {text for text, each in zip(texts, documents, strict=True) if each["hub"]}
    order = sorted(
        (row for row, each in enumerate(documents) if each["passes"]),
        key=lambda row: (
            documents[row]["id"] is not None,
            texts[row] not in hubs,
            -(documents[row]["quality"] or 0),
            -documents[row]["text_length"],
            documents[row]["id"] or b"",
        ),
    )
    survivor: dict[Any, tuple[int, float]] = {}
    removed = {}
    for row in order:
        if texts[row] in survivor and documents[row]["id"] is not None:
            removed[row] = survivor[texts[row]]
            continue
        survivor[texts[row]] = row, 1.0
        for other, similarity in partners[texts[row]].items():
            survivor.setdefault(other, (row, similarity))
    return removed


def elect(rows: pa.Table) -> election.Election:
    made = election.Election(PREFERRED)
    for batch in rows.to_batches():
        made.add(batch)
    return made


def answered(made: election.Election, rows: pa.Table, found: Iterable[pa.Table]) -> dict[int, tuple[int, float]]:
    """Removed row -> the row that survives in its place, and their similarity."""
    shard, position = (rows[name].to_pylist() for name in ("shard", "position"))
    row_at = {place: row for row, place in enumerate(zip(shard, position, strict=True))}

    def numbers(documents: pa.ChunkedArray) -> list[int]:
        shards, positions = made.addresses(documents.to_numpy())
        return [row_at[place] for place in zip(shards.tolist(), positions.tolist(), strict=True)]

    answer: dict[int, tuple[int, float]] = {}
    for each in found:
        others = zip(numbers(each["survivor"]), each["similarity"].to_pylist(), strict=True)
        answer |= dict(zip(numbers(each["address"]), others, strict=True))
        assert numbers(each["address"]) == each["number"].to_pylist()
    return answer


def little(monkeypatch: pytest.MonkeyPatch, held: int, block: int) -> None:
    """So many bytes are sorted at once, and so many rows read."""
    monkeypatch.setattr(external, "HELD", held)
    monkeypatch.setattr(external, "BLOCK", block)


def passing(rows: pa.Table) -> np.ndarray:
    return rows["passes"].to_numpy()


SIZES = [(1000, 7), (10_000, 64), (external.HELD, external.BLOCK)]
"""Bytes that are sorted at once, and rows that are read at a time: some dozen of 150, half of them, all of them."""


@pytest.mark.parametrize(("held", "block"), SIZES)
@pytest.mark.parametrize("older", [0, 0.3])
@pytest.mark.parametrize("seed", range(2))
def test_survivors_are_the_same_however_little_is_held_at_a_time(monkeypatch, held, block, older, seed):
    little(monkeypatch, held, block)
    rows = cluster(150, seed, older)
    for chunks in (rows, pa.concat_tables([rows[:40], rows[40:41], rows[41:]])):
        made = elect(chunks)
        found = answered(made, chunks, made.duplicates(passing))
        assert found == plainly(rows)
    assert len(found) > 30


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0, 0.2, 0.5]), st.sampled_from([(1, 1), (99, 3)]))
def test_survivors_are_those_of_the_rule_as_it_is_written(monkeypatch, documents, seed, older, sizes):
    little(monkeypatch, *sizes)
    rows = cluster(documents, seed, older)
    made = elect(rows)
    assert answered(made, rows, made.duplicates(passing)) == plainly(rows)


def test_an_older_document_that_is_named_often_survives_in_the_place_of_all_that_name_it(monkeypatch):
    """It has a row for each that names it."""
    little(monkeypatch, 100, 2)
    every = {"cluster": 1, "hub": False, "held_out": False, "passes": True, "text_length": 1}
    older = [every | address(9) | {"alike": [address(each) | {"similarity": 0.5 + each / 8}]} for each in range(3)]
    newer = [every | address(each) | {"id": bytes([each] * 16)} for each in range(4)]
    made = elect(pa.Table.from_pylist([*older, *newer], SCHEMA))
    found = [each for rows in made.duplicates(passing) for each in rows.to_pylist()]
    assert {(each["number"], each["similarity"]) for each in found} == {(3, 0.5), (4, 0.625), (5, 0.75)}
    assert len({each["survivor"] for each in found}) == 1


@pytest.mark.parametrize(("held", "block"), SIZES)
def test_held_out_documents_that_an_older_one_is_alike_to_are_seen(monkeypatch, held, block):
    little(monkeypatch, held, block)
    rows = cluster(150, 1, older=0.3, held_out=0.5)
    documents = rows.to_pylist()
    kept = {row for row, each in enumerate(documents) if each["id"] is None and each["passes"]}
    text = [tuple((each["copy_of"] or each)[name] for name in ("shard", "position")) for each in documents]
    lists = [{(other["shard"], other["position"]) for other in each["alike"] or ()} for each in documents]
    near = [
        {other for other in kept if text[other] == text[row] or text[other] in mine or text[row] in lists[other]}
        for row, mine in enumerate(lists)
    ]
    firsts = {text[row]: near[row] for row in range(150) if documents[row]["copy_of"] is None}
    made = elect(rows)
    found = answered(made, rows, made.seen())
    for row, each in enumerate(documents):
        if each["held_out"]:
            others = near[row] | firsts[text[row]]
            assert (row in found) == bool(others), row
            assert row not in found or found[row][0] in others
    assert 10 < len(found) < sum(each["held_out"] for each in documents)


POOLS: list[pa.MemoryPool] = []
"""Which outlive what they gave."""


@pytest.mark.parametrize("shape", ["pairs", "star", "copies"])
def test_memory_does_not_grow_with_a_cluster(monkeypatch, shape):
    """Four times as many documents of one cluster take as much: what is held at once, a few times."""
    little(monkeypatch, 2**18, 2**11)

    def peak(count: int) -> float:
        POOLS.append(pool := pa.proxy_memory_pool(pa.default_memory_pool()))
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            removed = sum(map(len, Verdict((), ("quality",)).reduce_blocks(blocks(count, shape))))
            return (tracemalloc.get_traced_memory()[1] + pool.max_memory()) / external.HELD
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(pa.default_memory_pool())
            assert removed > count / 2

    few, many = peak(15_000), peak(60_000)
    assert many < 1.2 * few
    assert many < 12


def blocks(count: int, shape: str) -> Iterator[pa.RecordBatch]:
    """One cluster: each document alike to six others, all to one older one, or all copies of one."""
    shard = np.array([7, 9], np.uint64)

    def named(number: int) -> bytes | None:
        return None if shape == "star" and not number else number.to_bytes(16, "big")

    for start in range(0, count, 1000):
        numbers = np.arange(start, start + 1000)
        other = (numbers[:, None] + np.array([1, -1, 500, -500, 7000, -7000])) % count
        if shape != "pairs":
            other = numbers[:, None] // count if shape == "star" else other[:, :0]
        pairs = pa.StructArray.from_arrays(
            [shard[other.ravel() % 2], (other.ravel() // 2).astype(np.uint32), np.full(other.size, 0.9, np.float32)],
            fields=list(SIMILAR_ADDRESS),
        )
        copies = addresses(np.full(1000, shard[0]), np.zeros(1000, np.uint32))
        known = {
            "id": pa.array([named(each) for each in numbers.tolist()], pa.binary(16)),
            "cluster": np.zeros(1000, np.uint64),
            "copy_of": copies if shape == "copies" else pa.nulls(1000, ADDRESS),
            "alike": pa.ListArray.from_arrays(np.arange(0, other.size + 1, other.shape[1] or 1, dtype=np.int32), pairs)
            if other.size
            else pa.nulls(1000, pa.list_(SIMILAR_ADDRESS)),
            "hub": np.zeros(1000, bool),
            "held_out": np.zeros(1000, bool),
            "passes": np.ones(1000, bool),
            "quality": (numbers * 7919 % count).astype(np.float32),
            "shard": shard[numbers % 2],
            "position": (numbers // 2).astype(np.uint32),
        }
        yield pa.record_batch(known)
