"""Documents from CSV and TSV, plain or compressed (.gz, .zst, .bz2, .xz): one document a row.

The first row names the columns, unless the source does. Rows that are no CSV (`not_csv`, `unclosed_quote`), or of more
or fewer fields than there are columns (`wrong_fields`), are quarantined, with their line among the `measures` of
`refused`; damage is that of JSON lines. Files that are not in UTF-8 are read as if they were: offsets and lengths count
in that. A file is never cut into ranges: whether a line begins a row is known from the file's beginning alone.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any

import pyarrow as pa

from data_specs.sources import CsvSource
from tasks.sources.base import Found, InputShard, Part, Records, grouped, typed
from tasks.sources.compression import DamageError, compression_of, named
from tasks.sources.csv_records import Dialect, Row, rows
from tasks.sources.fields import value
from tasks.sources.jsonl import broken, lines
from tasks.sources.row_reader import RowReader
from tasks.sources.templates import TooLongError

_UNDECODABLE = "sluice.undecodable"
# Longer numbers are none: no float has 400 digits before its point, and reading them takes time of their square.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,400}", re.ASCII)
_BOOLS = {"true": True, "false": False}


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    """What stands for bytes that are no character: what is none in UTF-8 either, so that its row is at fault."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ud800", error.end


codecs.register_error(_UNDECODABLE, _undecodable)


class _Recoded(io.RawIOBase):
    """The bytes of a stream of another encoding, in UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(_UNDECODABLE)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ended = False
        while not self._ready and not ended:
            data = self._stream.read(2**16)
            ended = not data
            text = self._decoder.decode(data, final=ended)
            self._ready = memoryview(text.encode(errors="surrogatepass"))
        found, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


class CsvReader(RowReader):
    """Reads CSV and TSV."""

    version = 2  # a row that repeats the names that are given is no document
    settings: CsvSource

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        keys = self.settings.keys
        return {name: typed(_read_as(value(row, keys.get(name, name)), kind), kind) for name, kind in self.own.items()}

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = self.groups(files, self.settings.shard, groups)
        return grouped(self.source, files, number), number

    def _dialect(self, path: str) -> Dialect:
        """By a file's name where nothing says how fields are told apart."""
        plain = path.rpartition(".")[0] if named(path) else path
        by_name = "\t" if plain.lower().endswith((".tsv", ".tab")) else ","
        return Dialect(self.settings.delimiter or by_name, self.settings.quote)

    def _encoding(self, path: str) -> tuple[str | None, int]:
        """What a file is decoded by, by its byte order mark or the settings, None for UTF-8; and where it begins."""
        with lines(path, 0, self.settings.window) as stream:
            head = stream.peek(16)
        if compression_of(head):
            raise DamageError("unreadable", "compressed once more than the file's name says")
        if head.startswith(codecs.BOM_UTF8):
            return None, len(codecs.BOM_UTF8)
        if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # before UTF-16, whose mark begins the first
            return "utf-32", 0
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", 0
        encoding = self.settings.encoding
        is_utf_8 = not encoding or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
        return (None if is_utf_8 else encoding), 0

    @contextmanager
    def _opened(self, path: str, encoding: str | None, start: int) -> Iterator[io.BufferedReader]:
        """The bytes of a file in UTF-8, from a place on."""
        with lines(path, 0 if encoding else start, self.settings.window) as stream:
            if not encoding:
                yield stream
                return
            recoded: Any = io.BufferedReader(_Recoded(stream, encoding), 2**18)
            while start and (passed := recoded.read(min(start, 2**20))):
                start -= len(passed)
            yield recoded

    def read_part(self, part: Part, records: Records) -> None:
        offset, encoding = 0, None
        try:
            encoding, start = self._encoding(part.path)
            header, begun = [*self.settings.header], False
            opened = partial(self._opened, part.path, encoding)
            for row in rows(opened, self._dialect(part.path), self.settings.longest, start):
                offset = row.offset + row.length
                if not begun and header and _names(row) == header:
                    pass  # the file names its columns itself, too
                elif header:
                    self._document(row, header, part, records)
                elif row.fields is None:
                    return records.quarantine("unreadable", part, 0, row.length, lost=part.end, measures={"line": 1})
                else:
                    header = _names(row)
                begun = True
        except (EOFError, DamageError) as error:
            if isinstance(error, DamageError) and encoding:
                error.since = 0  # of the file as it is, and not in UTF-8
            broken(error, part, offset, records)

    def _document(self, row: Row, header: list[str], part: Part, records: Records) -> None:
        """Make a document of a row, or say where it stands and why it is none."""
        line = {"line": row.line}
        if row.reason == "too_large":
            return records.drop(row.reason, part, row.offset, row.length, measures=line)
        if row.fields is None:
            return records.quarantine(row.reason, part, row.offset, row.length, measures=line)
        if len(row.fields) != len(header):
            measures = line | {"fields": len(row.fields), "columns": len(header)}
            return records.quarantine("wrong_fields", part, row.offset, row.length, measures=measures)
        values = {name: field or None for name, field in zip(reversed(header), reversed(row.fields), strict=True)}
        url = value(values, self.settings.url)
        place = part, row.offset, len(row.data)
        try:
            text = self.text_of(values)
        except TooLongError:
            return records.drop("too_large", *place, url, measures=line)
        if text is None:
            return records.drop("no_text", *place, url, measures=line)
        records.text(Found(*place, url, payload=row.data, columns=self.columns(values)), text)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        data, path = b"", self.listing.path(row["file"])
        with suppress(EOFError, DamageError), self._opened(path, self._encoding(path)[0], row["offset"]) as stream:
            data = stream.read(row["length"])
        if hashlib.sha256(data).hexdigest() != row["payload"]:
            raise self.changed(row)
        return data


def _names(row: Row) -> list[str]:
    return [name.strip() for name in row.fields or ()]


def _read_as(text: str | None, kind: pa.DataType) -> Any:
    """A field as a value of a type; None where it is none."""
    if text is None or kind == pa.string():
        return text
    text = text.strip()
    if kind == pa.bool_():
        return _BOOLS.get(text.lower())
    if _WHOLE.fullmatch(text):
        return int(text) if kind == pa.int64() else float(text)
    return float(text) if _NUMBER.fullmatch(text) else None
