"""Elements of large XML files, cut out as bytes: `<page>...</page>` of a dump, one after the other.

Each is a record of its own, read and parsed alone, so that a damaged one costs itself alone and no entity can be
declared for it. Memory is bounded by the largest that is asked for. A file may be plain, compressed as a whole, or
bzip2 in pieces as Wikimedia writes it (multistream): its header in the first stream, so many pages in each that
follows, and then such a file is read from any stream that begins with an element.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from tasks.engine.reading import Part
from tasks.sources.compression import DamageError, Packing, Unpacked, Unpacker, compression_of, named
from tasks.sources.files import opened
from tasks.sources.members import BLOCK, Input, Lost, Member, members

HEAD = 2**18
"""Bytes at the beginning of a file in which its header is sought."""
_EDGE = 1024
"""Characters of a tag, at most."""
_FIRST = 2**20
"""Bytes of a bzip2 stream in which its first block ends."""


@dataclass
class Element:
    """An element, or what stands in the place of one."""

    offset: int
    """Byte of the file where it begins; of a compressed file counted in decompressed bytes, of one in pieces that of
    the stream it is in."""
    index: int
    """Its place in that stream; 0 elsewhere."""
    length: int
    """Its bytes."""
    data: bytes | None
    """None where it is larger than was asked for."""
    fault: str = ""
    """Why it is none: `truncated`, `not_xml`; `unreadable`, `window` or `bomb` of what cannot be decompressed."""
    lost: int = 0
    """Bytes of the file that cannot be read."""
    since: int | None = None
    """Of a file that is damaged, the byte from which on nothing vouches for the elements before this one."""
    unsound: list[tuple[int, int]] = field(default_factory=list)
    """Of one in pieces, these elements by offset and index."""


class _Pieces(Input):
    """A file of bzip2 streams: those that begin with an element are where reading may begin."""

    def __init__(self, file: IO[bytes], tag: str) -> None:
        super().__init__(file)
        self._begins = re.compile(rb"\s*<%s[\s>]" % tag.encode())

    def begins(self, position: int, packing: Packing) -> bool | None:
        try:
            found = Unpacker(packing).decompress(self.read_at(position, _FIRST), 256)
        except DamageError:
            return None
        return bool(self._begins.match(found))


@contextmanager
def _stream(path: str, window: int) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a file."""
    with opened(path) as file:
        kind = named(path)
        raw: Any = Unpacked(file, Packing(kind, window)) if kind else file
        yield raw


def head(path: str, window: int) -> bytes:
    """The first bytes of a file, fewer than HEAD where it ends or breaks off before."""
    found = b""
    with _stream(path, window) as stream:
        try:
            while len(found) < HEAD and (more := stream.read(HEAD - len(found))):
                found += more
        except (EOFError, DamageError):
            pass
    return found


def in_pieces(path: str, tag: str) -> bool:
    """Whether a file is bzip2 whose first stream holds the header alone, and whose second begins with an element."""
    if named(path) != "bz2":
        return False
    with opened(path) as file:
        source, unpacker = _Pieces(file, tag), Unpacker(Packing("bz2"))
        first = source.read_at(0, _FIRST)
        try:
            header = unpacker.decompress(first, HEAD)
        except DamageError:
            return False
        second = len(first) - len(unpacker.unused) if unpacker.eof else 0
        return b"<mediawiki" in header and second > 0 and source.begins(second, Packing("bz2")) is True


def elements(part: Part, tag: str, largest: int, window: int, root: str = "") -> Iterator[Element]:
    """The elements that begin in a part of a file, and the faults there. Elements of a file that is compressed and not
    in pieces are those of the part that begins at 0. Of a file whose elements are in a `root` that has no end, what
    stands behind its last element is one that is `truncated`."""
    if in_pieces(part.path, tag):
        yield from _of_pieces(part, tag, largest, root)
        return
    plain = named(part.path) is None
    if part.start and not plain:
        return
    with _stream(part.path, window) as stream:
        if plain and compression_of(stream.read(16)):  # seen at the beginning of each range, where no page begins so
            yield Element(0, 0, 0, None, "unreadable", part.end - part.start)
            return
        if plain:
            stream.seek(part.start)
        yield from _cut(stream, tag, largest, part.start, part.end if plain else sys.maxsize, part.end, root)


