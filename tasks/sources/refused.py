"""The records of a shard that reading refuses, as rows: where each lies, its address, and why it became no document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa

from tasks.engine.reading import RECORD, REFUSED, URL, Part

_BATCH = 8192
"""Rows that become an Arrow batch: a tuple takes ten times the memory."""
_ROW = 64
"""Bytes that a row takes beside its texts, about."""
_MOST = 64 * 2**20
"""Bytes of rows, at most: what a stranger packs into a small file can be more records than memory holds."""


_NOTHING = (None,) * len(RECORD)


def _clipped(value: Any) -> Any:
    return value[:URL].encode(errors="ignore").decode() if isinstance(value, str) else value


class Refused:
    """Rows of the schema REFUSED in source order. Once they take `_MOST` bytes there are no more; the ledger counts
    on."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[pa.RecordBatch] = []
        self._size = 0

    def add(
        self,
        reason: str,
        part: Part,
        offset: int,
        length: int | None,
        url: str | None,
        measures: Mapping[str, Any] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """A row, unless there are too many. `url` is clipped, and has no lone surrogates."""
        if self._size > _MOST:
            return
        address = url[:URL].encode(errors="ignore").decode() if url else None
        counted = orjson.dumps(measures).decode() if measures else None
        known = (_clipped(columns.get(name)) for name in RECORD.names) if columns else _NOTHING
        row = (self.source, address, reason, part.key, offset, length, *known, counted)
        self._size += _ROW + sum(len(text) for text in row if isinstance(text, str))
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def table(self) -> pa.Table:
        """All rows."""
        self._flush()
        return pa.Table.from_batches(self._batches, REFUSED).combine_chunks()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(REFUSED)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, REFUSED, strict=True)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=REFUSED))
        self._rows.clear()
