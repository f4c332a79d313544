"""More rows than memory holds: put in order, and joined, block by block.

What is beyond `HELD` bytes is sorted in runs, which lie in files without a name in the temporary folder (TMPDIR): so
nothing is left of them when a process ends, however it does. They are mapped, and their pages are the system's to give
to others.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrays.addresses import arrays

HELD = 2**25
"""Bytes of rows that are sorted at once, and that are merged at once. Sorting takes as much again, twice."""
BLOCK = 2**16
"""Rows that are read at a time, at most."""


class Sorted:
    """Rows that are given in any order and read, as often as it takes, in the order of `keys`: columns, each with
    `ascending` or, of numbers, `descending`, nulls last. Equal rows, and without keys all, come as they were given."""

    def __init__(self, *keys: tuple[str, str]) -> None:
        self.keys = keys
        self.held: list[pa.Table] = []
        self.bytes = 0
        self.ordered = True
        """Whether what is held is in order."""
        self.runs: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Rows whose memory is their own, all of one schema."""
        if rows.num_rows:
            self.held.append(rows)
            self.bytes += rows.nbytes
            self.ordered = False
        if self.bytes >= HELD:
            self._spill()

    def __iter__(self) -> Iterator[pa.Table]:
        if self.runs and self.held:
            self._spill()
        if not self.ordered:
            self.held, self.ordered = [self._ordered(self.held)], True
        return _blocks(self._merged() if self.runs else self.held)

    def _ordered(self, parts: list[pa.Table]) -> pa.Table:
        rows = pa.concat_tables(parts).combine_chunks()
        return rows.take(pc.sort_indices(rows, sort_keys=[*self.keys])) if self.keys else rows

    def _spill(self) -> None:
        parts, self.held, self.bytes, self.ordered = self.held, [], 0, True
        self.runs.append(mapped(parts[0].schema, _blocks([self._ordered(parts)])))

    def _merged(self) -> Iterator[pa.Table]:
        """The runs in one order. Of each a head is taken that ends no later than where one of them, the least, is cut:
        what comes after no head can come before that."""
        left = [*self.runs]
        while left:
            width = sum(run.nbytes for run in left) / sum(run.num_rows for run in left)
            heads = [run.slice(0, max(1, int(HELD / width / len(left)))) for run in left]
            lasts = [self._key(head, head.num_rows - 1) for head in heads]
            least = min(range(len(lasts)), key=lasts.__getitem__)
            cuts = [
                (bisect_right if number <= least else bisect_left)(
                    range(head.num_rows), lasts[least], key=partial(self._key, head)
                )
                for number, head in enumerate(heads)
            ]
            yield self._ordered([head.slice(0, cut) for head, cut in zip(heads, cuts, strict=True)])
            left = [run.slice(cut) for run, cut in zip(left, cuts, strict=True) if cut < run.num_rows]

    def _key(self, rows: pa.Table, number: int) -> tuple[Any, ...]:
        """What stands for a row's keys in comparisons."""
        found: list[tuple[bool, Any]] = []
        for name, order in self.keys:
            value = rows[name][number].as_py()
            found.append((value is None, value if value is None or order == "ascending" else -value))
        return tuple(found)


def mapped(schema: pa.Schema, blocks: Iterable[pa.Table]) -> pa.Table:
    """Rows that lie in a file without a name."""
    with _nameless() as file:
        with pa.ipc.new_file(file, schema) as writer:
            for block in blocks:
                writer.write_table(block)
        file.flush()
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data))).read_all()


@contextmanager
def numbers(parts: Iterable[NDArray[np.uint64]]) -> Iterator[Callable[[int, int], NDArray[np.uint64]]]:
    """Numbers that lie in a file without a name, one part after the other: so many of them from a place on. They are
    read, not mapped, so that none of its pages are the process's."""
    with _nameless() as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        yield lambda start, count: np.frombuffer(os.pread(file.fileno(), 8 * count, 8 * start), np.uint64)


def flags(count: int) -> NDArray[np.uint8]:
    """uint8 [count] of zeros that lie in a file without a name."""
    with _nameless() as file:
        os.posix_fallocate(file.fileno(), 0, max(1, count))  # where there is no room, it is said here
        return np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)[:count]


@contextmanager
def _nameless() -> Iterator[IO[bytes]]:
    """Raises OSError where it cannot be written."""
    try:
        with tempfile.TemporaryFile(prefix="sluice-") as file:
            yield file
    except OSError as error:
        message = (
            f"{error.strerror} in {tempfile.gettempdir()}, where rows are sorted; set TMPDIR to a folder with room"
        )
        raise OSError(error.errno, message) from error


def batched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `BLOCK` rows or `HELD` bytes or more, but for the last one."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= BLOCK or size >= HELD:
            yield pa.concat_batches(held)
            held, rows, size = [], 0, 0
    if held:
        yield pa.concat_batches(held)


def joined(left: Iterable[pa.Table], right: Iterable[pa.Table], key: str) -> Iterator[pa.Table]:
    """The rows of `left` whose key `right` has, with what else stands there: 1, 3, 3, 4 and 1 → x, 2 → y, 3 → z give
    1 x, 3 z, 3 z. Both are in the order of the key, a column of whole numbers, which `right` has once each."""
    others = iter(right)
    other = next(others, None)
    for rows in left:
        while rows.num_rows and other is not None:
            (wanted,), (known,) = arrays(rows, key), arrays(other, key)
            wanted = wanted[: np.searchsorted(wanted, known[-1], "right")]
            place = np.searchsorted(known, wanted)
            here = np.flatnonzero(known[place] == wanted)
            if len(here):
                both = rows.take(here)
                for name in other.column_names:
                    both = both if name == key else both.append_column(name, other[name].take(place[here]))
                yield both
            rows = rows.slice(len(wanted))
            if rows.num_rows:
                other = next(others, None)


def folded(blocks: Iterable[pa.Table], fold: Callable[[pa.Table], pa.Table]) -> Iterator[pa.Table]:
    """Rows in order, of which `fold` makes one of each group that stands together: `fold` of rows that it made of parts
    of a group is what it makes of the whole."""
    last: list[pa.Table] = []
    for rows in blocks:
        found = fold(pa.concat_tables([*last, rows]))
        last = [found.slice(found.num_rows - 1)]
        if found.num_rows > 1:
            yield found.slice(0, found.num_rows - 1)
    yield from last


def _blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    return (rows.slice(start, BLOCK) for rows in tables for start in range(0, rows.num_rows, BLOCK))
