"""Files of records, compressed in every way, and damaged where the compression has its structure."""

from __future__ import annotations

import bz2
import lzma
import random
import struct
import zlib
from collections.abc import Callable

import zstandard

from tests.tasks.sources.mutations import flipped


def _gz(data: bytes) -> bytes:
    return zlib.compress(data, 1, 31)


ONE: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "gz": _gz,
    "zst": zstandard.compress,
    "bz2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
}


def packed(rng: random.Random, records: list[bytes]) -> tuple[bytes, str, str]:
    """A file of the records, the end of its name, and what was done to it."""
    suffix = rng.choice(["", "gz", "gz", "gz", "zst", "zst", "bz2", "xz"])
    each = rng.random() < 0.6
    pieces = records if each else [b"".join(records)]
    members, done = [ONE[suffix](piece) for piece in pieces], "each" if each else "whole"
    if suffix in DAMAGES and rng.random() < 0.5:
        damage = rng.choice(DAMAGES[suffix])
        at = rng.randrange(len(members))
        members[at] = damage(rng, pieces[at], members[at])
        done += f" {damage.__name__}"
    data = b"".join(members)
    if rng.random() < 0.25:
        change = rng.choice([flipped, cut, padded, spliced])
        data, done = change(rng, data), f"{done} {change.__name__}"
    if rng.random() < 0.05:
        suffix, done = rng.choice(list(ONE)), f"{done} named {suffix}"
    if rng.random() < 0.03:
        data, done = ONE[rng.choice(list(ONE))](data), f"{done} packed once more"
    return data, suffix, done


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def padded(rng: random.Random, data: bytes) -> bytes:
    padding = rng.choice([b"\0", b"\r\n", b" ", b"\xef\xbb\xbf", b"\xff", b"WARC/", b"\x1f\x8b\x08"])
    padding *= rng.choice([1, 100, 50_000])
    return padding + data if rng.random() < 0.5 else data + padding


def spliced(rng: random.Random, data: bytes) -> bytes:
    """Its own bytes again in another place, or those of another compression."""
    at, start = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    other = data[start : start + 5000] if rng.random() < 0.7 else ONE[rng.choice(list(ONE))](b"{}\n" * 100)
    return data[:at] + other + data[at:]


# -- gzip --------------------------------------------------------------------------------------------------------------


