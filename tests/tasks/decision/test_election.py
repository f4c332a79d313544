"""The election of one large cluster, whose columns are read block by block, against one that holds it all."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS
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


def answered(found: election.Removed) -> dict[int, tuple[int, float]]:
    return {row: (by, score) for row, by, score in zip(*(each.tolist() for each in found), strict=True)}


@pytest.mark.parametrize("block", [1, 3, 64, 1 << 16])
@pytest.mark.parametrize("older", [0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_survivors_are_the_same_however_few_documents_are_read_at_a_time(monkeypatch, block, older, seed):
    monkeypatch.setattr(election, "BLOCK", block)
    rows = cluster(150, seed, older)
    for chunks in (rows, pa.concat_tables([rows[:40], rows[40:41], rows[41:]])):
        found = answered(election.elected(chunks, chunks["passes"].to_numpy(), PREFERRED))
        assert found == plainly(rows)
    assert len(found) > 30


@pytest.mark.parametrize("block", [2, 1 << 16])
def test_held_out_documents_that_an_older_one_is_alike_to_are_seen(monkeypatch, block):
    monkeypatch.setattr(election, "BLOCK", block)
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
    found = answered(election.seen(rows))
    for row, each in enumerate(documents):
        if each["held_out"]:
            others = near[row] | firsts[text[row]]
            assert (row in found) == bool(others), row
            assert row not in found or found[row][0] in others
    assert 10 < len(found) < sum(each["held_out"] for each in documents)


def test_a_cluster_takes_little_memory_beside_its_rows(monkeypatch):
    """What is held while a cluster is elected grows by less than 110 bytes a document that lists four others."""
    monkeypatch.setattr(election, "BLOCK", 1 << 10)
    count, each = 40_000, 4
    numbers = np.arange(count)
    other = (numbers[:, None] + np.array([1, -1, 500, -500])) % count
    place = [pa.array(np.array([7, 9], np.uint64)[other.ravel() % 2]), pa.array((other.ravel() // 2).astype(np.uint32))]
    partners = pa.StructArray.from_arrays(
        [*place, pa.array(np.full(other.size, 0.9, np.float32))], fields=list(SIMILAR_ADDRESS)
    )
    rows = pa.table(
        {
            "id": pa.array([each.to_bytes(16, "big") for each in range(count)], pa.binary(16)),
            "copy_of": pa.nulls(count, ADDRESS),
            "alike": pa.ListArray.from_arrays(np.arange(0, each * count + 1, each, dtype=np.int32), partners),
            "hub": np.zeros(count, bool),
            "quality": (numbers * 7919 % count).astype(np.float32),
            "shard": np.array([7, 9], np.uint64)[numbers % 2],
            "position": (numbers // 2).astype(np.uint32),
        }
    )
    eligible, before = np.ones(count, bool), pa.total_allocated_bytes()
    election.elected(rows, eligible, PREFERRED[:1])
    tracemalloc.start()
    removed, _, _ = election.elected(rows, eligible, PREFERRED[:1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pa.total_allocated_bytes() == before
    assert 0.5 < len(removed) / count < 0.9
    assert peak / count < 110
