"""Documents from JSON lines, plain or compressed (.gz, .zst, .bz2, .xz): one document a line.

Plain files above the size of a shard are cut into byte ranges; a line belongs to the range that it begins in. Every
line that is not blank is accounted for. JSON is also what Python writes beyond the standard: NaN and Infinity, numbers
of any size, and lone surrogates, which text and address are kept without. Dropped are lines whose text is missing,
empty or no string (`no_text`) and lines above 64 MiB (`too_large`); quarantined are lines that are no JSON object
(`not_json`), and one record for the rest of a compressed file that breaks off (`truncated`) or for a file that is not
what its name says (`unreadable`): plain, or compressed otherwise or once more.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, ClassVar

import orjson
import zstandard

from data_specs.sources import JsonlSource
from tasks.sources.base import InputShard, Part, Read, Reader, Records, grouped, ranged
from tasks.sources.files import opened

_STEP = 2**10
"""Compressed bytes at a time: of zstd they can become 32 MiB, of gzip 1 MiB."""
_PACKED: dict[str, Callable[[], Any]] = {
    "gz": lambda: zlib.decompressobj(31),
    "zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=2**28),
}
"""Decompressors by the end of a file's name."""
_MAGIC = re.compile(rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|BZh[1-9]1AY&SY|\xfd7zXZ\x00")
"""How compressed files begin."""
LONGEST = 64 * 2**20
"""Bytes of a line, at most."""


class DamageError(ValueError):
    """Bytes that cannot be decompressed, after the first `at` bytes of the file."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.at = at


class Inflated(io.RawIOBase):
    """The decompressed bytes of a file of gzip members, zstd frames and the like; white space and zeros after one are
    passed over.

    Reading raises DamageError, or EOFError where the last one breaks off: the libraries' own streams pass over that
    (zstandard), or notice it before they have given what came before (gzip).
    """

    def __init__(self, file: IO[bytes], fresh: Callable[[], Any]) -> None:
        super().__init__()
        self._file, self._fresh = file, fresh
        self._stream: Any = fresh()
        self._rest = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._rest or self._file.read(_STEP)
            if not data:
                if self._stream is not None:
                    raise EOFError
                return 0
            if self._stream is None:
                self._rest = data.lstrip(b"\0\t\n\r ")
                self._stream = self._fresh() if self._rest else None
                continue
            try:
                self._ready, self._rest = self._stream.decompress(data), b""
            except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError) as error:  # bz2 raises OSError
                raise DamageError(str(error), self._file.tell()) from error
            if self._stream.eof:
                self._stream, self._rest = None, self._stream.unused_data
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def packed(path: str) -> Callable[[], Any] | None:
    """What makes a decompressor for a file; None for a plain one."""
    return _PACKED.get(path.rpartition(".")[2].lower())


@contextmanager
def lines(path: str, start: int = 0) -> Iterator[io.BufferedReader]:
    """A file's decompressed bytes from `start` on; offsets and lengths of documents count in them."""
    with opened(path) as file:
        fresh = packed(path)
        raw: Any = Inflated(file, fresh) if fresh else file
        if start and not fresh:
            raw.seek(start)
            start = 0
        stream = io.BufferedReader(raw, 2**18)
        while start and (passed := stream.read(min(start, 2**20))):
            start -= len(passed)
        yield stream


def _pass(stream: IO[bytes], most: int = sys.maxsize) -> int:
    """Read to the end of a line, `most` bytes of it at most; returns how many were read."""
    passed = 0
    while passed < most and (piece := stream.readline(min(LONGEST, most - passed))):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def _parsed(line: bytes) -> Any:
    """The value of a line; None where it is no JSON, also not as Python writes it."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        with suppress(ValueError, RecursionError):
            return json.loads(line.decode())
    return None


class JsonlReader(Reader):
    """Reads JSON lines."""

    version = 3  # lines that Python's json writes beyond the standard are read, and more compressions
    libraries: ClassVar[tuple[str, ...]] = ("orjson",)
    settings: JsonlSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files, size = self.listing.files(), self.settings.shard
        large = [file for file in files if file.size > size and not packed(file.path)]
        rest = [file for file in files if file.size <= size or packed(file.path)]
        number = self.groups(rest, size, groups)
        ranges = [shard for file in large for shard in ranged(self.source, file, size)]
        return grouped(self.source, rest, number) + ranges, number

    def read(self, shard: InputShard) -> Read:
        records = Records(self.source)
        for part in shard.parts:
            try:
                self._lines(part, records)
            except EOFError:
                records.quarantine("truncated", part)
            except DamageError as error:
                records.quarantine("unreadable", part, max(0, part.end - max(part.start, error.at)))
        return records.read()

    def _lines(self, part: Part, records: Records) -> None:
        end = sys.maxsize if packed(part.path) else part.end
        offset = max(0, part.start - 1)
        with lines(part.path, offset) as stream:
            if offset == 0 and _MAGIC.match(stream.peek(16)):
                raise DamageError("compressed once more than the file's name says")
            if part.start:  # the line of the byte before the range is another's
                offset += _pass(stream, end - offset)
            while offset < end and (line := stream.readline(LONGEST)):
                length = len(line)
                if length == LONGEST and not line.endswith(b"\n"):
                    length += _pass(stream)
                    records.drop("too_large")
                elif not line.isspace():
                    self._document(line.rstrip(b"\r\n"), part, offset, records)
                offset += length

    def _document(self, line: bytes, part: Part, offset: int, records: Records) -> None:
        row = _parsed(line.removeprefix(b"\xef\xbb\xbf"))
        if not isinstance(row, dict):
            return records.quarantine("not_json", part)
        text, url = row.get(self.settings.text), row.get(self.settings.url)
        if not isinstance(text, str):
            return records.drop("no_text")
        url = url.encode(errors="ignore").decode() if isinstance(url, str) else None
        records.keep(part, offset, len(line), line, "text", text, url=url)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        line, path = b"", self.listing.path(row["file"])
        with suppress(EOFError, DamageError), lines(path, row["offset"]) as stream:
            line = stream.read(row["length"])
        if hashlib.sha256(line).hexdigest() != row["payload"]:
            raise self.changed(row)
        return line
