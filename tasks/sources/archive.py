"""The response records of WARC files (ISO 28500), gzip member by gzip member, or uncompressed.

fastwarc parses the records; the members around them are found here, because a record's place must be known exactly, a
broken member must cost itself alone, and a file must give the same records however it is cut: a range holds the members
that start in it. A file that was compressed as a whole is one member, so all its records are those of the first range.
What is no whole record is a fault: `truncated` where the file ends in the middle of one, `no_length` where its header
does not tell its length, `unreadable` for bytes that are none. A fault costs no record of another member, or of an
uncompressed file; inside a member, what follows it is lost with it. A file without any bytes is one fault
(`empty_file`), and so is one in the format before WARC (`arc`).
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import IO, Any

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from tasks import http

_LOOK_BACK = 2**20
"""Bytes before a range from which its first member is sought, so that a WARC stored inside a record of a WARC is not
taken for members of the outer one: following the members from there leads past it."""
_BLOCK = 2**18
_SLICE = 2**14
_GZIP = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")


class UnreachableError(RuntimeError):
    """A file's bytes cannot be had (now): not the doing of what is in them."""


class Input:
    """A file read forward, with the last block kept, so that members in one block are read once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._base = 0
        self._block = b""

    def take(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`, fewer only at the end of the file."""
        offset = position - self._base
        if not 0 <= offset <= len(self._block):
            self._base, self._block, offset = position, b"", 0
            self._reach(self._file.seek, position)
        while len(self._block) - offset < size and (more := self._reach(self._file.read, _BLOCK)):
            self._block = self._block[offset:] + more
            self._base, offset = self._base + offset, 0
        return self._block[offset : offset + size]

    def _reach(self, method: Callable[[int], Any], argument: int) -> Any:
        try:
            return method(argument)
        except (OSError, ValueError) as error:  # OSError is also what fastwarc says of a malformed record
            raise UnreachableError(f"reading failed: {error}") from error

    def member(self, position: int, end: int) -> int | None:
        """Start of the first gzip member at or after `position` that begins with a WARC record; those that start at or
        after `end` need not be found."""
        while position < end and (block := self.take(position, _BLOCK)):
            for match in _GZIP.finditer(block):
                start = position + match.start()
                try:
                    head = zlib.decompressobj(31).decompress(self.take(start, 2048), 5)
                except zlib.error:
                    continue
                if head == b"WARC/":
                    return start
            if len(block) < _BLOCK:
                return None
            position += len(block) - 3
        return None


class Member(io.RawIOBase):
    """One gzip member as the stream that fastwarc reads: nothing is decompressed before it is asked for."""

    def __init__(self, source: Input, start: int) -> None:
        super().__init__()
        self._input = source
        self._gzip = zlib.decompressobj(31)
        self._pending = b""
        self._told = 0
        self.end = start
        """Where the next byte of the file is read."""
        self.broken = ""

    def read(self, size: int = -1) -> bytes:
        """Decompressed bytes, none at the end of the member or where it breaks."""
        while not self._gzip.eof and not self.broken:
            data = self._pending or self._input.take(self.end, _SLICE)
            if not data:
                self.broken = "truncated"
                break
            fresh = 0 if self._pending else len(data)
            try:
                found = self._gzip.decompress(data, size if size > 0 else _BLOCK)
            except zlib.error:
                self.broken = "unreadable"
                break
            self._pending = self._gzip.unconsumed_tail
            self.end += fresh - len(self._gzip.unused_data)
            if found:
                self._told += len(found)
                return found
        return b""

    def tell(self) -> int:
        return self._told


class Plain(io.RawIOBase):
    """An uncompressed file from a position on, as the stream that fastwarc reads."""

    def __init__(self, source: Input, start: int) -> None:
        super().__init__()
        self._input = source
        self._start = self._position = start

    def read(self, size: int = -1) -> bytes:
        found = self._input.take(self._position, size if size > 0 else _BLOCK)
        self._position += len(found)
        return found

    def tell(self) -> int:
        return self._position - self._start


@dataclass
class Record:
    """A whole response record."""

    url: str
    date: str | None
    """ISO 8601 day."""
    block: bytes
    """The HTTP message, cut at the reader's limit."""
    length: int
    """Bytes of the HTTP message."""
    offset: int
    index: int = 0
    """Place among the records of one gzip member."""
    span: int = 0
    """Bytes of the file from `offset` that hold the record."""


