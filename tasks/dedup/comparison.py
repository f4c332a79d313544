"""Documents that share a leader, as members of one bucket of LSH do, are compared, however many there are.

What is held does not grow with a group, nor with a partition: shingles lie in a file, where each document meets others
in rows that are sorted (tasks/arrays/external.py), and so lie the pairs that are found. Of a group the hubs are held,
the first `HUBS` by content, and the shingles of as many others as `AT_ONCE` says.

Beside the steps an example: the sets {1 2 3}, {2 3 4} and {3 9}, of which all are hubs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.arrays import external
from tasks.arrays.addresses import SIMILAR_ADDRESS, U64, arrays
from tasks.arrays.external import Sorted, numbers
from tasks.arrays.groups import I64, runs
from tasks.arrays.hashing import seeded_hash
from tasks.dedup.base import as_table
from tasks.dedup.duplicates import HUBS

AT_ONCE = 2**20
"""Shingles that are compared with hubs at once, or those of one document where it has more."""

Read = Callable[[int, int], U64]
"""So many shingles from a place on."""
Found = tuple[NDArray[np.float32], NDArray[np.bool_]]


class Members(NamedTuple):
    """Documents of a group: where they are, and where their shingles."""

    shard: U64
    position: NDArray[np.uint32]
    start: I64
    size: I64

    def part(self, chosen: slice | I64) -> Members:
        return Members(self.shard[chosen], self.position[chosen], self.start[chosen], self.size[chosen])

    def shingles(self, read: Read) -> U64:
        """Those of all of them, one after the other."""
        return np.concatenate([read(*each) for each in zip(self.start.tolist(), self.size.tolist(), strict=True)])


def alike(batches: Iterable[pa.RecordBatch], least: float) -> Iterator[pa.Table]:
    """Rows of `shard`, `position`, `leaders` and `shingles` -> the pairs of a similarity of at least `least` among
    those that share a leader, in both directions: `shard`, `position`, the `other` one, and whether the document is a
    `hub` to it; by shard and position."""
    meetings = Sorted(("leader", "ascending"), ("content", "ascending"))
    found = Sorted(("shard", "ascending"), ("position", "ascending"))
    with numbers(_entered(batches, meetings)) as read:
        for rows in _gathered(_pairs(_groups(meetings), read, least)):
            found.add(rows)
    return iter(found)


def _entered(batches: Iterable[pa.RecordBatch], meetings: Sorted) -> Iterator[U64]:
    """The shingles of each batch; whom its documents meet is noted."""
    place = 0
    for batch in batches:
        lists = batch["shingles"]
        shingles, size = lists.flatten().to_numpy(), lists.value_lengths().to_numpy().astype(np.int64)
        start = np.cumsum(size) - size
        content = seeded_hash(np.add.reduceat(shingles, start), "content") if len(start) else np.empty(0, np.uint64)
        member, leader = batch["leaders"].value_parent_indices().to_numpy(), batch["leaders"].flatten().to_numpy()
        known = {"shard": batch["shard"].to_numpy(), "position": batch["position"].to_numpy()}
        known |= {"content": content, "start": place + start, "size": size}
        columns = {name: column[member] for name, column in known.items()}
        meetings.add(pa.table({"leader": leader.copy(), **columns}))
        place += len(shingles)
        yield shingles


def _groups(meetings: Iterable[pa.Table]) -> Iterator[tuple[int, Members]]:
    """Each leader with those that share it, by content; large groups come in parts, of which the first has all hubs."""
    last: list[pa.Table] = []
    for rows in meetings:
        rows = pa.concat_tables([*last, rows])
        leader, *columns = arrays(rows, "leader", *Members._fields)
        members = Members(*columns)
        starts, ends = runs(leader)
        whole = len(starts) - (ends[-1] - starts[-1] <= HUBS)
        for start, end in zip(starts[:whole].tolist(), ends[:whole].tolist(), strict=True):
            yield int(leader[start]), members.part(slice(start, end))
        last = [rows.slice(starts[whole])] if whole < len(starts) else []
    for rows in last:
        yield rows["leader"][0].as_py(), Members(*arrays(rows, *Members._fields))


def _pairs(groups: Iterable[tuple[int, Members]], read: Read, least: float) -> Iterator[tuple[Members, Members, Found]]:
    """Pairs: documents, others, and how similar each is to the other and whether it is a hub to it."""
    known, hubs = None, None
    for leader, members in groups:
        if leader != known or hubs is None:
            known, hubs = leader, Hubs(members.part(slice(HUBS)), read, least, len(members.start) > HUBS)
            yield from hubs.pairs()
            members = members.part(slice(HUBS, None))
        members = members.part(np.argsort(members.start))  # as they lie in the file
        ends = np.cumsum(members.size)
        for start, end in zip(*runs((ends - 1) // AT_ONCE), strict=True):
            yield from hubs.pairs_with(members.part(slice(start, end)))


class Hubs:
    """The first of a group, with which all others of it are compared."""

    def __init__(self, members: Members, read: Read, least: float, crowded: bool) -> None:
        self.members, self.read, self.least, self.crowded = members, read, least, crowded
        self.distinct, self.shingle = np.unique(
            members.shingles(read), return_inverse=True
        )  # 1 2 3 4 9; 0 1 2 1 2 3 2 4
        self.ends = np.cumsum(members.size)  # 3 6 8
        self.starts = self.ends - members.size  # 0 3 6

    def pairs(self) -> Iterator[tuple[Members, Members, Found]]:
        """Those among hubs, of which one after the other is compared with all behind it."""
        for rank in range(len(self.starts) - 1):
            behind = self.members.part(slice(rank + 1, None))
            # 1 2 3 2 4: the shingles of those behind the first, which begin at 0 and 3
            yield from self._near(
                rank, behind, self.shingle[self.ends[rank] :], self.starts[rank + 1 :] - self.ends[rank]
            )

    def pairs_with(self, others: Members) -> Iterator[tuple[Members, Members, Found]]:
        values = others.shingles(self.read)
        place = np.searchsorted(self.distinct, values)
        place[self.distinct[np.minimum(place, len(self.distinct) - 1)] != values] = len(self.distinct)
        starts = np.cumsum(others.size) - others.size
        for rank in range(len(self.starts)):
            yield from self._near(rank, others, place, starts)

    def _near(self, rank: int, others: Members, shingle: I64, starts: I64) -> Iterator[tuple[Members, Members, Found]]:
        """Of some others, whose shingles begin at `starts`, those that a hub is alike to."""
        mine = np.zeros(len(self.distinct) + 1, bool)
        mine[self.shingle[self.starts[rank] : self.ends[rank]]] = True  # 1 1 1 0 0, and 0 for what no hub has
        shared = np.add.reduceat(mine[shingle], starts, dtype=np.int64)  # 2 1
        jaccard = shared / (self.members.size[rank] + others.size - shared)  # 2/4 1/4
        near = np.flatnonzero(jaccard >= self.least)
        if len(near):
            one, other = self.members.part(np.full(len(near), rank)), others.part(near)
            similarity = jaccard[near].astype(np.float32)
            yield one, other, (similarity, np.full(len(near), self.crowded))
            yield other, one, (similarity, np.zeros(len(near), bool))


def _gathered(pairs: Iterable[tuple[Members, Members, Found]]) -> Iterator[pa.Table]:
    """Pairs as rows, many at a time."""
    held: list[Sequence[NDArray[Any]]] = []
    count = 0
    for one, other, (similarity, hub) in pairs:
        held.append((one.shard, one.position, other.shard, other.position, similarity, hub))
        count += len(hub)
        if count >= external.BLOCK:
            yield _rows(held)
            held, count = [], 0
    if held:
        yield _rows(held)


def _rows(held: list[Sequence[NDArray[Any]]]) -> pa.Table:
    shard, position, *other, hub = (np.concatenate(column) for column in zip(*held, strict=True))
    others = pa.StructArray.from_arrays(other, fields=list(SIMILAR_ADDRESS))
    return as_table(shard=shard, position=position, other=others, hub=hub)
