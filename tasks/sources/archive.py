"""The response records of WARC files (ISO 28500), gzip member by gzip member, or uncompressed.

fastwarc parses the records' headers; where records and members begin and end is found here, since a record's place must
be known exactly, a broken member costs itself alone, and a file gives the same records however it is cut: a range holds
the members that start in it. A member that does not begin with a record goes on with the one before, so all records of
a file that was compressed as a whole, or in blocks (bgzip), are those of the first range. Names and types in headers
are compared without their case; between records and members, white space, zeros and byte order marks are passed over.

What is no whole record is a fault: `truncated` where the file ends in the middle of one, `no_length` and `no_type`
where its header does not tell its length or its type, `unreadable` for bytes that are none. A fault costs no record of
another member, or of an uncompressed file; inside a member, what follows it is lost with it, unless only its type is
missing. A file without any bytes is one fault (`empty_file`), and so are one in the format before WARC (`arc`) and one
that begins with text or metadata that others extracted from responses (`no_pages`: WET and WAT).
"""

from __future__ import annotations

import io
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import IO, Any

from fastwarc.warc import ArchiveIterator, WarcRecord

_LOOK_BACK = 2**20
"""Bytes before a range from which its first member is sought, so that a WARC stored inside a record of a WARC is not
taken for members of the outer one: following the members from there leads past it."""
_BLOCK = 2**18
_SLICE = 2**14
_HEAD = 2**18
"""Bytes in which a record's header has to end."""
_GZIP = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")
_WARC = b"WARC/"
_PADDING = b"\0\t\n\r \xef\xbb\xbf"
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_NAMES = {name.lower(): name for name in (b"Content-Length", b"WARC-Type", b"WARC-Target-URI", b"WARC-Date")}
_NAME = re.compile(rb"^(?:" + b"|".join(_NAMES) + rb")(?=[ \t]*:)", re.MULTILINE | re.IGNORECASE)
_DERIVED = {"warcinfo", "metadata", "conversion"}
_FEW = 8
"""Records at the beginning of a file that tell what kind of file it is."""


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

    def past(self, position: int) -> int:
        """Where, from `position` on, something else than padding begins; or the file's end."""
        while block := self.take(position, _SLICE):
            found = block.lstrip(_PADDING)
            position += len(block) - len(found)
            if found:
                break
        return position

    def _reach(self, method: Callable[[int], Any], argument: int) -> Any:
        try:
            return method(argument)
        except (OSError, ValueError) as error:
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
                if head == _WARC:
                    return start
            if len(block) < _BLOCK:
                return None
            position += len(block) - 3
        return None


class Member:
    """One gzip member as a stream, with the members after it that do not begin with a record. Nothing is decompressed
    before it is asked for."""

    def __init__(self, source: Input, start: int) -> None:
        self._input = source
        self._gzip = zlib.decompressobj(31)
        self._pending = b""
        self._told = 0
        self.whole = 0
        """Bytes told by members that ended as they should."""
        self.end = start
        """Where the next byte of the file is read."""
        self.broken = ""

    def read(self, size: int) -> bytes:
        """Decompressed bytes, none at the end of the stream or where it breaks."""
        while not self.broken and (not self._gzip.eof or self._goes_on()):
            data = self._pending or self._input.take(self.end, _SLICE)
            if not data:
                self.broken = "truncated"
                break
            fresh = 0 if self._pending else len(data)
            try:
                found = self._gzip.decompress(data, size)
            except zlib.error:
                self.broken = "unreadable"
                break
            self._pending = self._gzip.unconsumed_tail
            self.end += fresh - len(self._gzip.unused_data)
            self._told += len(found)
            if self._gzip.eof:
                self.whole = self._told
            if found:
                return found
        return b""

    def _goes_on(self) -> bool:
        """Whether another member follows that does not begin with a record; it is read next."""
        head = self._input.take(self.end, 2048)
        try:
            if not _GZIP.match(head) or zlib.decompressobj(31).decompress(head, len(_WARC)) == _WARC:
                return False
        except zlib.error:
            return False
        self._gzip, self._pending = zlib.decompressobj(31), b""
        return True