@dataclass(frozen=True)
class Fault:
    """A stretch of a file that is no whole record."""

    reason: str


def records(file: IO[bytes], start: int, end: int, limit: int) -> Iterator[Record | Fault]:
    """The response records of the members that start in [start, end), and the faults there, in order.

    Blocks are cut at `limit` bytes. An uncompressed WARC is not cut into ranges: all its records are those of start 0.
    """
    source = Input(file)
    if start == 0:
        head = source.take(0, _BLOCK)
        if reason := _foreign(head):
            yield Fault(reason)
            return
        if head.startswith(b"WARC/"):
            yield from _of_plain(source, limit)
            return
    position = source.member(max(0, start - _LOOK_BACK), end) if start else 0
    while position is not None and position < end and source.take(position, 1):
        member = Member(source, position)
        for found in _of_member(member, position, limit):
            if position >= start:
                yield found
        position = source.member(position + 1, end) if member.broken else member.end


def blocks(file: IO[bytes], start: int, limit: int) -> Iterator[bytes]:
    """The block of the record at `start`, or of all records of the gzip member that starts there, cut at `limit`."""
    source = Input(file)
    plain = source.take(start, 5) == b"WARC/"
    stream = Plain(source, start) if plain else Member(source, start)
    for raw in ArchiveIterator(stream, parse_http=False, stream_detect=False):
        yield raw.reader.read(limit)
        if plain:
            return


def _foreign(head: bytes) -> str:
    """Why a file that begins so holds no WARC at all; empty where it may."""
    if head.startswith(b"\x1f\x8b"):
        stream = zlib.decompressobj(31)
        try:
            head = stream.decompress(head, 16)
        except zlib.error:
            return ""
        if not head and not (stream.eof and not stream.unused_data):
            return ""
    return "empty_file" if not head else "arc" if head.startswith(b"filedesc:") else ""


def _of_member(member: Member, start: int, limit: int) -> Iterator[Record | Fault]:
    """Each record is held back until the member goes on after it, or ends as it should."""
    held: Record | None = None
    try:
        for index, raw in enumerate(ArchiveIterator(member, parse_http=False, stream_detect=False)):
            if held:
                yield held
                held = None
            found = _record(raw, start, limit)
            if isinstance(found, Fault):
                member.broken = member.broken or found.reason
                break
            if raw.record_type == WarcRecordType.response:
                held, found.index, found.span = found, index, member.end - start
    except OSError:  # fastwarc: what follows the last record is none
        member.broken = member.broken or "unreadable"
        if held:
            yield held
            held = None
    while member.read():
        pass
    if member.broken:
        yield Fault(member.broken)
    elif held:
        held.span = member.end - start
        yield held


def _of_plain(source: Input, limit: int) -> Iterator[Record | Fault]:
    position = 0
    while position >= 0:
        last, fault = position, ""
        try:
            for raw in ArchiveIterator(Plain(source, position), parse_http=False, stream_detect=False):
                last = position + raw.stream_pos
                found = _record(raw, last, limit)
                if isinstance(found, Fault):
                    fault = found.reason
                    break
                if raw.record_type == WarcRecordType.response:
                    head = source.take(last, http.HEAD)
                    found.span = head.find(b"\r\n\r\n") + 4 + found.length
                    yield found
        except OSError:
            fault = "unreadable"
        if not fault:
            return
        yield Fault(fault)
        position = _next_plain(source, last + 1)


def _next_plain(source: Input, position: int) -> int:
    """Start of the first record after `position`; -1 where there is none."""
    while block := source.take(position, _BLOCK):
        at = block.find(b"\nWARC/")
        if at >= 0:
            return position + at + 1
        position += max(1, len(block) - 5)
    return -1


def _record(raw: WarcRecord, offset: int, limit: int) -> Record | Fault:
    """The record, read to its end, unless it ends before its header says so, or that does not tell its end."""
    declared = raw.headers.get("Content-Length") or ""
    if not (declared.isascii() and declared.isdigit()):
        return Fault("no_length")
    length = int(declared)
    block = raw.reader.read(min(length, limit))
    if len(block) + (raw.reader.consume() if length > len(block) else 0) != length:
        return Fault("truncated")
    url = (raw.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    return Record(url, _day(raw.headers.get("WARC-Date") or ""), block, length, offset)


def _day(stamp: str) -> str | None:
    try:
        return date.fromisoformat(stamp[:10]).isoformat()
    except ValueError:
        return None
