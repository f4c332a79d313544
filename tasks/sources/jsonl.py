"""Documents from JSON lines, plain or compressed (.gz, .zst, .bz2, .xz): one document a line.

Plain files above the size of a shard are cut into byte ranges; a line belongs to the range that it begins in. Every
line that is not blank is accounted for. JSON is also what Python writes beyond the standard: NaN and Infinity, numbers
of any size, and lone surrogates, which text and address are kept without. Dropped are lines whose text is missing,
empty or no string (`no_text`) and lines above `longest` (`too_large`); quarantined are lines that are no JSON object
(`not_json`), and one record for the rest of a compressed file that breaks off (`truncated`) or becomes more than any
text does (`bomb`), or for a file that is not what its name says (`unreadable`: plain, or compressed otherwise or once
more) or takes more memory than is allowed (`window`). Where a compressed file is damaged, all documents of the member
that holds the damage are `unreadable`: its checksum, at its end, vouches for none of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, ClassVar

import orjson
import pyarrow as pa
import pyarrow.json

from data_specs.sources import JsonlSource
from tasks.sources.base import Found, InputShard, Part, Records, grouped, ranged
from tasks.sources.compression import WINDOW, DamageError, Packing, Unpacked, compression_of, named
from tasks.sources.fields import schema, value
from tasks.sources.files import opened
from tasks.sources.row_reader import RowReader
from tasks.sources.templates import TooLongError

_LARGE = 2**22
_PARTS = 2**20
"""Parts of a line above `_LARGE` bytes whose values are made: each takes up to 25 times its bytes."""
_LONG = re.compile(rb"[0-9]{20}")
"""In lines that may hold a whole number of more than 64 bits, which orjson makes a fraction."""


@contextmanager
def lines(path: str, start: int = 0, window: int = WINDOW) -> Iterator[io.BufferedReader]:
    """A file's decompressed bytes from `start` on; offsets and lengths of documents count in them."""
    with opened(path) as file:
        kind = named(path)
        raw: Any = Unpacked(file, Packing(kind, window)) if kind else file
        if start and not kind:
            raw.seek(start)
            start = 0
        stream = io.BufferedReader(raw, 2**18)
        while start and (passed := stream.read(min(start, 2**20))):
            start -= len(passed)
        yield stream


def broken(error: EOFError | DamageError, part: Part, offset: int, records: Records) -> None:
    """Count out what is behind a place of a compressed file that breaks off there or is damaged; in a damaged member
    also what is before it."""
    if isinstance(error, EOFError):
        return records.quarantine("truncated", part, offset)
    if error.reason == "unreadable":
        records.take_back(error.reason, part, error.since)
    records.quarantine(error.reason, part, offset, lost=max(0, part.end - max(part.start, error.at)))


def _pass(stream: IO[bytes], most: int = sys.maxsize) -> int:
    """Read to the end of a line, `most` bytes of it at most; returns how many were read."""
    passed = 0
    while passed < most and (piece := stream.readline(min(2**20, most - passed))):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def pass_blank(stream: io.BufferedReader) -> int:
    """Read the blank lines that are buffered next, all at once; returns how many bytes were read."""
    ahead = stream.peek()
    return len(stream.read(ahead.rfind(b"\n", 0, len(ahead) - len(ahead.lstrip())) + 1))


def _parsed(line: bytes, keys: pa.Schema | None) -> Any:
    """The value of a line, of a large one with many parts what stands at the keys alone, where some are given; None
    where it is no JSON, also not as Python writes it."""
    if keys is not None and len(line) > _LARGE and line.count(b",") + line.count(b"[") + line.count(b"{") > _PARTS:
        return _picked(line, keys)
    if keys is not None or not _LONG.search(line):  # of a template, which prints all digits of a whole number
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(line)
    with suppress(ValueError, RecursionError):
        return json.loads(line.decode(), parse_int=_integer, parse_float=_fraction)
    return None


def _integer(digits: str) -> float:
    """A whole number of any length: Python refuses 4,301 digits, and those of more than 300 may be above all floats."""
    return int(digits) if len(digits) <= 300 else _fraction(digits)


