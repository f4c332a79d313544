"""The records of ARC files, the Internet Archive's format before WARC: one line of header, then what a server said.

A header is `URL IP-address date type length` (version 1), with status, checksum, location, offset and file name before
the length in version 2. A file is plain, or gzip with a member a record, and then read in ranges: a range holds the
members that start in it. A record that breaks off costs what follows it in its member, or in a plain file, alone.
What describes the file (`filedesc:`) is no record of a page, and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from tasks.sources.archive import Fault, Record
from tasks.sources.compression import DamageError, Packing, Unpacker, compression_of
from tasks.sources.members import PADDING, SLICE, Input, Lost, Member, Plain, members
from tasks.sources.text import day

_LOOK_BACK = 2**20
"""Bytes before a range from which its first member is sought, so that an ARC inside an ARC is none of the outer."""
_HEAD = 2**13
"""Bytes in which a header ends that a member begins with."""
_LINE = 2**16
"""Bytes of a header, at most."""
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,20}:")
_ABOUT = ("filedesc", "warcinfo")
"""Schemes of what tells of the file."""


class _Arc(Input):
    """A file in which members that begin with a header are records."""

    def begins(self, position: int, packing: Packing) -> bool | None:
        try:
            found = Unpacker(packing).decompress(self.read_at(position, _HEAD), _HEAD)
        except DamageError:
            return None
        line, end, _ = found.lstrip(PADDING).partition(b"\n")
        return bool(end) and _header(line) is not None


class _Stream:
    """Bytes of a stream: lines, and parts of a known length."""

    def __init__(self, stream: Member | Plain) -> None:
        self._stream, self._ready = stream, bytearray()
        self.at = 0
        """Bytes that were read."""

    def line(self) -> bytes:
        """The next line that is not blank, as much as there is of it; empty at the end."""
        while True:
            self._pass(len(self._ready) - len(self._ready.lstrip(PADDING)))
            if self._ready or not self._more():
                break
        while b"\n" not in self._ready and len(self._ready) < _LINE and self._more():
            pass
        return self._pass(self._ready.find(b"\n", 0, _LINE) + 1 or min(_LINE, len(self._ready)))

    def part(self, size: int, keep: int) -> tuple[bytes, int]:
        """The first `keep` of the next `size` bytes, and how many there are, fewer only at the end."""
        kept, left = bytearray(), size
        while left and (self._ready or self._more()):
            found = self._pass(min(left, len(self._ready)))
            kept += found[: keep - len(kept)]
            left -= len(found)
        return bytes(kept), size - left

    def _pass(self, size: int) -> bytes:
        found = bytes(self._ready[:size])
        del self._ready[:size]
        self.at += len(found)
        return found

    def _more(self) -> bool:
        found = self._stream.read(SLICE)
        self._ready += found
        return bool(found)


def records(file: IO[bytes], start: int, end: int, limit: int) -> Iterator[Record | Fault]:
    """The records of the members that start in [start, end), and the faults there; blocks are cut at `limit` bytes."""
    source = _Arc(file)
    first = source.past(0)
    if start == 0 and not source.read_at(first, 1):
        yield Fault("empty_file")
        return
    if compression_of(source.read_at(first, 16)) != "gz":
        if start == 0:
            yield from _of_plain(source, first, end, limit)
        return
    packing = Packing("gz")
    if start == 0 and source.begins(first, packing) is not True:
        onward = source.member(first, end, packing)
        yield Fault("unreadable", span=(onward or end) - first, lost=(onward or end) - first)
    unsound: list[tuple[int, int]] = []
    for position, member in members(source, max(0, start - _LOOK_BACK), end, packing):
        if isinstance(member, Lost):
            if position >= start:
                yield Fault(member.reason, offset=position, span=member.size, lost=member.size, unsound=unsound)
            unsound = []
            continue
        ends: list[int] = []
        for index, found in enumerate(_of_stream(_Stream(member), limit)):
            if isinstance(found, Fault):
                member.finish()
            if position < start or (member.broken and isinstance(found, Fault)):
                continue
            ends.append(found.offset + (found.span or 0))
            found.offset, found.span = position, member.end - position
            if isinstance(found, Record):
                found.index = index
            yield found
        unsound = member.unsound(position, ends)


def reread(file: IO[bytes], start: int, limit: int) -> Iterator[Record]:
    """The record at `start`, or all those of the member that starts there."""
    source = _Arc(file)
    plain = compression_of(source.read_at(start, 16)) != "gz"
    stream = _Stream(Plain(source, start) if plain else Member(source, start, Packing("gz")))
    for found in _of_stream(stream, limit):
        if isinstance(found, Record):
            yield found
        if plain:
            return


def _of_plain(source: Input, first: int, end: int, limit: int) -> Iterator[Record | Fault]:
    for found in _of_stream(_Stream(Plain(source, first)), limit):
        found.offset += first
        if isinstance(found, Fault):
            found.span = found.lost = end - found.offset
        yield found


def _of_stream(stream: _Stream, limit: int) -> Iterator[Record | Fault]:
    """The records of a stream; their offset and span count in it. After a fault nothing is known of what follows."""
    while line := stream.line():
        start = stream.at - len(line)
        header = _header(line.rstrip(b"\r\n")) if line.endswith(b"\n") else None
        if header is None:
            yield Fault("unreadable" if line.endswith(b"\n") or len(line) >= _LINE else "truncated", offset=start)
            return
        url, stored, media, length = header
        block, there = stream.part(length, min(length, limit))
        if there < length:
            yield Fault("truncated", url, offset=start)
            return
        if url.partition(":")[0].lower() not in _ABOUT:
            yield Record("response", url, stored, block, media, length, start, span=stream.at - start)


def _header(line: bytes) -> tuple[str, str | None, str, int] | None:
    """Address, day, type and length of a record; None for a line that is no header. Addresses and types may hold
    spaces, as they were written by careless crawlers."""
    parts = line.split(b" ")
    if not _SCHEME.match(line) or len(parts) < 5 or not re.fullmatch(rb"[0-9]{1,12}", parts[-1]):
        return None
    for place in range(2, len(parts) - 1):
        if re.fullmatch(rb"[0-9]{12,17}", parts[place]):
            stamp = parts[place].decode()
            known = day(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}") if stamp[0] in "12" else None
            media = parts[place + 1].decode(errors="replace").rstrip(";").lower()
            url = b" ".join(parts[: place - 1]).decode(errors="replace")
            return url, known, media, int(parts[-1])
    return None
