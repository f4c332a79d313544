"""The records of WARC files (ISO 28500) that may hold pages: uncompressed, or member by member of gzip or zstd.

fastwarc parses the records' headers; where records and members begin and end is found here, since a record's place must
be known exactly, a broken member costs itself alone, and a file gives the same records however it is cut: a range holds
the members that start in it. A member that does not begin with a record goes on with the one before, so all records of
a file that was compressed as a whole (also by bzip2 or xz), or in blocks (bgzip), are those of the first range. Names
and types in headers are compared without their case; between records and members, white space, zeros and byte order
marks are passed over.

What is no whole record is a fault: `truncated` where the file ends in the middle of one, `no_length` and `no_type`
where its header does not tell its length or its type, `unreadable` for bytes that are none, `window` and `bomb` for
members that take more memory, or become more, than is allowed. A fault costs no record of another member, or of an
uncompressed file; inside a member, what follows it is lost with it, unless only its type is missing. Broken members may
lie inside each other; each byte is decompressed a few times at most. A file without any bytes is one fault
(`empty_file`), and so are one in the format before WARC (`arc`) and one that begins with text or metadata that others
extracted from responses (`no_pages`: WET and WAT).
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from fastwarc.warc import ArchiveIterator, WarcRecord

from tasks.sources.compression import WINDOW, DamageError, Packing, Unpacker, compression_of, dictionary
from tasks.sources.members import BLOCK, PADDING, RECORD, SLICE, Input, Member, Plain
from tasks.sources.text import day

_LOOK_BACK = 2**20
"""Bytes before a range from which its first member is sought, so that a WARC stored inside a record of a WARC is not
taken for members of the outer one: following the members from there leads past it."""
_HEAD = 2**18
"""Bytes in which a record's header has to end."""
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FIELDS = (
    *(b"Content-Length", b"WARC-Type", b"WARC-Target-URI", b"WARC-Date", b"Content-Type"),
    b"WARC-Identified-Content-Language",
)
_NAMES = {name.lower(): name for name in _FIELDS}
_NAME = re.compile(rb"^(?:" + b"|".join(_NAMES) + rb")(?=[ \t]*:)", re.MULTILINE | re.IGNORECASE)
PAGES = ("response", "resource")
"""Types of the records that may hold a page."""
TEXTS = ("conversion",)
"""Types of those that hold the text that others made of one."""
_ABOUT = ("warcinfo", "request", "metadata", "revisit")
"""Types of those that tell of other records, and hold none."""
_DERIVED = {"warcinfo", "metadata", "conversion"}
_FEW = 8
"""Records at the beginning of a file that tell what kind of file it is."""
_OVERLAPPING = 8
"""Broken members that may hold a byte, at most: one that is sought inside another may be the archive's, and the other
damaged so that it runs on over it."""


@dataclass
class Record:
    """A whole record."""

    kind: str
    """Its type, lower case."""
    url: str
    date: str | None
    """ISO 8601 day."""
    block: bytes
    """Of a response, the HTTP message, of a resource the page, of a conversion the text, cut at the reader's limit;
    empty of types that are not wanted."""
    media: str
    """Its Content-Type."""
    length: int
    """Bytes of the block."""
    offset: int
    index: int = 0
    """Place among the records of one stream of gzip members."""
    span: int = 0
    """Bytes of the file from `offset` that hold the record."""
    languages: str = ""
    """Those that the crawl identified, as Common Crawl tells: ISO 639-3, the likeliest first, a comma between."""


@dataclass
class Fault:
    """A stretch of a file that is no whole record."""

    reason: str
    url: str = ""
    """Of the record that it would have been, where its header tells."""
    offset: int = 0
    span: int | None = None
    """Bytes of the file from `offset` to where reading goes on; None where nothing is passed over."""
    lost: int = 0
    """Those of them that are damaged."""
    unsound: list[tuple[int, int]] = field(default_factory=list)
    """Records before it that may have been damaged with it, by offset and index: their member's checksum is at its
    end."""


