"""Addresses of documents inside shuffles, and columns as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrays.groups import I64, changes, explode
from tasks.arrays.hashing import seeded_hash

U64 = NDArray[np.uint64]

ADDRESS = pa.struct([("shard", pa.uint64()), ("position", pa.uint32())])
"""Where a document is: its shard's number in shuffles, and its row there."""
SIMILAR_ADDRESS = pa.struct([*ADDRESS, ("similarity", pa.float32())])
"""A document's address, and its Jaccard similarity to the document that this stands with."""


def arrays(rows: pa.Table, *names: str) -> tuple[NDArray[Any], ...]:
    """Columns without nulls as numpy arrays."""
    return tuple(rows[name].to_numpy() for name in names)


def true(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where a boolean column is true, and not null."""
    return pc.fill_null(column, False).to_numpy()


def addresses(shard: U64, position: NDArray[np.uint32]) -> pa.StructArray:
    return pa.StructArray.from_arrays([pa.array(shard), pa.array(position)], fields=list(ADDRESS))


def as_numbers(shard: U64, position: NDArray[np.uint32]) -> U64:
    """Addresses as numbers of 64 bits."""
    return shard + seeded_hash(position.astype(np.uint64), "position")


def factorize(*parts: pa.StructArray) -> tuple[pa.StructArray, I64]:
    """Addresses without nulls, in parts -> (the distinct ones in order, the number of each one among these):
    b a and c a -> a b c and 1 0 2 0."""
    shard, position = (
        np.concatenate([pc.struct_field(part, field.name).to_numpy() for part in parts]) for field in ADDRESS
    )
    order = np.lexsort((position, shard))
    first = changes(shard[order], position[order])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(first) - 1
    return addresses(shard[order[first]], position[order[first]]), number


def partners(columns: pa.Table) -> tuple[I64, pa.StructArray]:
    """Columns of addresses, or of lists of similar ones -> (the row of each address, the addresses, with similarity):
    those of a document's own text, which have none, are wholly similar."""
    rows, found = [np.empty(0, np.int64)], [pa.array([], SIMILAR_ADDRESS)]
    for column in columns.columns:
        if column.type == ADDRESS:
            row = np.flatnonzero(column.is_valid())
            own = column.combine_chunks().take(pa.array(row))
            same = pa.array(np.ones(len(row), np.float32))
            others = pa.StructArray.from_arrays([*own.flatten(), same], fields=list(SIMILAR_ADDRESS))
        else:
            row, others = explode(column)
        rows.append(row)
        found.append(others.cast(SIMILAR_ADDRESS))
    return np.concatenate(rows), pa.concat_arrays(found)
