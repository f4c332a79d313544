"""Compressed bytes of anyone's making, decompressed a piece at a time: gzip, zstd, bzip2 and xz.

A file is made of members (zstd: frames; bzip2 and xz: streams), one after the other. Memory is bounded by the `window`
that a source allows, and time by what was read: bytes that become more than `ALLOWANCE` and `RATIO` times their number
are a bomb.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Protocol

import zstandard

ALLOWANCE = 64 * 2**20
"""Bytes that compressed ones may become, however few they are."""
RATIO = 100
"""Bytes that each compressed one may become beyond that; text becomes a tenth of it."""
WINDOW = 2**27
"""Bytes that a decompressor may look back by default: what `zstd -d` allows without `--long`."""
_PADDING = b"\0\t\n\r "
_SLICE = 2**12
_SIP = 2**9
"""Bytes of zstd decompressed at a time: they become 16 MiB at most."""
_NEAR = 2**18
"""Bytes by which the length of a gzip member whose end is there may be wrong, at most: what a block becomes."""
_DICTIONARY = 2**24
"""Bytes of a dictionary, at most."""
_KINDS = {"gz": "gz", "zst": "zst", "zstd": "zst", "bz2": "bz2", "xz": "xz"}
"""Kinds of compression by the end of a file's name."""
_MAGIC = {
    "gz": re.compile(rb"\x1f\x8b\x08"),
    "zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "bz2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
}
"""How members begin."""


class DamageError(ValueError):
    """Bytes that cannot be decompressed, after `at` bytes of a file; `reason`: `unreadable`, `window` or `bomb`. For
    what became of them from byte `since` on nothing vouches: a member's checksum stands at its end."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.at = self.since = 0


class _Engine(Protocol):
    """What bz2 and lzma call a decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, size: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._engine = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def needs_input(self) -> bool:
        return not self._engine.eof and not self._engine.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._engine.decompress(self._engine.unconsumed_tail + data, size)


class _Zstd:
    def __init__(self, decompressor: zstandard.ZstdDecompressor) -> None:
        self._engine = decompressor.decompressobj()
        self._rest = self._ready = memoryview(b"")

    @property
    def eof(self) -> bool:
        return self._engine.eof and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._engine.eof and not self._ready and not self._rest

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data + bytes(self._rest)

    def decompress(self, data: bytes, size: int) -> bytes:
        if data:
            self._rest = memoryview(bytes(self._rest) + data)
        while self._rest and not self._ready and not self._engine.eof:
            sip, self._rest = self._rest[:_SIP], self._rest[_SIP:]
            self._ready = memoryview(self._engine.decompress(sip))
        found, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return found


@dataclass(frozen=True)
class Packing:
    """How a file is compressed."""

    kind: str
    window: int = WINDOW
    dictionary: zstandard.ZstdCompressionDict | None = None

    @property
    def magic(self) -> re.Pattern[bytes]:
        return _MAGIC[self.kind]

    def engines(self) -> Callable[[], _Engine]:
        """What makes an engine for each member, of which one at a time is used."""
        match self.kind:
            case "gz":
                return _Gzip
            case "zst":  # takes as long to make as a small frame to decompress
                made = zstandard.ZstdDecompressor(dict_data=self.dictionary, max_window_size=self.window)
                return partial(_Zstd, made)
            case "bz2":
                return bz2.BZ2Decompressor
        return partial(lzma.LZMADecompressor, memlimit=2 * self.window)


def named(path: str) -> str | None:
    """The kind of compression that a file's name tells; None for a plain one."""
    return _KINDS.get(path.rpartition(".")[2].lower())


def compression_of(head: bytes) -> str | None:
    """The kind of compression of a file that begins so; None for a plain one."""
    return next((kind for kind, magic in _MAGIC.items() if magic.match(head)), None)


