"""Documents from Parquet files: one document a row.

A row's place in its file names it, however the file is cut into shards: a range of bytes holds the row groups that
start in it. Dropped are rows whose text is null, empty or no string (`no_text`), as bytes that are no UTF-8 are none,
or above `longest` (`too_large`); a file that is no Parquet, or of which a row group cannot be read, or has pages of
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

    version = 1
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
                for row in _plain(batch):
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
                    payload = str(texts[place - first].as_py()).encode()
                    if hashlib.sha256(payload).hexdigest() == row["payload"]:
                        return payload
        raise self.changed(row)


def _plain(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch; null where a text is no UTF-8, which Parquet's readers do not look at."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        columns = {name: [_value(value) for value in batch.column(name)] for name in batch.schema.names}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
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