def truncated(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    return member[: rng.randrange(len(member))]


def doubled(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    return member * rng.choice([2, 3, 50])


def twice(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    return _gz(member)


def headed(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """FEXTRA, FNAME and FCOMMENT of many bytes, some without an end, and flags that nobody gave a meaning."""
    flags = rng.randrange(256)
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    if flags & 4:
        extra = rng.choice([0, 10, 65535])
        head += struct.pack("<H", extra) + bytes(rng.choice([extra, extra, extra // 2]))
    for flag in (8, 16):
        if flags & flag:
            head += b"n" * rng.choice([1, 3000, 200_000]) + rng.choice([b"\0", b"\0", b""])
    if flags & 2:
        head += struct.pack("<H", (zlib.crc32(head) & 0xFFFF) ^ rng.choice([0, 0, 1]))
    return head + member[10:]


def overlapped(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """Stored blocks that run on over what follows, hundreds in each other."""
    begun = piece[: rng.choice([6, 40, 200])]
    size = 15 + len(begun)
    piled = b""
    for place in range(number := rng.choice([1, 10, 300])):
        rest = min(65535, (number - place) * size + len(member) * rng.randint(0, 2) - 15)
        piled += b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + struct.pack("<BHH", 0, max(0, rest), max(0, rest) ^ 0xFFFF) + begun
    return piled + member


def ended_wrongly(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    return member[: -rng.choice([1, 4, 8])] + rng.randbytes(rng.choice([0, 4, 8]))


def empties(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """Members of nothing, and empty blocks, before the record."""
    stream = zlib.compressobj(1, zlib.DEFLATED, 31)
    blocks = b"".join(stream.flush(zlib.Z_FULL_FLUSH) for _ in range(rng.choice([1, 5000])))
    return rng.choice([_gz(b"") * rng.choice([1, 5000]), blocks + stream.compress(piece) + stream.flush()]) + member


def bomb(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    begun = piece[: rng.randrange(len(piece) + 1)]
    data = stream.compress(begun) + b"".join(stream.compress(bytes(2**20)) for _ in range(rng.choice([1, 20, 90])))
    return data + stream.flush()


# -- zstd --------------------------------------------------------------------------------------------------------------


def windowed(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """A window of up to 4 TiB, in a frame that needs none of it, or that is damaged by saying so."""
    if rng.random() < 0.5:
        kept = zstandard.ZstdCompressionParameters(window_log=rng.randint(10, 20), write_content_size=False)
        stream = zstandard.ZstdCompressor(compression_params=kept).compressobj()
        member = stream.compress(piece) + stream.flush()
    changed = bytearray(member)
    changed[4] = changed[4] & 0b00010111 | rng.choice([0, 0, 0b01000000])  # no single segment: a window follows
    changed[5] = rng.randrange(256)
    return bytes(changed)


def with_dictionary(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """A skippable frame with a dictionary, right or damaged, before frames that use it."""
    held = zstandard.ZstdCompressionDict((piece * 4)[:20_000], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    data = held.as_bytes()
    if rng.random() < 0.6:
        samples = [bytes([number % 64 + 32]) * 50 + piece[number : number + 200] for number in range(200)]
        try:
            held = zstandard.train_dictionary(4000, samples)
        except zstandard.ZstdError:
            return member
        data = held.as_bytes()
    frame = zstandard.ZstdCompressor(dict_data=held).compress(piece)
    data = flipped(rng, data) if rng.random() < 0.5 else data
    data = zstandard.compress(data) if rng.random() < 0.4 else data
    size = rng.choice([len(data), len(data), len(data) // 2, 2**24, 2**32 - 1])
    return b"\x5d\x2a\x4d\x18" + struct.pack("<I", size) + data + frame


def skipping(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    kind = rng.randrange(16)
    frames = (bytes([0x50 + kind]) + b"\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc") * rng.choice([1, 3, 3000])
    return frames + member if rng.random() < 0.5 else member + frames


def repeating(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """A frame of blocks of one byte each, which become 128 KiB each."""
    number = rng.choice([1, 100, 5000])
    blocks = struct.pack("<I", 2**17 << 3 | 1 << 1)[:3] + b" "
    return b"\x28\xb5\x2f\xfd\x00\x58" + blocks * number + rng.choice([b"\x01\0\0", b""]) + member


def without_content(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """A content size that is a lie."""
    changed = bytearray(member)
    for at in range(5, 9):
        changed[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(changed)


# -- xz ----------------------------------------------------------------------------------------------------------------


def remembering(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """A block that says it looks back up to 4 GiB."""
    size = (member[12] + 1) * 4
    block = bytearray(member[12 : 12 + size - 4])
    block[4] = rng.randint(0, 40)
    return member[:12] + bytes(block) + struct.pack("<I", zlib.crc32(block)) + member[12 + size :]


def spaces(rng: random.Random, piece: bytes, member: bytes) -> bytes:
    """Megabytes of one character in a few bytes."""
    suffix = "bz2" if member.startswith(b"BZ") else "xz"
    return ONE[suffix](rng.choice([b" ", b"\n", b"x", b"\0"]) * rng.choice([2**16, 2**22, 2**25])) + member


Damage = Callable[[random.Random, bytes, bytes], bytes]
DAMAGES: dict[str, list[Damage]] = {
    "gz": [truncated, doubled, twice, headed, overlapped, ended_wrongly, empties, bomb],
    "zst": [truncated, doubled, windowed, with_dictionary, skipping, repeating, without_content],
    "bz2": [truncated, doubled, spaces],
    "xz": [truncated, doubled, spaces, remembering],
}
