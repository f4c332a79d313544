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
        cutter = _Cutter(tag, largest, root, part.start, part.end if plain else sys.maxsize)
        yield from cutter.elements(stream, part.end)


def reread(path: str, tag: str, offset: int, length: int, window: int) -> Iterator[bytes]:
    """The element at an offset, or all those of the piece there."""
    if in_pieces(path, tag):
        with opened(path) as file:
            member = Member(_Pieces(file, tag), offset, Packing("bz2"))
            yield from (each.data for each in _Cutter(tag, length).elements(member) if each.data)
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
            for index, found in enumerate(_Cutter(tag, largest, root).elements(member, last=last)):
                ends.append(found.offset + found.length)
                if not (member.broken and found.fault == "truncated"):
                    found.offset, found.index = position, index
                    yield found
            unsound = member.unsound(position, ends)


def _is_last(source: Input, member: Member) -> bool:
    """Whether a file ends where a member does."""
    return source.past(member.end) >= source.size


class _Cutter:
    """Cuts elements out of a stream whose first byte is that of `start`: those that begin before `end`, with their
    bytes where these are `largest` at most.

    Nothing between two elements is passed over without a word, but for the end of one that began before `start`. An
    element in which another begins is `truncated`, an end without a beginning `not_xml`. So that a file that breaks off
    between two elements is found out, too, what stands behind the last one is `truncated` where the file's `root` has
    no end.

    Of `A</p> <p>B</p> </p> <p>C <p>D</p> <p>E`, read from the middle of a file on:

    - `</p>` behind A: passed over, as it ends what began before;
    - `<p>B</p>`: an element;
    - `</p>` behind it: `not_xml`, as nothing has begun;
    - `<p>C `: `truncated`, as another begins in it;
    - `<p>D</p>`: an element;
    - `<p>E`: `truncated`, as the stream ends in it; or the reader's own fault, where the stream is damaged there.

    With `end` at D, the elements are those up to C: at `<p>` of D, C has ended, and what follows is another range's.
    """

    def __init__(self, tag: str, largest: int, root: str = "", start: int = 0, end: int = sys.maxsize) -> None:
        names = tag.encode(), (root or tag).encode()
        self._tags = re.compile(rb"<(/?)%s(?:\s[^<>]{0,999})?>|</%s\s*>" % names)
        """Beginnings (group 1 is empty) and ends ("/") of elements, and the end of the root (no group 1)."""
        self._largest, self._root, self._end = largest, root, end
        self._ready, self._base = bytearray(), start
        """Bytes that may still be part of an element, and where the first one is."""
        self._searched = start
        """Up to where tags have been found."""
        self._begun: int | None = None
        """Where the element begins that has no end so far."""
        self._ours = start == 0
        """Whether a tag without the other one is a fault of this range, and not the rest of what began before it."""
        self._unended = bool(root) and start == 0
        """Whether an end of the root is awaited; of a range, once an element begins in it: no other one says that it is
        missing."""
        self._done = False

    def elements(self, stream: Any, size: int = 0, last: Callable[[], bool] = lambda: True) -> Iterator[Element]:
        """`size` is that of the file; `last` says, at the end of the stream, whether the file ends there."""
        while not isinstance(more := _read(stream, size), _End):
            self._ready += more
            yield from self._cut()
            if self._done:
                return
            self._forget()
        if self._begun is not None or more.fault or (self._unended and last()):
            place = self._searched if self._begun is None else self._begun
            length = self._base + len(self._ready) - place
            yield Element(place, 0, length, None, more.fault or "truncated", more.lost, more.since)

    def _cut(self) -> Iterator[Element]:
        """The elements that the tags end which have not been seen so far."""
        for tag in self._tags.finditer(self._ready, self._searched - self._base):
            place, self._searched = self._base + tag.start(), self._base + tag.end()
            if tag[1] is None:
                self._unended = self._unended and self._begun is not None
                continue
            closes = tag[1] == b"/"
            if self._begun is not None:
                yield self._element(self._begun, place, closes)
            elif closes and self._ours and place < self._end:
                yield Element(place, 0, self._searched - place, None, "not_xml")
            self._begun, self._ours = None if closes else place, True
            if place >= self._end and not (closes and self._root):  # whether one follows says whose the file's end is
                self._done = True
                return
            self._unended = self._unended or (bool(self._root) and not closes)

    def _element(self, begun: int, place: int, closes: bool) -> Element:
        """What began at `begun` and ends with the tag at `place`, or before it where that begins another one."""
        stop = self._searched if closes else place
        whole = stop - begun <= self._largest
        data = bytes(self._ready[begun - self._base : stop - self._base]) if whole else None
        return Element(begun, 0, stop - begun, data, "" if closes else "truncated")

    def _forget(self) -> None:
        """Keep the bytes of an element that may still be small enough, or else those in which a tag may begin."""
        self._searched = max(self._searched, self._base + len(self._ready) - _EDGE)
        kept = self._searched
        if self._begun is not None and self._searched - self._begun <= self._largest:
            kept = self._begun
        del self._ready[: kept - self._base]
        self._base = kept


@dataclass(frozen=True)
class _End:
    """How a stream ends: as it should, or with an element's `fault`, `lost` and `since`."""

    fault: str = ""
    lost: int = 0
    since: int | None = None


def _read(stream: Any, size: int) -> bytes | _End:
    """The next bytes of a stream of a file of so many bytes, or how it ends."""
    try:
        return stream.read(BLOCK) or _End()
    except EOFError:
        return _End("truncated")
    except DamageError as error:
        since = error.since if error.reason == "unreadable" else None
        return _End(error.reason, max(0, size - error.at), since)