class Plain:
    """An uncompressed file from a position on, as a stream."""

    def __init__(self, source: Input, start: int) -> None:
        self._input = source
        self._position = start

    def read(self, size: int) -> bytes:
        found = self._input.take(self._position, size)
        self._position += len(found)
        return found


@dataclass
class Record:
    """A whole record."""

    kind: str
    """Its type, lower case."""
    url: str
    date: str | None
    """ISO 8601 day."""
    block: bytes
    """Of a response, the HTTP message, cut at the reader's limit; empty of others."""
    length: int
    """Bytes of the block."""
    offset: int
    index: int = 0
    """Place among the records of one stream of gzip members."""
    span: int = 0
    """Bytes of the file from `offset` that hold the record."""


@dataclass(frozen=True)
class Fault:
    """A stretch of a file that is no whole record; `lost` are its bytes, where it is known what follows it."""

    reason: str
    lost: int = 0


class Scan:
    """A walk through the records of a stream."""

    def __init__(self, stream: Member | Plain) -> None:
        self._stream = stream
        self._ready = b""
        self.start = self.end = 0
        """Where the record that was found last starts in the stream, and where it ends."""
        self.lost = False
        """Whether it is not known where the next record starts."""

    def records(self, limit: int) -> Iterator[Record | Fault]:
        """Records of all types, and faults; their `offset` and `span` count in the stream."""
        while not self.lost and self._reaches_record():
            found = self._record(limit)
            self.lost = isinstance(found, Fault) and found.reason != "no_type"
            yield found

    def _record(self, limit: int) -> Record | Fault:
        """The record, read to its end, unless it ends before its header says so, or that does not tell its end."""
        while not (end := _HEADER_END.search(self._ready)) and len(self._ready) < _HEAD and self._more():
            pass
        if not self._ready.startswith(_WARC[: len(self._ready)]):
            return Fault("unreadable")
        if not end:
            return Fault("truncated" if len(self._ready) < _HEAD else "unreadable")
        head, _ = self._take(end.end(), end.end())
        parsed = _parsed(head)
        if parsed is None:
            return Fault("unreadable")
        declared, kind, url, stamp = (parsed.headers.get(name.decode()) or "" for name in _NAMES.values())
        if not re.fullmatch("[0-9]{1,18}", declared):
            return Fault("no_length")
        length = int(declared)
        kind = kind.lower()
        block, there = self._take(length, min(length, limit) if kind == "response" else 0)
        if there != length:
            return Fault("truncated")
        if not kind:
            return Fault("no_type")
        url = url.removeprefix("<").removesuffix(">")
        return Record(kind, url, _day(stamp), block, length, self.start, span=self.end - self.start)

    def _reaches_record(self) -> bool:
        """Pass over padding; False at the end of the stream."""
        while not (found := self._ready.lstrip(_PADDING)):
            self.end += len(self._ready)
            self._ready = b""
            if not self._more():
                return False
        self.end += len(self._ready) - len(found)
        self.start, self._ready = self.end, found
        return True

    def _more(self) -> bool:
        found = self._stream.read(_SLICE)
        self._ready += found
        return bool(found)

    def _take(self, size: int, keep: int) -> tuple[bytes, int]:
        """The first `keep` of the next `size` bytes, and how many there are, fewer only at the end of the stream."""
        kept, left = bytearray(), size
        while left and (self._ready or self._more()):
            part, self._ready = self._ready[:left], self._ready[left:]
            kept += part[: keep - len(kept)]
            left -= len(part)
        self.end += size - left
        return bytes(kept), size - left


def records(file: IO[bytes], start: int, end: int, limit: int) -> Iterator[Record | Fault]:
    """The response records of the members that start in [start, end), and the faults there, in order.

    Blocks are cut at `limit` bytes. An uncompressed WARC is not cut into ranges: all its records are those of start 0.
    """
    source = Input(file)
    if start == 0:
        if reason := _foreign(source.take(source.past(0), _BLOCK)):
            yield Fault(reason, end - start)
            return
        if _has_no_pages(source):
            yield Fault("no_pages")
    for found in _of_range(source, start, end, limit):
        if isinstance(found, Fault) or found.kind == "response":
            yield found