def reread(path: str, tag: str, offset: int, length: int, window: int) -> Iterator[bytes]:
    """The element at an offset, or all those of the piece there."""
    if in_pieces(path, tag):
        with opened(path) as file:
            member = Member(_Pieces(file, tag), offset, Packing("bz2"))
            yield from (each.data for each in _cut(member, tag, length) if each.data)
        return
    with _stream(path, window) as stream:
        if named(path) is None:
            stream.seek(offset)
        else:
            while offset and (passed := stream.read(min(offset, BLOCK))):
                offset -= len(passed)
        found = b""
        while len(found) < length and (more := stream.read(length - len(found))):
            found += more
        yield found


def _of_pieces(part: Part, tag: str, largest: int, root: str) -> Iterator[Element]:
    unsound: list[tuple[int, int]] = []
    with opened(part.path) as file:
        source = _Pieces(file, tag)
        for position, member in members(source, part.start, part.end, Packing("bz2")):
            if isinstance(member, Lost):
                yield Element(position, 0, member.size, None, member.reason, member.size, unsound=unsound)
                unsound = []
                continue
            ends: list[int] = []
            last = partial(_is_last, source, member)
            for index, found in enumerate(_cut(member, tag, largest, root=root, last=last)):
                ends.append(found.offset + found.length)
                if not (member.broken and found.fault == "truncated"):
                    found.offset, found.index = position, index
                    yield found
            unsound = member.unsound(position, ends)


def _is_last(source: Input, member: Member) -> bool:
    """Whether a file ends where a member does."""
    return source.past(member.end) >= source.size


def _cut(
    stream: Any,
    tag: str,
    largest: int,
    start: int = 0,
    end: int = sys.maxsize,
    size: int = 0,
    root: str = "",
    last: Callable[[], bool] = lambda: True,
) -> Iterator[Element]:
    """The elements of a stream whose first byte is that of `start`, of those that begin before `end`; `size` is that of
    the file.

    One in which another begins is `truncated`, an end without a beginning `not_xml`: nothing between is passed over
    without a word, but for the end of what began before a range. So is, behind the last element, a file whose `root`
    has no end, where the stream's end is the file's (`last`).
    """
    edge = re.compile(rb"<(/?)%s(?:\s[^<>]{0,999})?>|</%s\s*>" % (tag.encode(), (root or tag).encode()))
    ready, base, seen = bytearray(), start, start
    begun, ours = -1, start == 0
    unended = bool(root) and start == 0  # of a range, once an element begins in it: no other one tells of the end
    while True:
        fault, lost, since = "", 0, None
        try:
            more = stream.read(BLOCK)
        except EOFError:
            more, fault = b"", "truncated"
        except DamageError as error:
            more, fault, lost = b"", error.reason, max(0, size - error.at)
            since = error.since if fault == "unreadable" else None
        if not more:
            break
        ready += more
        for found in edge.finditer(ready, seen - base):
            place, seen, closes = base + found.start(), base + found.end(), bool(found[1])
            if found[1] is None:
                unended = unended and begun >= 0
                continue
            if begun >= 0:
                stop = seen if closes else place
                data = bytes(ready[begun - base : stop - base]) if stop - begun <= largest else None
                yield Element(begun, 0, stop - begun, data, "" if closes else "truncated")
            elif closes and ours and place < end:
                yield Element(place, 0, seen - place, None, "not_xml")
            begun, ours = -1 if closes else place, True
            if place >= end and not (closes and root):  # whether another one follows tells whose the file's end is
                return
            unended = unended or (bool(root) and not closes)
        seen = max(seen, base + len(ready) - _EDGE)
        kept = begun if begun >= 0 and seen - begun <= largest else seen
        del ready[: kept - base]
        base = kept
    if begun >= 0 or fault or (unended and last()):
        place = begun if begun >= 0 else seen
        yield Element(place, 0, base + len(ready) - place, None, fault or "truncated", lost, since)
