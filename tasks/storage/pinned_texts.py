"""Tables of texts that are pinned: Arrow IPC files of `id` (16 bytes), `text` and what else is said of each."""

from __future__ import annotations

import io
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

SUFFIX = ".arrow"
"""How the names of such files end, among others' (tasks/scoring/perplexity.py); no other name is of texts."""


def written(table: pa.Table) -> bytes:
    """A table as it is pinned: the same rows give the same bytes."""
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table.combine_chunks())
    return buffer.getvalue()


def ids(data: bytes) -> pa.Array:
    """The documents whose texts a table has; none of a table of something else."""
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    if not {"id", "text"} <= {*table.column_names}:
        return pa.array([], pa.binary(16))
    return table.filter(pc.not_equal(table["text"], ""))["id"].combine_chunks()


def without_texts(data: bytes, ids: Collection[bytes], payloads: Collection[str] = ()) -> bytes | None:
    """A table without the texts of some documents, whose rows stay, known by their ids or, where the table has them, by
    their payloads; None where it holds none of them, or is of something else."""
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    if not {"id", "text"} <= {*table.column_names}:
        return None
    gone = pc.is_in(table["id"], pa.array(sorted(ids), pa.binary(16)))
    if payloads and "payload" in table.column_names:
        gone = pc.or_(gone, pc.is_in(table["payload"], pa.array(sorted(payloads), pa.string())))
    gone = pc.and_(gone, pc.not_equal(table["text"], ""))
    if not pc.any(gone).as_py():
        return None
    text = pc.if_else(gone, "", table["text"])
    return written(table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), text))