def blocks(file: IO[bytes], start: int, limit: int) -> Iterator[bytes]:
    """The block of the response record at `start`, or of all those in the stream of gzip members that starts there, cut
    at `limit`."""
    source = Input(file)
    plain = source.take(start, len(_WARC)) == _WARC
    for found in Scan(Plain(source, start) if plain else Member(source, start)).records(limit):
        if isinstance(found, Record):
            yield found.block
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


def _has_no_pages(source: Input) -> bool:
    """Whether a file begins with records made from responses that are elsewhere."""
    kinds: set[str] = set()
    for found in islice(_of_range(source, 0, sys.maxsize, 0), _FEW):
        if isinstance(found, Record):
            kinds.add(found.kind)
            if found.kind not in _DERIVED:
                return False
    return bool(kinds - {"warcinfo"})


def _of_range(source: Input, start: int, end: int, limit: int) -> Iterator[Record | Fault]:
    """Records of all types, and faults."""
    position = source.member(max(0, start - _LOOK_BACK), end) if start else source.past(0)
    if position is not None and start == 0 and source.take(position, len(_WARC)) == _WARC:
        yield from _of_plain(source, end, limit)
        return
    while position is not None and position < end and source.take(position, 1):
        member, fault = Member(source, position), ""
        for found in _of_member(member, position, limit):
            if position >= start:
                if fault:
                    yield Fault(fault)
                    fault = ""
                if isinstance(found, Fault):
                    fault = found.reason
                else:
                    yield found
        position = source.member(position + 1, end) if member.broken else source.past(member.end)
        if fault:
            behind = end if position is None else min(position, end)
            yield Fault(fault, max(0, behind - member.end) if member.broken else 0)


def _of_member(member: Member, start: int, limit: int) -> Iterator[Record | Fault]:
    """Each is held back until the stream goes on after it, or the members that hold it have ended as they should."""
    scan = Scan(member)
    held: Record | Fault | None = None
    held_end = 0
    for index, found in enumerate(scan.records(limit)):
        if held:
            yield held
        if isinstance(found, Fault) and scan.lost:
            while member.read(_BLOCK):
                pass
            yield Fault(member.broken or found.reason)
            return
        if isinstance(found, Record):
            found.offset, found.index, found.span = start, index, member.end - start
        held, held_end = found, scan.end
    if held and (not member.broken or held_end <= member.whole):
        if isinstance(held, Record) and not member.broken:
            held.span = member.end - start
        yield held
    if member.broken:
        yield Fault(member.broken)


def _of_plain(source: Input, end: int, limit: int) -> Iterator[Record | Fault]:
    position = 0
    while position >= 0:
        scan = Scan(Plain(source, position))
        fault = ""
        for found in scan.records(limit):
            if isinstance(found, Record):
                found.offset += position
            elif scan.lost:
                fault = found.reason
                break
            yield found
        if not fault:
            return
        broken = position + scan.start
        position = _next_plain(source, broken + 1)
        yield Fault(fault, max(0, (position if position >= 0 else end) - broken))


def _next_plain(source: Input, position: int) -> int:
    """Start of the first record after `position`; -1 where there is none."""
    while block := source.take(position, _BLOCK):
        at = block.find(b"\n" + _WARC)
        if at >= 0:
            return position + at + 1
        position += max(1, len(block) - len(_WARC))
    return -1


def _parsed(head: bytes) -> WarcRecord | None:
    """A record of a header alone; None where it is none. fastwarc wants CRLF, and compares names with their case."""
    cased = _NAME.sub(lambda name: _NAMES[name[0].lower()], head.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    try:
        return next(ArchiveIterator(io.BytesIO(cased), parse_http=False, stream_detect=False), None)
    except OSError:
        return None


def _day(stamp: str) -> str | None:
    try:
        return date.fromisoformat(stamp[:10]).isoformat()
    except ValueError:
        return None