class Scan:
    """A walk through the records of a stream."""

    def __init__(self, stream: Member | Plain, wanted: Collection[str] = PAGES) -> None:
        """`wanted`: types of the records whose blocks are kept."""
        self._stream, self._wanted = stream, wanted
        self._ready = b""
        self.start = self.end = 0
        """Where the record that was found last starts in the stream, and where it ends."""
        self.lost = False
        """Whether it is not known where the next record starts."""
        self.next = 0
        """Then, where in the stream it may be sought from: none starts before."""

    def records(self, limit: int) -> Iterator[Record | Fault]:
        """Records of all types, and faults; their `offset` and `span` count in the stream."""
        while not self.lost and self._reaches_record():
            found = self._record(limit)
            if isinstance(found, Fault):
                self.lost = found.reason != "no_type"
                found.offset, found.span = self.start, self.end - self.start
            yield found

    def _record(self, limit: int) -> Record | Fault:
        """The record, read to its end, unless it ends before its header says so, or that does not tell its end."""
        while not (end := _HEADER_END.search(self._ready)) and len(self._ready) < _HEAD and self._more():
            pass
        self.next = self.start + 1
        if not self._ready.startswith(RECORD[: len(self._ready)]):
            return Fault("unreadable")
        # Of records that begin in what no header ends, the last alone can have one.
        header = self._ready[: end.end()] if end else self._ready
        self.next = self.start + max(1, header.rfind(b"\n" + RECORD))
        if not end:
            return Fault("truncated" if len(self._ready) < _HEAD else "unreadable")
        head, _ = self._read_ahead(end.end(), end.end())
        parsed = _parsed(head)
        if parsed is None:
            return Fault("unreadable")
        declared, kind, url, stamp, media, languages = (parsed.headers.get(name.decode()) or "" for name in _FIELDS)
        url = url.removeprefix("<").removesuffix(">")
        if not re.fullmatch("[0-9]{1,18}", declared):
            return Fault("no_length", url)
        length = int(declared)
        kind = kind.lower()
        self.next = self.start + 1
        if not self._stream.has(length - len(self._ready)):
            return Fault("truncated", url)
        block, there = self._read_ahead(length, min(length, limit) if kind in self._wanted else 0)
        if there != length:
            return Fault("truncated", url)
        if not kind:
            return Fault("no_type", url)
        span = self.end - self.start
        return Record(kind, url, day(stamp), block, media, length, self.start, span=span, languages=languages)

    def _reaches_record(self) -> bool:
        """Pass over padding; False at the end of the stream."""
        while not (found := self._ready.lstrip(PADDING)):
            self.end += len(self._ready)
            self._ready = b""
            if not self._more():
                return False
        self.end += len(self._ready) - len(found)
        self.start, self._ready = self.end, found
        return True

    def _more(self) -> bool:
        found = self._stream.read(SLICE)
        self._ready += found
        return bool(found)

    def _read_ahead(self, size: int, keep: int) -> tuple[bytes, int]:
        """The first `keep` of the next `size` bytes, and how many there are, fewer only at the end of the stream."""
        kept, left = list[bytes](), size
        while left and (self._ready or self._more()):
            part, self._ready = self._ready[:left], self._ready[left:]
            kept.append(part[:keep])
            keep -= len(kept[-1])
            left -= len(part)
        self.end += size - left
        return b"".join(kept), size - left


def records(
    file: IO[bytes],
    start: int,
    end: int,
    limit: int,
    kind: str | None = None,
    window: int = WINDOW,
    wanted: Collection[str] = PAGES,
) -> Iterator[Record | Fault]:
    """The records of the members that start in [start, end), and the faults there, in order, but for those that tell of
    other records alone (requests, revisits, ...). Of the types `wanted` the blocks are kept; a file that begins with
    others only is `no_pages`.

    Blocks are cut at `limit` bytes. `kind` is the file's compression; None: what it begins like. An uncompressed WARC
    is not cut into ranges: all its records are those of start 0.
    """
    source = Input(file)
    packing = _packing(source, kind, window)
    if start == 0:
        if reason := _foreign(source.read_at(source.past(0), BLOCK), packing):
            yield Fault(reason, span=end - start, lost=end - start)
            return
        if _has_none(source, packing, wanted):
            yield Fault("no_pages")
    elif source.beginning() == RECORD:
        return  # whatever its name says: what is compressed in it is a record's
    for found in _of_range(source, start, end, limit, packing, wanted):
        if isinstance(found, Fault) or found.kind not in _ABOUT or found.kind in wanted:
            yield found


def reread(
    file: IO[bytes],
    start: int,
    limit: int,
    kind: str | None = None,
    window: int = WINDOW,
    wanted: Collection[str] = PAGES,
) -> Iterator[Record]:
    """The record at `start`, or all those in the stream of members that starts there, their blocks cut at `limit`."""
    source = Input(file)
    plain = source.read_at(start, len(RECORD)) == RECORD
    stream = Plain(source, start) if plain else Member(source, start, _packing(source, kind, window))
    for found in Scan(stream, wanted).records(limit):
        if isinstance(found, Record):
            yield found
        if plain:
            return


def _packing(source: Input, kind: str | None, window: int) -> Packing:
    """How a file is compressed; one that is plain, or begins with garbage, as if by gzip."""
    kind = kind or compression_of(source.read_at(source.past(0), 16)) or "gz"
    return Packing(kind, window, dictionary(source.read_at) if kind == "zst" else None)


