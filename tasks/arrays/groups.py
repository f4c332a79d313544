"""Small operations on groups: runs of equal rows in sorted columns, and lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

I64 = NDArray[np.int64]


def changes(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """True for the first row and where a row differs from the row before: 3 3 5 5 5 -> 1 0 1 0 0."""
    changed = np.ones(len(columns[0]), bool)
    if len(changed):
        changed[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return changed


def distinct(parts: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """The distinct values of arrays, sorted; beside them no more than twice as many are held, or a million."""
    found, count = [np.empty(0, np.uint64)], 0
    for part in parts:
        found.append(np.unique(part))
        count += len(found[-1])
        if count > max(2**20, len(found[0])):
            found, count = [np.unique(np.concatenate(found))], 0
    return np.unique(np.concatenate(found))


def runs(*columns: NDArray[Any]) -> tuple[I64, I64]:
    """Starts and ends of the runs of equal rows: 3 3 5 5 5 -> 0 2 and 2 5."""
    starts = np.flatnonzero(changes(*columns))
    return starts, np.append(starts, len(columns[0]))[1:]


def numbers_within(counts: I64) -> I64:
    """Each member's number within its group, for groups of so many members end to end: 2 3 -> 0 1 0 1 2."""
    starts = np.cumsum(counts) - counts
    return np.arange(counts.sum()) - np.repeat(starts, counts)


def explode(lists: pa.ChunkedArray) -> tuple[I64, pa.Array]:
    """Lists -> (the row of each value, the values): [a b] null [c] -> 0 0 2 and a b c."""
    whole = lists.combine_chunks()
    return pc.list_parent_indices(whole).to_numpy(), pc.list_flatten(whole)


def scatter_by_position(rows: pa.Table, values: pa.ChunkedArray, count: int) -> pa.Array:
    """The value of each row at the row's `position` among `count`; null elsewhere: a at 2, b at 0 -> b null a."""
    row = np.full(count, -1)
    row[rows["position"].to_numpy()] = np.arange(rows.num_rows)
    return values.combine_chunks().take(pa.array(row, mask=row < 0))


def lists_by_position(rows: pa.Table, values: pa.Array, count: int) -> pa.ListArray:
    """The values of rows sorted by `position`, as a list at each position among `count`; null where there is no row:
    a and b at 0, c at 2 -> [a b] null [c]."""
    offsets = np.searchsorted(rows["position"].to_numpy(), np.arange(count + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(offsets[1:] == offsets[:-1]))