def dictionary(read_at: Callable[[int, int], bytes]) -> zstandard.ZstdCompressionDict | None:
    """The dictionary that a file of zstd frames begins with, in a skippable frame (IIPC's .warc.zst); None without one.

    `read_at` gives so many bytes of the file from a position on."""
    head = read_at(0, 8)
    if head[:4] != b"\x5d\x2a\x4d\x18" or len(head) < 8 or (size := struct.unpack("<I", head[4:])[0]) > _DICTIONARY:
        return None
    data = read_at(8, size)
    try:
        if _MAGIC["zst"].match(data):
            data = Unpacker(Packing("zst", 2**23)).decompress(data, _DICTIONARY)
        found = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)
        zstandard.ZstdDecompressor(dict_data=found).decompressobj()  # a damaged one is found out here
        return found
    except (DamageError, zstandard.ZstdError):
        return None


class Unpacker:
    """Decompresses members of a file, one after the other."""

    def __init__(self, packing: Packing) -> None:
        self._engines = packing.engines()
        self._sized = packing.kind == "gz"
        self.restart()

    def restart(self) -> None:
        """Begin with another file, or another place."""
        self._fed = 0
        self.unpacked = 0
        """Bytes that all members became."""
        self._last = b""
        self.renew()

    def renew(self) -> None:
        """Begin the next member."""
        self._engine = self._engines()
        self.member = self.unpacked
        """Where it begins among these bytes."""
        self.eof, self.needs_input = False, True

    @property
    def unused(self) -> bytes:
        """At the end of a member, what it was given beyond that."""
        return self._engine.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` bytes of what `data`, and what was given before, become. Raises DamageError."""
        try:
            found = self._engine.decompress(data, size)
        except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError) as error:  # bz2 raises OSError
            large = "too much memory" in str(error) or "Memory usage limit" in str(error)
            raise DamageError("window" if large else "unreadable", str(error)) from error
        self.eof, self.needs_input = self._engine.eof, self._engine.needs_input
        self._last = (self._last + data[-4:])[-4:]
        self._fed += len(data) - (len(self.unused) if self.eof else 0)
        self.unpacked += len(found)
        if self.unpacked > ALLOWANCE + RATIO * self._fed:
            raise DamageError("bomb", f"{self._fed:,} bytes become more than {self.unpacked:,}")
        return found

    def broken_off(self) -> str:
        """Why a member has not ended though its file has: `truncated`; `unreadable` where the file ends with how many
        bytes a gzip member is of, so that its end is there, and a wrong bit hides it."""
        found = self.unpacked - self.member
        away = (found - int.from_bytes(self._last, "little")) % 2**32
        return "unreadable" if self._sized and min(away, 2**32 - away) < min(_NEAR, found // 2) else "truncated"


class Unpacked(io.RawIOBase):
    """The decompressed bytes of a file; white space and zeros between members are passed over.

    Reading raises DamageError, or EOFError where the last member breaks off: the libraries' own streams pass over that
    (zstandard), or notice it before they have given what came before (gzip).
    """

    def __init__(self, file: IO[bytes], packing: Packing) -> None:
        super().__init__()
        self._file = file
        self._unpacker = Unpacker(packing)
        self._start = 0
        """Where in the file the bytes begin that were read last."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = b""
        while not found:
            data = b""
            if self._unpacker.eof or self._unpacker.needs_input:
                data = self._unpacker.unused.lstrip(_PADDING) if self._unpacker.eof else b""
                while not data and (more := self._file.read(_SLICE)):
                    self._start = self._file.tell() - len(more)
                    data = more.lstrip(_PADDING) if self._unpacker.eof else more
                if not data:
                    if self._unpacker.eof:
                        return 0
                    if self._unpacker.broken_off() == "truncated":
                        raise EOFError
                    raise self._placed(DamageError("unreadable", "a member does not end where its file does"))
                if self._unpacker.eof:
                    self._unpacker.renew()
            try:
                found = self._unpacker.decompress(data, len(buffer))
            except DamageError as error:
                self._placed(error)
                raise
        buffer[: len(found)] = found
        return len(found)

    def _placed(self, error: DamageError) -> DamageError:
        error.at, error.since = self._start, self._unpacker.member
        return error
