"""Units of texts: what stays of a text when case, spacing and punctuation are put aside, many texts at once in numpy.

A run of letters, marks and numbers is one unit, a character of a script written without spaces is one unit by itself,
everything else separates. Characters are folded one to one (compatibility form, case). The text alone decides. Of texts
in which symbols count, such as code, each symbol is a unit, too: `a + b` has three. Units are 64-bit polynomial hashes
modulo 2^64 over prefix sums, finished with MurmurHash3's mixer, without a loop over words in Python.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.arrays.addresses import I64, U64
from tasks.arrays.hashing import seeded_hash

BLOCK = 1 << 18
"""Characters, or shingles of them, hashed at once: the working arrays stay in the second-level cache."""

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3031, 0x312F),  # kana repeat marks, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo and Katakana extensions
    (0x3400, 0x4DBF),  # CJK ideographs, extension A
    (0x4E00, 0x9FFF),  # CJK ideographs
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x16FE0, 0x18DFF),  # Tangut, Khitan
    (0x1AFF0, 0x1B2FF),  # Kana supplements, Nushu
    (0x20000, 0x3FFFF),  # CJK ideographs, later extensions
)
"""Blocks of scripts written without spaces: the letters of Unicode's line breaking classes ID and SA."""

SEPARATOR, WORD, CHARACTER = 0, 1, 2

Mask = NDArray[np.bool_]

_UNIT_BASE = 0x9FB21C651E98DF25


def folding(character: str) -> str:
    """What a character counts as: its compatibility form (NFKC) case folded, or as near to it as one character goes."""
    compatible = unicodedata.normalize("NFKC", character)
    forms = (compatible.casefold(), compatible.lower(), compatible, character)
    return next(form for form in forms if len(form) == 1)


def units(texts: Iterable[str], symbols: Mask | None = None) -> Iterator[tuple[U64, I64, I64]]:
    """Texts in order, a block at a time -> (hashes of their units, the offset of each text's first and the end, how
    many units of each text are single characters of a script without spaces). `symbols`: in which texts these count."""
    number = 0
    for block in _blocks(texts):
        counted = None if symbols is None else symbols[number : number + len(block)]
        yield _units(block, counted if counted is not None and counted.any() else None)[:3]
        number += len(block)


def located(texts: Iterable[str]) -> Iterator[tuple[U64, I64, I64, I64]]:
    """The same: hashes, offsets, and where in its text each unit begins and ends, in characters."""
    for block in _blocks(texts):
        hashes, offsets, _, starts, ends = _units(block, None)
        begins = np.repeat(np.cumsum([0, *(len(text) + 1 for text in block)])[:-1], np.diff(offsets))
        yield hashes, offsets, starts - begins, ends - begins + 1


def digests(texts: Iterable[str], symbols: Mask | None = None) -> Iterator[bytes | None]:
    """Of each text 128 bits of BLAKE2b over its units, by which texts of the same units in the same order are told;
    None of one without units."""
    for hashes, offsets, _ in units(texts, symbols):
        for start, end in pairwise(offsets):
            yield hashlib.blake2b(hashes[start:end].data, digest_size=16).digest() if end > start else None


def one_word(before: str, after: str) -> bool:
    """Whether two characters, one right before the other, are of one unit."""
    kinds = _tables()[0]
    return bool(kinds[ord(before)] == kinds[ord(after)] == WORD)


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Whole texts in lists of about BLOCK characters."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _units(texts: list[str], symbols: Mask | None) -> tuple[U64, I64, I64, I64, I64]:
    codes = np.array(["\n".join([*texts, ""])]).view(np.uint32)
    kind_table, folded_table = _tables()
    kinds, folded = np.take(kind_table, codes), np.take(folded_table, codes)
    single, inside = kinds == CHARACTER, kinds == WORD
    if symbols is not None:
        counted = np.repeat(symbols, [len(text) + 1 for text in texts])
        single |= counted & np.take(_symbols(), codes)
    first, last = single.copy(), single
    first[1:] |= inside[1:] & ~inside[:-1]
    first[0] |= inside[0]
    last[:-1] |= inside[:-1] & ~inside[1:]
    starts, ends = np.flatnonzero(first), np.flatnonzero(last)

    folded *= powers(_UNIT_BASE, len(codes))
    before = folded[starts]
    np.cumsum(folded, out=folded)
    sums = folded[ends] - folded[starts] + before
    hashes = seeded_hash(sums * powers(pow(_UNIT_BASE, -1, 2**64), len(codes))[starts], "unit")

    offsets = np.searchsorted(starts, np.cumsum([0, *(len(text) + 1 for text in texts)]))
    return hashes, offsets, np.diff(np.cumsum(np.r_[0, kinds[starts] == CHARACTER])[offsets]), starts, ends


def powers(base: int, count: int) -> U64:
    """The first powers of an odd number modulo 2^64, from its zeroth."""
    return _power_table(base, 1 << (count - 1).bit_length())[:count]


@lru_cache(maxsize=8)
def _power_table(base: int, count: int) -> U64:
    return np.multiply.accumulate(np.r_[np.uint64(1), np.full(count - 1, base, np.uint64)])


@lru_cache(maxsize=1)
def _symbols() -> Mask:
    """Whether each code point is punctuation or a symbol."""
    assigned = (unicodedata.category(chr(code))[0] in "PS" for code in range(0x20000))
    return np.concatenate([np.fromiter(assigned, bool), np.zeros(0xF0000, bool)])


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.uint8], U64]:
    """Of each code point: SEPARATOR, WORD or CHARACTER, and the code point it is folded to. Takes 0.1 s."""
    folded = np.arange(0x110000, dtype=np.uint64)
    kinds = np.zeros(0x110000, np.uint8)
    assigned = [*range(0x20000), *range(0x2F800, 0x2FA20)]  # beyond, nothing folds and all letters are ideographs
    folded[assigned] = [ord(folding(chr(code))) for code in assigned]
    kinds[assigned] = [unicodedata.category(chr(code))[0] in "LMN" for code in assigned]
    kinds[0x20000:0x40000] = WORD
    for start, end in UNSPACED:
        kinds[start : end + 1] *= CHARACTER
    return kinds[folded], folded
