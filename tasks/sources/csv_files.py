"""How a file of CSV is written: its encoding, what its lines end with, and what its first line may say of it; and its
bytes as `csv_records` reads them: in UTF-8, a line feed at the end of each line."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from data_specs.sources import CsvSource
from tasks.extraction.encodings import of_utf_16
from tasks.sources.compression import DamageError, compression_of
from tasks.sources.jsonl import lines

_HEAD = 2**16
"""Bytes of a file by which it is known how it is written."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark begins it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_END = re.compile(rb"\r*\n|\r")
_PARTED = re.compile(r'("?)sep=([^\r\n"\0])\1(?:\r*\n|\r)', re.IGNORECASE)
"""The first line of a file for Excel: what parts the fields of the others."""
_UNDECODABLE = "sluice.undecodable"


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    """What stands for bytes that are no character: what is none in UTF-8 either, so that its row is at fault."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ud800", error.end


codecs.register_error(_UNDECODABLE, _undecodable)


@dataclass(frozen=True)
class Form:
    """How a file is written: its encoding, None for UTF-8; whether a carriage return alone ends its lines; the byte, in
    UTF-8, and the line where its rows begin; what parts fields where its first line says so."""

    encoding: str | None
    returns: bool
    start: int
    line: int
    delimiter: str | None


def form(path: str, settings: CsvSource) -> Form:
    """How a file is written, by its first 64 KiB. Raises EOFError and DamageError where nothing of it can be read."""
    head = _head(path, settings)
    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    encoding = None if start else _encoding(head, settings)
    head = _in_utf_8(encoding, False)(head[start:], False)
    parted = _PARTED.match(head.decode(errors="replace"))
    size = len(parted[0].encode()) if parted else 0
    return Form(
        encoding=encoding,
        returns=_first_end(head, settings.quote.encode()) == b"\r",
        start=start + size,
        line=2 if parted else 1,
        delimiter=parted[2] if parted and parted[2] != settings.quote else None,
    )


def _head(path: str, settings: CsvSource) -> bytes:
    head = b""
    with lines(path, 0, settings.window) as stream:
        try:
            while len(head) < _HEAD and (piece := stream.read1(_HEAD - len(head))):
                head += piece
        except (EOFError, DamageError):
            if not head:
                raise
    if compression_of(head[:16]):
        raise DamageError("unreadable", "compressed once more than the file's name says")
    return head


def _encoding(head: bytes, settings: CsvSource) -> str | None:
    """What a file is decoded by, None for UTF-8: what its mark says, the settings, or the zeros of UTF-16."""
    marked = (encoding for mark, encoding in _MARKS.items() if head.startswith(mark))
    encoding = next(marked, settings.encoding or of_utf_16(head[: len(head) // 2 * 2]))
    is_utf_8 = not encoding or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    return None if is_utf_8 else encoding


def _first_end(head: bytes, quote: bytes) -> bytes:
    """What ends the first line, outside of quotes; b"" where nothing does."""
    if quote:
        head = re.sub(b"%b[^%b]*%b" % ((re.escape(quote),) * 3), b"", head)
    found = _END.search(head)
    return found[0] if found else b""


def _in_utf_8(encoding: str | None, returns: bool) -> Callable[[bytes, bool], bytes]:
    """What makes UTF-8 with line feeds of a stream's pieces; it is told which one is the last."""
    decoder = codecs.getincrementaldecoder(encoding)(_UNDECODABLE) if encoding else None

    def recoded(data: bytes, ended: bool) -> bytes:
        if decoder:
            data = decoder.decode(data, final=ended).encode(errors="surrogatepass")
        return data.replace(b"\r", b"\n") if returns else data

    return recoded


class _Recoded(io.RawIOBase):
    """The bytes of a stream that another may be made of, piece by piece."""

    def __init__(self, stream: IO[bytes], recoded: Callable[[bytes, bool], bytes]) -> None:
        super().__init__()
        self._stream, self._recoded = stream, recoded
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ended = False
        while not self._ready and not ended:
            data = self._stream.read(2**16)
            ended = not data
            self._ready = memoryview(self._recoded(data, ended))
        found, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


@contextmanager
def opened(path: str, known: Form, window: int, start: int) -> Iterator[io.BufferedReader]:
    """The bytes of a file in UTF-8 with line feeds, from a place on, which counts in these."""
    with lines(path, 0 if known.encoding else start, window) as stream:
        if not (known.encoding or known.returns):
            yield stream
            return
        recoded: Any = io.BufferedReader(_Recoded(stream, _in_utf_8(known.encoding, known.returns)), 2**18)
        while known.encoding and start and (passed := recoded.read(min(start, 2**20))):
            start -= len(passed)
        yield recoded
