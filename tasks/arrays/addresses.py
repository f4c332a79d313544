"""Addresses of documents inside shuffles, and small operations on sorted columns that corpus stages share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

ADDRESS = pa.struct([("shard", pa.uint64()), ("position", pa.uint32())])
"""Where a document is: its shard's number in shuffles, and its row there."""
ALIKE = pa.struct([*ADDRESS, ("similarity", pa.float32())])
"""A document's address, and its Jaccard similarity to the document that this stands with."""


def arrays(rows: pa.Table, *names: str) -> tuple[NDArray[Any], ...]:
    """Columns without nulls as numpy arrays."""
    return tuple(rows[name].to_numpy() for name in names)


def true(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where a boolean column is true, and not null."""
    return pc.fill_null(column, False).to_numpy()


def addresses(shard: U64, position: NDArray[np.uint32]) -> pa.StructArray:
    return pa.StructArray.from_arrays([pa.array(shard), pa.array(position)], fields=list(ADDRESS))


def numbered(*parts: pa.StructArray) -> tuple[pa.StructArray, I64]:
    """Addresses without nulls, in parts -> (the distinct ones in order, the number of each one among these)."""
    shard, position = (
        np.concatenate([pc.struct_field(part, field.name).to_numpy() for part in parts]) for field in ADDRESS
    )
    order = np.lexsort((position, shard))
    first = changes(shard[order], position[order])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(first) - 1
    return addresses(shard[order[first]], position[order[first]]), number


def changes(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """True for the first row and where a row differs from the row before."""
    changed = np.ones(len(columns[0]), bool)
    if len(changed):
        changed[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return changed


def runs(*columns: NDArray[Any]) -> tuple[I64, I64]:
    """Starts and ends of the runs of equal rows."""
    starts = np.flatnonzero(changes(*columns))
    return starts, np.append(starts, len(columns[0]))[1:]


def flattened(lists: pa.ChunkedArray) -> tuple[I64, pa.Array]:
    """Lists -> (the row of each value, the values)."""
    whole = lists.combine_chunks()
    return pc.list_parent_indices(whole).to_numpy(), pc.list_flatten(whole)


def placed(rows: pa.Table, values: pa.ChunkedArray, count: int) -> pa.Array:
    """The value of each row at the row's `position` among `count`; null elsewhere."""
    place = np.full(count, -1)
    place[rows["position"].to_numpy()] = np.arange(rows.num_rows)
    return values.combine_chunks().take(pa.array(place, mask=place < 0))


def listed(rows: pa.Table, values: pa.Array, count: int) -> pa.ListArray:
    """The values of rows sorted by `position`, as a list at each position among `count`; null where there is no row."""
    offsets = np.searchsorted(rows["position"].to_numpy(), np.arange(count + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(offsets[1:] == offsets[:-1]))
