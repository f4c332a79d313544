"""Documents from CSV and TSV, plain or compressed (.gz, .zst, .bz2, .xz): one document a row.

The first row names the columns, unless the source does. Rows that are no CSV (`not_csv`, `unclosed_quote`), or of more
or fewer fields than there are columns (`wrong_fields`), are quarantined, with their line among the `measures` of
`refused`; damage is that of JSON lines. Files that are not in UTF-8 are read as if they were: offsets and lengths count
in that. A file is never cut into ranges: whether a line begins a row is known from the file's beginning alone.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

import pyarrow as pa

from data_specs.sources import CsvSource
from tasks.sources.base import Found, InputShard, Part, Records, grouped, typed
from tasks.sources.compression import DamageError, named
from tasks.sources.csv_files import Form, form, opened
from tasks.sources.csv_records import Dialect, Row, rows
from tasks.sources.fields import value
from tasks.sources.jsonl import broken
from tasks.sources.row_reader import RowReader
from tasks.sources.templates import TooLongError

# Longer numbers are none: no float has 400 digits before its point, and reading them takes time of their square.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,400}", re.ASCII)
_BOOLS = {"true": True, "false": False}


class CsvReader(RowReader):
    """Reads CSV and TSV."""

    version = 3  # lines may end with a carriage return alone, UTF-16 needs no mark, a first line `sep=` is no header
    settings: CsvSource

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        keys = self.settings.keys
        return {name: typed(_read_as(value(row, keys.get(name, name)), kind), kind) for name, kind in self.own.items()}

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = self.groups(files, self.settings.shard, groups)
        return grouped(self.source, files, number), number

    def _dialect(self, path: str, known: Form) -> Dialect:
        """By the file's first line, or its name, where the settings do not say how fields are told apart."""
        plain = path.rpartition(".")[0] if named(path) else path
        by_name = "\t" if plain.lower().endswith((".tsv", ".tab")) else ","
        return Dialect(self.settings.delimiter or known.delimiter or by_name, self.settings.quote)

    def _opened(self, path: str, known: Form, start: int) -> AbstractContextManager[io.BufferedReader]:
        return opened(path, known, self.settings.window, start)

    def read_part(self, part: Part, records: Records) -> None:
        offset, known = 0, None
        try:
            known = form(part.path, self.settings)
            header, begun = [*self.settings.header], False
            at, dialect = partial(self._opened, part.path, known), self._dialect(part.path, known)
            for row in rows(at, dialect, self.settings.longest, known.start, known.line):
                offset = row.offset + row.length
                if not begun and header and _names(row) == header:
                    pass  # the file names its columns itself, too
                elif header:
                    self._document(row, header, part, records)
                elif row.fields is None:
                    measures = {"line": row.line}
                    return records.quarantine("unreadable", part, 0, row.length, lost=part.end, measures=measures)
                else:
                    header = _names(row)
                begun = True
        except (EOFError, DamageError) as error:
            if isinstance(error, DamageError) and known and known.encoding:
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
        with suppress(EOFError, DamageError), self._opened(path, form(path, self.settings), row["offset"]) as stream:
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
