"""Documents from Parquet files: one document a row.

A row's place in its file names it, however the file is cut into shards: a range of bytes holds the row groups that
start in it. Columns of bytes are read as text, decimals as numbers and dates and times as strings, where a column is to
be that, also within structs. Dropped are rows whose text is null, empty or no string (`no_text`), as bytes that are no
UTF-8 are none, or above `longest` (`too_large`); a file that is no Parquet, or of which a row group cannot be read, or
has pages of another checksum than its writer recorded, is quarantined as `unreadable` with the bytes that are lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import IO, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_specs.sources import ArrowSource, ParquetSource
from tasks.sources.base import Found, InputShard, Part, Records, ranged
from tasks.sources.fields import tops, value
from tasks.sources.files import opened
from tasks.sources.row_reader import RowReader
from tasks.sources.templates import TooLongError

BATCH = 1024
"""Rows in memory at once."""


class TableReader(RowReader):
    """What readers of Parquet and Arrow share."""

    place_names = True
    settings: ParquetSource | ArrowSource

    def hashed_settings(self) -> dict[str, Any]:
        """Of columns that are whole numbers, strings or lie within structs also how they are read, as earlier versions
        read some as null."""
        exact = any(kind == pa.int64() or "." in path for path, kind in self.paths.items())
        times = {"times": 2} if pa.string() in self.own_paths.values() else {}
        short = {"floats": 2} if self.settings.template else {}  # as they are written shortest
        return super().hashed_settings() | ({"values": 2} if exact else {}) | times | short

    def payload_settings_of(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A row's payload is its text."""
        name = "template" if settings.get("template") else "text"
        return {name: settings.get(name, type(self.settings).model_fields[name].default)}

    @property
    def paths(self) -> dict[str, pa.DataType]:
        """Where values stand that are read, and what they are to be."""
        texts = [self.settings.text] if self.template is None else self.template.fields or []
        return dict.fromkeys((*texts, self.settings.url), pa.string()) | self.own_paths

    @property
    def own_paths(self) -> dict[str, pa.DataType]:
        """Of these the columns of the source."""
        return {self.settings.keys.get(name, name): kind for name, kind in self.own.items()}

    def present(self, names: Sequence[str]) -> list[str]:
        """Columns of a table that are read, of those that there are."""
        return list(names) if self.template and self.template.fields is None else tops([*self.paths], names)

    def document(self, row: Mapping[str, Any], position: int, part: Part, records: Records) -> None:
        """Make a document of a row."""
        url = value(row, self.settings.url)
        url = url if isinstance(url, str) else None
        try:
            text = self.text_of(row)
        except TooLongError:
            return records.drop("too_large", part, position, 0, url)
        if text is None:
            return records.drop("no_text", part, position, 0, url)
        payload = text.encode()
        if len(payload) > self.settings.longest:
            return records.drop("too_large", part, position, len(payload), url)
        records.text(Found(part, position, len(payload), url, payload=payload, columns=self.columns(row)), text)


class ParquetReader(TableReader):
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
        present = self.present(file.schema_arrow.names)
        for group, first in _groups(file, part):
            position = first
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=present, use_threads=False):
                for row in plain(batch, self.own_paths, self.template is not None):
                    self.document(row, position, part, records)
                    position += 1

    def reread(self, row: Mapping[str, Any]) -> bytes:
        place = row["offset"]
        with opened(self.listing.path(row["file"])) as raw:
            file = pq.ParquetFile(raw)
            for group, first in _groups(file):
                count = file.metadata.row_group(group).num_rows
                if first <= place < first + count:
                    names = self.present(file.schema_arrow.names)
                    rows = file.read_row_group(group, names, use_threads=False).slice(place - first, 1)
                    [found] = plain(rows.combine_chunks().to_batches()[0], self.own_paths, self.template is not None)
                    payload = (self.text_of(found) or "").encode()
                    if hashlib.sha256(payload).hexdigest() == row["payload"]:
                        return payload
        raise self.changed(row)


def plain(batch: pa.RecordBatch, own: Mapping[str, pa.DataType], short: bool = False) -> list[dict[str, Any]]:
    """The rows of a batch; values of other types that say the same as what the columns `own` are to be, and bytes as
    text. `short`: of floats of 32 and 16 bits the number that is written shortest, as a text is made of it: 0.1."""
    columns = [_values(batch.column(name), name, own) for name in batch.schema.names]
    if short:
        shorten = [_shortest(kind) or _same for kind in batch.schema.types]
        columns = [[*map(each, column)] for each, column in zip(shorten, columns, strict=True)]
    rows = zip(*columns, strict=True) if columns else repeat((), batch.num_rows)
    return [dict(zip(batch.schema.names, row, strict=True)) for row in rows]


def _values(column: pa.Array, path: str, own: Mapping[str, pa.DataType]) -> list[Any]:
    """The values at a path; null where bytes, also those that are called a string, are no UTF-8: no reader of Parquet
    looks."""
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        parts = [_values(pc.struct_field(column, [n]), f"{path}.{name}", own) for n, name in enumerate(names)]
        rows = zip(*parts, strict=True) if parts else repeat(())
        there = column.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if known else None for known, row in zip(there, rows, strict=False)]
    wanted = own.get(path)
    if (pa.types.is_decimal(column.type) and wanted == pa.float64()) or (
        _is_time(column.type) and wanted == pa.string()
    ):
        column = column.cast(wanted)
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in column.to_pylist()]
    except UnicodeDecodeError:
        return [_value(value) for value in column]


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind)


def _shortest(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What makes a value of a type one whose floats of 32 and 16 bits, wherever they lie in it, are those of 64 bits
    with the fewest digits that read back as the same; None where it holds none."""
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        single = kind.to_pandas_dtype()
        return lambda value: None if value is None else float(str(single(value)))
    if pa.types.is_struct(kind):
        fields = {field.name: shorten for field in kind if (shorten := _shortest(field.type))}
        if not fields:
            return None
        return lambda row: row and row | {name: shorten(row[name]) for name, shorten in fields.items()}
    if pa.types.is_map(kind):
        key, item = _shortest(kind.key_type) or _same, _shortest(kind.item_type) or _same
        return None if key is item else lambda pairs: pairs and [(key(one), item(other)) for one, other in pairs]
    each = _shortest(kind.value_type) if _is_list(kind) else None
    return each and (lambda values: values and [each(value) for value in values])


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _same(value: Any) -> Any:
    return value


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
