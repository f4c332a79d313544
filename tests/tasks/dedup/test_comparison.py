"""Documents that share a leader, against all pairs by brute force, however little is held."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.arrays import external
from tasks.arrays.hashing import seeded_hash
from tasks.dedup import comparison
from tasks.dedup.comparison import alike

LEADERS, SHINGLES = st.sets(st.integers(0, 5), min_size=1), st.sets(st.integers(0, 9), min_size=1)
Document = tuple[set[int], set[int]]
Pair = tuple[tuple[int, int], tuple[int, int], np.float32, bool]


def rows(documents: list[Document]) -> pa.Table:
    """Documents in shards of three."""
    number = np.arange(len(documents))
    lists = pa.list_(pa.uint64())
    return pa.table(
        {
            "shard": (number // 3).astype(np.uint64) + np.uint64(2**63),
            "position": (number % 3).astype(np.uint32),
            "leaders": pa.array([sorted(leaders) for leaders, _ in documents], lists),
            "shingles": pa.array([sorted(shingles) for _, shingles in documents], lists),
        }
    )


def by_brute_force(documents: list[Document], least: float, hubs: int) -> Counter[Pair]:
    found: Counter[Pair] = Counter()
    content = [int(seeded_hash(np.array([sum(shingles)], np.uint64), "content")[0]) for _, shingles in documents]
    place = [(2**63 + each // 3, each % 3) for each in range(len(documents))]
    for leader in range(6):
        group = sorted(
            (each for each, (leaders, _) in enumerate(documents) if leader in leaders), key=content.__getitem__
        )
        for rank, one in enumerate(group[:hubs]):
            for other in group[rank + 1 :]:
                shared = len(documents[one][1] & documents[other][1])
                similarity = shared / len(documents[one][1] | documents[other][1])
                if similarity >= least:
                    found[place[one], place[other], np.float32(similarity), len(group) > hubs] += 1
                    found[place[other], place[one], np.float32(similarity), False] += 1
    return found


def pairs(found: pa.Table) -> list[Pair]:
    return [
        (
            (row["shard"], row["position"]),
            (row["other"]["shard"], row["other"]["position"]),
            np.float32(row["other"]["similarity"]),
            row["hub"],
        )
        for row in found.to_pylist()
    ]


@pytest.mark.parametrize(("held", "block", "at_once"), [(1, 1, 1), (300, 5, 20), (2**25, 2**16, 2**20)])
@settings(max_examples=40, deadline=None)
@given(documents=st.lists(st.tuples(LEADERS, SHINGLES), max_size=30), least=st.sampled_from([0.3, 0.5, 0.8]))
def test_pairs_are_those_of_brute_force_by_shard_and_position_however_little_is_held(
    held: int, block: int, at_once: int, documents: list[Document], least: float
) -> None:
    for hubs in (2, 5, 64):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(external, "HELD", held)
            patched.setattr(external, "BLOCK", block)
            patched.setattr(comparison, "AT_ONCE", at_once)
            patched.setattr(comparison, "HUBS", hubs)
            found = [each for part in alike(rows(documents).to_batches(7), least) for each in pairs(part)]
        assert [each[0] for each in found] == sorted(each[0] for each in found)
        assert Counter(found) == by_brute_force(documents, least, hubs)


def test_a_group_that_is_far_larger_than_what_is_held_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In many more parts than there are hubs, of which none has as many shingles as the group."""
    monkeypatch.setattr(external, "HELD", 2**12)
    monkeypatch.setattr(external, "BLOCK", 100)
    monkeypatch.setattr(comparison, "AT_ONCE", 500)
    monkeypatch.setattr(comparison, "HUBS", 4)
    chance = np.random.default_rng(3)
    common = range(40)
    documents: list[Document] = [({3}, {*common, *chance.integers(40, 10**6, 10).tolist()}) for _ in range(300)]
    largest = 0
    real: Any = np.concatenate

    def concatenate(parts: Any, *more: Any) -> Any:
        nonlocal largest
        found = real(parts, *more)
        largest = max(largest, len(found) if found.dtype == np.uint64 else 0)
        return found

    monkeypatch.setattr(comparison.np, "concatenate", concatenate)
    found = Counter(each for part in alike(rows(documents).to_batches(50), 0.5) for each in pairs(part))
    monkeypatch.undo()
    assert largest < 500 + 50
    assert found == by_brute_force(documents, 0.5, 4)
    assert len(found) == 2 * (4 * 3 // 2 + 4 * (300 - 4))