def _foreign(head: bytes, packing: Packing) -> str:
    """Why a file that begins so holds no WARC at all; empty where it may."""
    if packing.magic.match(head):
        unpacker = Unpacker(packing)
        try:
            found = unpacker.decompress(head, 16)
        except DamageError:
            return ""
        if not found and not (unpacker.eof and not unpacker.unused):
            return ""
        head = found
    return "empty_file" if not head else "arc" if head.startswith(b"filedesc:") else ""


def _has_none(source: Input, packing: Packing, wanted: Collection[str]) -> bool:
    """Whether a file begins with records made from responses that are elsewhere, or, where these are wanted, with
    others."""
    kinds: set[str] = set()
    for found in islice(_of_range(source, 0, sys.maxsize, 0, packing, ()), _FEW):
        if isinstance(found, Record):
            kinds.add(found.kind)
            if found.kind in wanted or (wanted != TEXTS and found.kind not in _DERIVED):
                return False
    return bool(kinds - {"warcinfo"})


def _of_range(
    source: Input, start: int, end: int, limit: int, packing: Packing, wanted: Collection[str]
) -> Iterator[Record | Fault]:
    """Records of all types, and faults."""
    position = source.member(max(0, start - _LOOK_BACK), end, packing) if start else source.past(0)
    if position is not None and start == 0 and source.read_at(position, len(RECORD)) == RECORD:
        yield from _of_plain(source, end, limit, wanted)
        return
    ends: list[int] = []
    while position is not None and position < end and source.read_at(position, 1):
        member = Member(source, position, packing)
        fault: Fault | None = None
        for found in _of_member(member, position, limit, wanted):
            if position >= start:
                if fault:
                    yield fault
                    fault = None
                if isinstance(found, Fault):
                    fault = found
                    fault.offset, fault.span = position, member.end - position
                else:
                    yield found
        if member.broken:
            ends = [*(other for other in ends if other > position), member.end]
            onward = position + 1 if len(ends) < _OVERLAPPING else max(position + 1, min(ends))
            position = source.member(onward, end, packing)
        else:
            position = source.past(member.end)
        if fault:
            behind = end if position is None else min(position, end)
            fault.span = max(0, behind - fault.offset)
            fault.lost = max(0, behind - member.end) if member.broken else 0
            yield fault


def _of_member(member: Member, start: int, limit: int, wanted: Collection[str]) -> Iterator[Record | Fault]:
    """Each is held back until the stream goes on after it, or the members that hold it have ended as they should."""
    scan = Scan(member, wanted)
    held: Record | Fault | None = None
    held_end = 0
    ends: list[int] = []
    for index, found in enumerate(scan.records(limit)):
        if held:
            yield held
        if isinstance(found, Fault) and scan.lost:
            member.finish()
            found.reason = member.broken or found.reason
            found.unsound = member.unsound(start, ends)
            yield found
            return
        ends.append(scan.end)
        if isinstance(found, Record):
            found.offset, found.index, found.span = start, index, member.end - start
        held, held_end = found, scan.end
    if held and (not member.broken or held_end <= member.whole):
        if isinstance(held, Record) and not member.broken:
            held.span = member.end - start
        yield held
        held = None
    if member.broken:
        yield Fault(member.broken, held.url if held else "", unsound=member.unsound(start, ends))


def _of_plain(source: Input, end: int, limit: int, wanted: Collection[str]) -> Iterator[Record | Fault]:
    position = 0
    while position >= 0:
        scan = Scan(Plain(source, position), wanted)
        fault: Fault | None = None
        for found in scan.records(limit):
            found.offset += position
            if isinstance(found, Fault) and scan.lost:
                fault = found
                break
            yield found
        if not fault:
            return
        position = _next_plain(source, position + scan.next)
        fault.span = fault.lost = max(0, (position if position >= 0 else end) - fault.offset)
        yield fault


def _next_plain(source: Input, position: int) -> int:
    """Start of the first record after `position`; -1 where there is none."""
    while block := source.read_at(position, BLOCK):
        at = block.find(b"\n" + RECORD)
        if at >= 0:
            return position + at + 1
        position += max(1, len(block) - len(RECORD))
    return -1


def _parsed(head: bytes) -> WarcRecord | None:
    """A record of a header alone; None where it is none. fastwarc wants CRLF, and compares names with their case."""
    cased = _NAME.sub(lambda name: _NAMES[name[0].lower()], head.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    try:
        return next(ArchiveIterator(io.BytesIO(cased), parse_http=False, stream_detect=False), None)
    except OSError:
        return None
