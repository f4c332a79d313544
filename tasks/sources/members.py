"""The members of a compressed file, found where they begin and read as streams; and a plain file as one.

A record's place must be known exactly, and a broken member may cost itself alone: so where members begin and end is
found here. A member that does not begin with a record goes on with the one before.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tasks.sources.compression import DamageError, Packing, Unpacker

BLOCK = 2**18
SLICE = 2**14
RECORD = b"WARC/"
"""How a record begins."""
PADDING = b"\0\t\n\r \xef\xbb\xbf"
_GZIP = Packing("gz")
_HEADS = {"gz": (2**11,), "zst": (2**11, 2**17 + 2**11)}
"""Bytes of a member that its first bytes are sought in; a block of zstd is decompressed when it is whole. Members of
other kinds are never taken for the beginning of a record: what they hold goes on from one to the next."""


class UnreachableError(RuntimeError):
    """A file's bytes cannot be had (now): not the doing of what is in them."""


class Input:
    """A file read forward, with the last block kept, so that members in one block are read once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._base = 0
        self._block = b""
        self._size = -1
        self._probe: tuple[Packing, Unpacker] | None = None

    def read_at(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`, fewer only at the end of the file."""
        offset = position - self._base
        if not 0 <= offset <= len(self._block):
            self._base, self._block, offset = position, b"", 0
            self._reach(self._file.seek, position)
        while len(self._block) - offset < size and (more := self._reach(self._file.read, BLOCK)):
            self._block = self._block[offset:] + more
            self._base, offset = self._base + offset, 0
        return self._block[offset : offset + size]

    def past(self, position: int) -> int:
        """Where, from `position` on, something else than padding begins; or the file's end."""
        while block := self.read_at(position, SLICE):
            found = block.lstrip(PADDING)
            position += len(block) - len(found)
            if found:
                break
        return position

    def beginning(self) -> bytes:
        """What the file begins with behind padding, as many bytes as RECORD has. Of a remote file these alone are asked
        for: its file system would read megabytes ahead."""
        fs = getattr(self._file, "fs", None)
        if fs is None:
            return self.read_at(self.past(0), len(RECORD))
        path = self._file.path  # type: ignore[attr-defined]  # fsspec's files have one
        found: bytes = self._reach(lambda end: fs.cat_file(path, 0, end), SLICE)
        return found.lstrip(PADDING)[: len(RECORD)]

    def _reach(self, method: Callable[[int], Any], argument: int) -> Any:
        try:
            return method(argument)
        except (OSError, ValueError) as error:
            raise UnreachableError(f"reading failed: {error}") from error

    @property
    def size(self) -> int:
        """Bytes of the file."""
        if self._size < 0:
            self._size = self._reach(lambda end: self._file.seek(0, end), io.SEEK_END)
            self._base, self._block = self._size, b""
        return self._size

    def begins(self, position: int, packing: Packing) -> bool | None:
        """Whether a member that begins with a record begins at `position`; None where no member does."""
        found = b""
        if not self._probe or self._probe[0] is not packing:
            self._probe = packing, Unpacker(packing)
        for size in _HEADS.get(packing.kind, ()):
            self._probe[1].restart()
            try:
                found = self._probe[1].decompress(self.read_at(position, size), len(RECORD))
            except DamageError:
                return None
            if found:
                break
        return found == RECORD

    def member(self, position: int, end: int, packing: Packing = _GZIP) -> int | None:
        """Start of the first member at or after `position` that begins with a record; those that start at or after
        `end` need not be found."""
        while position < end and (block := self.read_at(position, BLOCK)):
            for match in packing.magic.finditer(block):
                if self.begins(position + match.start(), packing):
                    return position + match.start()
            if len(block) < BLOCK:
                return None
            position += len(block) - 3
        return None


class Member:
    """One member as a stream, with those after it that do not begin with a record. Nothing is decompressed before it is
    asked for."""

    def __init__(self, source: Input, start: int, packing: Packing = _GZIP) -> None:
        self._input, self._packing = source, packing
        self._unpacker = Unpacker(packing)
        self.whole = 0
        """Bytes of members that ended as they should."""
        self.end = start
        """Where the next byte of the file is read."""
        self.broken = ""

    def unsound(self, start: int, ends: Sequence[int]) -> list[tuple[int, int]]:
        """Of the records of the stream that starts there, which end so in it, those that nothing vouches for, each as
        (start, index): where a member is damaged, all that it holds, as its checksum stands at its end."""
        first = bisect_right(ends, self.whole) if self.broken == "unreadable" else len(ends)
        return [(start, index) for index in range(first, len(ends))]

    def has(self, size: int) -> bool:
        """Whether so many bytes may follow; only reading tells."""
        return True

    def finish(self) -> None:
        """Read what is left, which tells whether it is damaged."""
        while self.read(BLOCK):
            pass

    def read(self, size: int) -> bytes:
        """Decompressed bytes, none at the end of the stream or where it breaks."""
        while not self.broken and (not self._unpacker.eof or self._goes_on()):
            data = self._input.read_at(self.end, SLICE) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not data:
                self.broken = self._unpacker.broken_off()
                break
            try:
                found = self._unpacker.decompress(data, size)
            except DamageError as error:
                self.broken = error.reason
                break
            self.end += len(data)
            if self._unpacker.eof:
                self.end -= len(self._unpacker.unused)
                self.whole = self._unpacker.unpacked
            if found:
                return found
        return b""

    def _goes_on(self) -> bool:
        """Whether another member follows that does not begin with a record; it is read next."""
        head = self._input.read_at(self.end, 16)
        if not self._packing.magic.match(head) or self._input.begins(self.end, self._packing) is not False:
            return False
        self._unpacker.renew()
        return True


@dataclass(frozen=True)
class Lost:
    """Bytes of a file that hold no member that can be read."""

    reason: str
    size: int


def members(source: Input, start: int, end: int, packing: Packing) -> Iterator[tuple[int, Member | Lost]]:
    """The members that begin in a range and what is lost after each, with where it begins. A member is read to its end
    before the next is asked for."""
    position = source.member(start, end, packing)
    while position is not None and position < end:
        member = Member(source, position, packing)
        yield position, member
        resume = position + 1 if member.broken else source.past(member.end)
        position = source.member(resume, end, packing)
        size = (end if position is None else position) - resume
        if member.broken or (size > 0 and source.read_at(resume, 1)):
            yield resume, Lost(member.broken or "unreadable", max(0, size))


class Plain:
    """An uncompressed file from a position on, as a stream."""

    def __init__(self, source: Input, start: int) -> None:
        self._input = source
        self._position = start

    def has(self, size: int) -> bool:
        """Whether so many bytes follow."""
        return self._input.size - self._position >= size

    def read(self, size: int) -> bytes:
        found = self._input.read_at(self._position, size)
        self._position += len(found)
        return found