def _fraction(digits: str) -> float:
    return float(digits) if len(digits) < 400 else math.nan


def _picked(line: bytes, keys: pa.Schema) -> dict[str, Any] | None:
    """The texts at the keys of a JSON object, by a parser that makes nothing of the rest; None where it finds fault."""
    wanted = pa.json.ParseOptions(
        explicit_schema=keys,
        unexpected_field_behavior="ignore",
        newlines_in_values=True,
    )
    whole = pa.json.ReadOptions(use_threads=False, block_size=len(line) + 1)
    try:
        rows = pa.json.read_json(io.BytesIO(line), read_options=whole, parse_options=wanted).to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    return rows[0] if len(rows) == 1 else None


class JsonlReader(RowReader):
    """Reads JSON lines."""

    version = 3  # lines that Python's json writes beyond the standard are read, and more compressions
    libraries: ClassVar[tuple[str, ...]] = ("orjson",)
    settings: JsonlSource

    @property
    def _keys(self) -> pa.Schema:
        """The keys of a line that are read, and what is expected of them."""
        texts = dict.fromkeys((self.settings.text, self.settings.url), pa.string())
        return schema({self.settings.keys.get(name, name): kind for name, kind in self.own.items()} | texts)

    def hashed_settings(self) -> dict[str, Any]:
        """Of columns of numbers and of templates also how numbers are read: earlier versions lost those of 20 digits
        where a line held a NaN, and printed them as fractions."""
        found = super().hashed_settings()
        numbers = self.settings.template or {*self.own.values()} & {pa.int64(), pa.float64()}
        return found | ({"numbers": 2} if numbers else {})

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files, size = self.listing.files(), self.settings.shard
        large = [file for file in files if file.size > size and not named(file.path)]
        rest = [file for file in files if file.size <= size or named(file.path)]
        number = self.groups(rest, size, groups)
        ranges = [shard for file in large for shard in ranged(self.source, file, size)]
        return grouped(self.source, rest, number) + ranges, number

    def read_part(self, part: Part, records: Records) -> None:
        end, longest = sys.maxsize if named(part.path) else part.end, self.settings.longest
        offset = max(0, part.start - 1)
        try:
            with lines(part.path, offset, self.settings.window) as stream:
                if offset == 0 and compression_of(stream.peek(16)):
                    raise DamageError("unreadable", "compressed once more than the file's name says")
                if part.start:  # the line of the byte before the range is another's
                    offset += _pass(stream, end - offset)
                while offset < end and (line := stream.readline(longest + 1)):
                    length = len(line)
                    if length > longest and not line.endswith(b"\n"):
                        length += _pass(stream)
                        records.drop("too_large", part, offset, length)
                    elif line.isspace():
                        length += pass_blank(stream)
                    else:
                        self._document(line.rstrip(b"\r\n"), part, offset, records)
                    offset += length
        except (EOFError, DamageError) as error:
            broken(error, part, offset, records)

    def _document(self, line: bytes, part: Part, offset: int, records: Records) -> None:
        row = _parsed(line.removeprefix(b"\xef\xbb\xbf"), None if self.template else self._keys)
        if not isinstance(row, dict):
            return records.quarantine("not_json", part, offset, len(line))
        url = value(row, self.settings.url)
        url = url.encode(errors="ignore").decode() if isinstance(url, str) else None
        try:
            text = self.text_of(row)
        except TooLongError:
            return records.drop("too_large", part, offset, len(line), url)
        if text is None:
            return records.drop("no_text", part, offset, len(line), url)
        found = Found(part, offset, len(line), url, payload=line, columns=self.columns(row))
        records.text(found, text)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        line, path = b"", self.listing.path(row["file"])
        with suppress(EOFError, DamageError), lines(path, row["offset"], self.settings.window) as stream:
            line = stream.read(row["length"])
        if hashlib.sha256(line).hexdigest() != row["payload"]:
            raise self.changed(row)
        return line
