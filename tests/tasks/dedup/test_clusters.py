"""Clusters are what edges connect, in rounds as in one reduction, against scipy."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_specs.dedup import Duplicates
from tasks.arrays.hashing import seeded_hash
from tasks.dedup.clusters import Clusters
from tasks.dedup.duplicates import Exact
from tasks.dedup.pairs import AlikePairs
from tests.corpus_runner import number, run


def edges(pairs: list[tuple[int, int]], nodes: int, shards: int) -> list[pa.Table]:
    """Documents dealt in turn to shards, with the documents that they are alike to."""
    one, other = np.array([*pairs, *((b, a) for a, b in pairs)], np.int64).reshape(-1, 2).T
    shard = np.array([number(each) for each in range(shards)], np.uint64)[other % shards]
    found = pa.StructArray.from_arrays(
        [shard, (other // shards).astype(np.uint32), np.ones(len(other), np.float32)],
        fields=list(AlikePairs.writes.field("alike").type.value_type),
    )
    order = np.lexsort((other, one))
    offsets = np.searchsorted(one[order], np.arange(nodes + 1)).astype(np.int32)
    alike = pa.ListArray.from_arrays(offsets, found.take(order), mask=pa.array(np.diff(offsets) == 0))
    schema = pa.schema([Exact.writes.field("copy_of"), AlikePairs.writes.field("alike")])
    return [
        pa.table([pa.nulls(len(alike[each::shards]), schema.types[0]), alike[each::shards]], schema=schema)
        for each in range(shards)
    ]


def clusters(stage: Clusters, pairs: list[tuple[int, int]], nodes: int, shards: int) -> list[int | None]:
    """The cluster of each document."""
    columns = [result["cluster"].to_pylist() for result in run(stage, edges(pairs, nodes, shards))]
    return [columns[each % shards][each // shards] for each in range(nodes)]


def connected(pairs: list[tuple[int, int]], nodes: int, shards: int) -> list[int | None]:
    """The cluster of each document, by scipy."""
    graph = coo_array((np.ones(len(pairs)), tuple(np.array(pairs, int).reshape(-1, 2).T)), (nodes, nodes))
    _, label = connected_components(graph, directed=False)
    first: dict[int, tuple[int, int]] = {}
    for each, found in enumerate(label.tolist()):
        address = number(each % shards), each // shards
        first[found] = min(first.get(found, address), address)
    position = {found: seeded_hash(np.array([at], np.uint64), "position") for found, (_, at) in first.items()}
    name = {
        found: seeded_hash(np.array([shard], np.uint64) + position[found], "cluster").item()
        for found, (shard, _) in first.items()
    }
    size = np.bincount(label)
    return [name[found] if size[found] > 1 else None for found in label.tolist()]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 9),
    st.sampled_from([1, 5, 1000]),
)
def test_clusters_are_what_edges_connect_whatever_shards_partitions_and_rounds(
    pairs, shards, partitions, rows_per_reduce
):
    pairs = [(a, b) for a, b in pairs if a != b]
    stage = Clusters(Duplicates(partitions=partitions))
    stage.rows_per_reduce = rows_per_reduce
    assert clusters(stage, pairs, 31, shards) == connected(pairs, 31, shards)


def shape(name: str, count: int) -> list[tuple[int, int]]:
    chance = random.Random(name)
    numbers = chance.sample(range(count), count)
    match name:
        case "chain in order":
            return [*itertools.pairwise(range(count))]
        case "chain":
            return [*itertools.pairwise(numbers)]
        case "ring in order":
            return [*itertools.pairwise([*range(count), 0])]
        case "star around the first":
            return [(0, each) for each in range(1, count)]
        case "star around the last":
            return [(each, count - 1) for each in range(count - 1)]
        case "tree":
            return [(numbers[each], numbers[chance.randrange(each)]) for each in range(1, count)]
        case _:
            return [
                (a, b) for _ in range(count // 2) if (a := chance.randrange(count)) != (b := chance.randrange(count))
            ]


SHAPES = {
    "chain in order": 15,
    "chain": 15,
    "ring in order": 15,
    "star around the first": 3,
    "star around the last": 3,
    "tree": 12,
    "random, on the brink of one giant": 12,
}


@pytest.mark.parametrize("name", SHAPES)
def test_rounds_are_few_and_no_cluster_crowds_a_reduction(name):
    """Of a graph of 3,000 documents in 16 partitions: a reduction reads up to two rows for each of its documents, and
    what is on its way to others in the meantime."""
    pairs = shape(name, 3000)
    read: list[int] = []

    class Watched(Clusters):
        def iterate(self, rows, partition_range):
            read.extend([rows.num_rows] * (len(partition_range) > 0))
            return super().iterate(rows, partition_range)

    stage = Watched(Duplicates(partitions=16))
    stage.rows_per_reduce = 1
    assert clusters(stage, pairs, 3000, 40) == connected(pairs, 3000, 40)
    rounds, share = len(read) // 16, 3000 / 16
    assert rounds <= SHAPES[name]
    assert max(read) < (3 if "star" in name else 6) * share
    assert max(read[-16:]) < 2 * share
