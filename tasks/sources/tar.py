"""The files of a tar archive of anyone's making, one after the other, as `tar` writes them (ustar, GNU, pax)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = 512
_NAME = 4096
"""Bytes of a long name, at most."""
_PATH = re.compile(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n")


class TarError(ValueError):
    """What follows is no file of an archive; `truncated` or `unreadable`."""


@dataclass(frozen=True)
class Member:
    name: str
    start: int
    """Where its bytes begin in the archive."""
    size: int


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is an archive."""
    return len(head) >= BLOCK and _sums(head[:BLOCK])


def members(file: IO[bytes], alone: bool = False) -> Iterator[Member]:
    """The plain files of an archive, from where `file` stands on; between two it may be read anywhere. One that stands
    `alone`, where nothing else tells that it is whole, has to end as archives do, and others may follow it. Raises
    TarError."""
    place, name, ended = file.tell(), "", not alone
    while header := _read(file, place, BLOCK):
        if not header.strip(b"\0"):
            if not alone:
                return
            ended, place = True, _past_zeros(file, place)
            continue
        ended = not alone
        if len(header) < BLOCK:
            raise TarError("truncated")
        if not _sums(header):
            raise TarError("unreadable")
        size, kind = _number(header[124:136]), header[156:157]
        if size is None:
            raise TarError("unreadable")
        start = place + BLOCK
        place = start + -(-size // BLOCK) * BLOCK
        if kind in (b"L", b"x"):
            data = _read(file, start, min(size, _NAME))
            path = _PATH.search(data)
            name = _text(data if kind == b"L" else path[1] if path else b"")
        elif kind in (b"0", b"\0", b"7"):
            prefix = _text(header[345:500]) if header[257:262] == b"ustar" else ""
            yield Member(name or "/".join(filter(None, (prefix, _text(header[:100])))), start, size)
            name = ""
        elif kind != b"g":
            name = ""
    if not ended or place > file.seek(0, io.SEEK_END):
        raise TarError("truncated")


def _past_zeros(file: IO[bytes], place: int) -> int:
    """The first block from a place on that holds something else, or the end."""
    while block := _read(file, place, 2**16):
        zeros = len(block) - len(block.lstrip(b"\0"))
        place += zeros if zeros == len(block) else zeros // BLOCK * BLOCK
        if zeros < len(block):
            break
    return place


def _read(file: IO[bytes], place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")


def _number(data: bytes) -> int | None:
    if data[0] & 0x80:
        return int.from_bytes(data[-8:]) if data[0] == 0x80 and data[4] < 0x40 else None
    digits = data.strip(b"\0 ")
    return int(digits, 8) if re.fullmatch(rb"[0-7]{1,12}", digits) else None


def _sums(header: bytes) -> bool:
    """Whether the sum in a header is that of its bytes."""
    stated = _number(header[148:156])
    return stated == sum(header) - sum(header[148:156]) + 8 * 32
