"""Documents from Parquet files: one document a row.

A row's place in its file names it, however the file is cut into shards: a range of bytes holds the row groups that
start in it. Columns of bytes are read as text, decimals as floats and dates and times as strings, where a column is to
be that. Dropped are rows whose text is null, empty or no string (`no_text`), as bytes that are no UTF-8 are none, or
above `longest` (`too_large`); a file that is no Parquet, or of which a row group cannot be read, or has pages of
another checksum than its writer recorded, is quarantined as `unreadable` with the bytes that are lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_specs.sources import ParquetSource
from tasks.sources.base import Found, InputShard, Part, Reader, Records, ranged
from tasks.sources.files import opened

BATCH = 1024
"""Rows in memory at once."""


class ParquetReader(Reader):
    """Reads Parquet files."""

    version = 2  # text in columns of bytes is read, decimals as floats, dates and times as strings
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)
    settings: ParquetSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        return [shard for file in files for shard in ranged(self.source, file, self.settings.shard)], 0

    def read_part(self, part: Part, records: Records) -> None:
        with opened(part.path) as raw:
            try:
                self._rows(raw, part, records)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                records.quarantine("unreadable", part, part.start, lost=part.end - part.start)

    def _rows(self, raw: IO[bytes], part: Part, records: Records) -> None:
        file = pq.ParquetFile(raw, page_checksum_verification=True)
        wanted = [self.settings.text, self.settings.url, *self.own]
        present = [name for name in dict.fromkeys(wanted) if name in file.schema_arrow.names]
        for group, first in _groups(file, part):
            position = first
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=present, use_threads=False):
                for row in _plain(batch, self.own):
                    self._document(row, position, part, records)
                    position += 1

    def _document(self, row: Mapping[str, Any], position: int, part: Part, records: Records) -> None:
        text, url = row.get(self.settings.text), row.get(self.settings.url)
        url = url if isinstance(url, str) else None
        if not isinstance(text, str):
            return records.drop("no_text", part, position, 0, url)
        payload = text.encode()
        if len(payload) > self.settings.longest:
            return records.drop("too_large", part, position, len(payload), url)
        records.text(Found(part, position, len(payload), url, payload=payload, columns=self.columns(row)), text)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        place = row["offset"]
        with opened(self.listing.path(row["file"])) as raw:
            file = pq.ParquetFile(raw)
            for group, first in _groups(file):
                count = file.metadata.row_group(group).num_rows
                if first <= place < first + count:
                    texts = file.read_row_group(group, [self.settings.text], use_threads=False)[self.settings.text]
                    payload = str(_value(texts[place - first])).encode()
                    if hashlib.sha256(payload).hexdigest() == row["payload"]:
                        return payload
        raise self.changed(row)


def _plain(batch: pa.RecordBatch, own: Mapping[str, pa.DataType]) -> list[dict[str, Any]]:
    """The rows of a batch; values of other types that say the same as what the columns `own` are to be, and bytes as
    text."""
    columns = [_values(batch.column(name), own.get(name)) for name in batch.schema.names]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array, wanted: pa.DataType | None) -> list[Any]:
    """Values; null where bytes, also those that are called a string, are no UTF-8: no reader of Parquet looks."""
    is_day = pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)
    if (pa.types.is_decimal(column.type) and wanted == pa.float64()) or (is_day and wanted == pa.string()):
        column = column.cast(wanted)
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in column.to_pylist()]
    except UnicodeDecodeError:
        return [_value(value) for value in column]


def _value(value: pa.Scalar) -> Any:
    try:
        found = value.as_py()
        return found.decode() if isinstance(found, bytes) else found
    except UnicodeDecodeError:
        return None


def _groups(file: pq.ParquetFile, part: Part | None = None) -> Iterator[tuple[int, int]]:
    """(number, its first row in the file) of the row groups that start in a range, of all by default."""
    first = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunk = group.column(0)
        start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
        if part is None or part.start <= start < part.end:
            yield number, first
        first += group.num_rows
