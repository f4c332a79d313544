"""Which of held-out documents are evaluated on: of copies of each other one, over all generations."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrays.addresses import ADDRESS, U64, arrays, as_numbers
from tasks.arrays.groups import changes

EVALUATED = pa.schema(
    [
        ("text", ADDRESS),
        ("newer", pa.bool_()),
        ("copy", pa.bool_()),
        ("elsewhere", pa.bool_()),
        ("shard", pa.uint64()),
        ("position", pa.uint32()),
    ]
)
"""Documents that may be evaluated on, the preferred one of a text first; `text` is the address of the first of its
copies, or its own; `elsewhere`: it is held out by its payload alone."""


def of_clusters(batch: pa.RecordBatch) -> pa.Table:
    """The documents of some clusters that would be evaluated on, each by itself, and those of earlier generations that
    are."""
    batch = batch.filter(pc.fill_null(batch["to_evaluate"], False))
    known = {"text": _texts(batch), "newer": batch["id"].is_valid(), "copy": batch["copy_of"].is_valid()}
    known["elsewhere"] = pc.fill_null(batch["held_out_by_payload"], False)
    return pa.table(known | {name: batch[name] for name in ("shard", "position")}, EVALUATED)


def all_but_one(evaluated: pa.Table) -> pa.Table:
    """Shard and position of all newer documents but one of each text: none stays beside an older one; else the first
    of all copies does, one that stands where it was held out, or the one of the lowest address."""
    rows = evaluated.flatten()
    rows = rows.sort_by([(name, "ascending") for name in rows.column_names])
    again = ~changes(*arrays(rows, *rows.column_names[:2]))
    return rows.filter(pc.and_(pa.array(again), rows["newer"])).select(["shard", "position"])


def texts_of(batch: pa.RecordBatch) -> U64:
    """What tells the text of each document, as one number."""
    return as_numbers(*(each.to_numpy() for each in _texts(batch).flatten()))


def _texts(batch: pa.RecordBatch) -> pa.StructArray:
    """The address of the first of the copies of each document, or its own."""
    own = pa.StructArray.from_arrays([batch["shard"], batch["position"]], fields=list(ADDRESS))
    return pc.coalesce(batch["copy_of"], own)
