"""Documents from Arrow files, as the library `datasets` saves a data set (`save_to_disk`): one document a row.

Streams and files of Arrow's IPC are read, batch by batch; a row's place in its file names it. What is dropped is that
of Parquet. A file that is none is quarantined as `unreadable`, and what is behind a batch that cannot be read as
`truncated`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar

import pyarrow as pa

from data_specs.sources import ArrowSource
from tasks.sources.base import InputShard, Part, Records, grouped
from tasks.sources.files import opened
from tasks.sources.parquet import BATCH, TableReader, plain

_FILE = b"ARROW1"
_AS_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


class ArrowReader(TableReader):
    """Reads Arrow files."""

    version = 1
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)
    settings: ArrowSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = self.groups(files, self.settings.shard, groups)
        return grouped(self.source, files, number), number

    def read_part(self, part: Part, records: Records) -> None:
        position = 0
        try:
            with opened(part.path) as file:
                for row in self._rows(file):
                    self.document(row, position, part, records)
                    position += 1
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            lost = part.end - part.start if not position else 0
            records.quarantine("truncated" if position else "unreadable", part, position, lost=lost)

    def _rows(self, file: IO[bytes]) -> Iterator[dict[str, Any]]:
        """The rows of a file, some at a time, with the columns that are asked for."""
        for batch in _batches(file):
            batch = batch.select(self.present(batch.schema.names))
            _hold(batch)
            for start in range(0, batch.num_rows, BATCH):
                yield from plain(batch.slice(start, BATCH), self.own_paths, self.template is not None)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        with opened(self.listing.path(row["file"])) as file:
            for position, found in enumerate(self._rows(file)):
                if position == row["offset"]:
                    payload = (self.text_of(found) or "").encode()
                    if hashlib.sha256(payload).hexdigest() == row["payload"]:
                        return payload
                    break
        raise self.changed(row)


def _batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    head = file.read(len(_FILE))
    file.seek(0)
    if head == _FILE:
        stored = pa.ipc.open_file(file)
        yield from (stored.get_batch(number) for number in range(stored.num_record_batches))
    else:
        yield from pa.ipc.open_stream(file)


def _hold(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid where values do not lie where their offsets say: reading a file looks at none of them. Of text
    that is no UTF-8 the row alone is dropped."""
    for column in batch.columns:
        seen = column.view(_AS_BYTES[column.type]) if column.type in _AS_BYTES else column
        seen.validate(full=True)
