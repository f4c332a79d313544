"""Documents from JSON lines, plain or compressed (.gz, .zst): one document a line.

Every line that is not blank is accounted for. Dropped are lines whose text is missing, empty or no string (`no_text`)
and lines above 64 MiB (`too_large`); quarantined are lines that are no JSON object (`not_json`), and one record for
the rest of a file that breaks off (`truncated`) or is not what its name says (`unreadable`).
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, ClassVar

import orjson
import zstandard

from data_specs.sources import JsonlSource
from tasks.sources.base import InputShard, Part, Read, Reader, Records, grouped, groups_for
from tasks.sources.files import opened

_STEP = 2**10
"""Compressed bytes at a time: of zstd they can become 32 MiB, of gzip 1 MiB."""
LONGEST = 64 * 2**20
"""Bytes of a line, at most."""


class Inflated(io.RawIOBase):
    """The decompressed bytes of a file of gzip members or zstd frames.

    Reading raises EOFError where the last one breaks off: the libraries' own streams pass over that (zstandard), or
    notice it before they have given what came before (gzip).
    """

    def __init__(self, file: IO[bytes], fresh: Callable[[], Any]) -> None:
        super().__init__()
        self._file, self._fresh = file, fresh
        self._stream: Any = None
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
            self._stream = self._stream or self._fresh()
            self._ready, self._rest = self._stream.decompress(data), b""
            if self._stream.eof:
                self._stream, self._rest = None, self._stream.unused_data
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


@contextmanager
def lines(path: str) -> Iterator[IO[bytes]]:
    """A file's decompressed bytes; offsets and lengths of documents count in them."""
    with opened(path) as file:
        if path.endswith(".gz"):
            yield io.BufferedReader(Inflated(file, lambda: zlib.decompressobj(31)), 2**18)
        elif path.endswith(".zst"):
            yield io.BufferedReader(Inflated(file, lambda: zstandard.ZstdDecompressor().decompressobj()), 2**18)
        else:
            yield file


class JsonlReader(Reader):
    """Reads JSON lines."""

    libraries: ClassVar[tuple[str, ...]] = ("orjson",)
    settings: JsonlSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = groups or groups_for(files, self.settings.shard)
        return grouped(self.source, files, number), number

    def read(self, shard: InputShard) -> Read:
        records = Records(self.source)
        for part in shard.parts:
            with lines(part.path) as stream:
                try:
                    self._lines(stream, part, records)
                except EOFError:
                    records.quarantine("truncated")
                except (zlib.error, zstandard.ZstdError):
                    records.quarantine("unreadable")
        return records.read()

    def _lines(self, stream: IO[bytes], part: Part, records: Records) -> None:
        offset = 0
        while line := stream.readline(LONGEST):
            length = len(line)
            if length == LONGEST and not line.endswith(b"\n"):
                while (more := stream.readline(LONGEST)) and not more.endswith(b"\n"):
                    length += len(more)
                length += len(more)
                records.drop("too_large")
            elif not line.isspace():
                self._document(line.rstrip(b"\r\n"), part, offset, records)
            offset += length

    def _document(self, line: bytes, part: Part, offset: int, records: Records) -> None:
        try:
            row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            return records.quarantine("not_json")
        text, url = row.get(self.settings.text), row.get(self.settings.url)
        if not isinstance(text, str):
            return records.drop("no_text")
        records.keep(part, offset, len(line), line, "text", text, url=url if isinstance(url, str) else None)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        with lines(self.listing.path(row["file"])) as stream:
            skip = row["offset"]
            while skip and (found := stream.read(min(skip, 2**20))):
                skip -= len(found)
            line: bytes = stream.read(row["length"])
        if hashlib.sha256(line).hexdigest() != row["payload"]:
            raise self.changed(row)
        return line
