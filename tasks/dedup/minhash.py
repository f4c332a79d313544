"""Shingles, MinHash signatures and LSH bands of texts, many texts at once in numpy.

A text is cut into units: a run of letters, marks and numbers is one unit, a character of a script written without
spaces is one unit by itself, everything else separates. Characters are folded one to one (compatibility form, case),
so units are what stays when case, spacing and punctuation are put aside. A shingle is `words` consecutive units, or
`characters` of them where most units of the text are such characters; a text of fewer units is one shingle, a text
without units has none. The text alone decides: the same units give the same shingles under any language label. Of
texts in which symbols count, such as code, each symbol is a unit, too: `a + b` has three.

Units and shingles are 64-bit polynomial hashes modulo 2^64 over prefix sums, finished with MurmurHash3's mixer, without
a loop over words in Python. A permutation of shingle hashes is the multiplication by an odd 64-bit number: datasketch's
affine scheme without its addend, which mixed hashes do not need (the tests bound bias and variance). Half of the time
cuts and hashes units, a third takes the minima (benchmarks/duplicates.py).

Of texts to clusters the minima are a fifth. Fewer hashes of each shingle (Fast Similarity Sketching, Dahlgaard et al.
2017) would save 16 % of it in numpy, 17 % by rensa, which has them, and hashes of 32 bits 10 %; of all work on a corpus
that is .1 %, for which the candidates of every store would be computed anew.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.arrays.addresses import I64, U64
from tasks.arrays.hashing import seeded_hash

MISSED = 0.9
"""What a missed pair weighs against a candidate in vain (1 - MISSED), which is only compared and then forgotten. For a
threshold of .8 and 128 hashes: 14 bands of 9 rows, which find 87 % of the pairs at .8, 97 % at .85 and 99.9 % at .9,
and 13 % of those at .6. With equal weights 40 %, 69 % and 93 % are found."""

BLOCK = 1 << 17
"""Characters, or shingles, hashed at once: the working arrays stay in the second-level cache."""

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
_SHINGLE_BASE = 0xD6E8FEB86659FD93
_BAND_BASE = 0xA0761D6478BD642F


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


def shingles(
    texts: Iterable[str], words: int, characters: int, symbols: Mask | None = None
) -> Iterator[tuple[U64, I64]]:
    """Texts in order, a block at a time -> (hashes of their shingles, with repeats; the offset of each text's first and
    the end)."""
    for hashes, offsets, single in units(texts, symbols):
        counts = np.diff(offsets)
        yield windows(hashes, offsets, np.where(2 * single > counts, characters, words))


def sketches(
    texts: Iterable[str], words: int, characters: int, bands: int, rows: int, symbols: Mask | None = None
) -> tuple[I64, U64, U64]:
    """-> (which texts have shingles, by number; a hash of each one's shingles, [found]; its keys, [found, bands])."""
    number, found, contents, keys = 0, [], [np.empty(0, np.uint64)], [np.empty((0, bands), np.uint64)]
    for hashes, offsets in shingles(texts, words, characters, symbols):
        filled = np.flatnonzero(np.diff(offsets))
        if len(filled):
            found.append(number + filled)
            contents.append(seeded_hash(np.add.reduceat(hashes, offsets[filled]), "content"))
            keys.append(band_keys(signatures(hashes, offsets, bands * rows)[filled], bands, rows))
        number += len(offsets) - 1
    return np.concatenate([np.empty(0, np.int64), *found]), np.concatenate(contents), np.concatenate(keys)


def signatures(hashes: U64, offsets: I64, count: int) -> U64:
    """MinHash signatures (Broder 1997), [texts, count]; a text without shingles has all bits set."""
    result = np.full((count, len(offsets) - 1), np.iinfo(np.uint64).max)
    filled = np.flatnonzero(np.diff(offsets))
    factors = seeded_hash(np.arange(count, dtype=np.uint64), "permutation") | np.uint64(1)
    begins_block = np.diff(offsets[filled] // BLOCK, prepend=-1) > 0
    for chosen in np.split(filled, np.flatnonzero(begins_block)[1:]) if len(filled) else ():
        block = hashes[offsets[chosen[0]] : offsets[chosen[-1] + 1]]
        starts = offsets[chosen] - offsets[chosen[0]]
        permuted = np.empty_like(block)
        for row, factor in zip(result, factors, strict=True):
            np.multiply(block, factor, out=permuted)
            row[chosen] = np.minimum.reduceat(permuted, starts)
    return result.T


@lru_cache
def bands_and_rows(threshold: float, hashes: int) -> tuple[int, int]:
    """Bands b and rows r, b * r <= hashes, of least error for a Jaccard threshold: datasketch's optimum, with `MISSED`
    as the weight of false negatives.

    Two texts of similarity s share a band with probability 1 - (1 - s^r)^b (Leskovec et al., Mining of Massive
    Datasets, 3.4.2). The error is the weighted sum of the integral of false positives below the threshold and that of
    false negatives above. (1 - s^r)^b is a polynomial of degree b * r, which so many places integrate exactly.
    """
    b, r = np.meshgrid(np.arange(1, hashes + 1), np.arange(1, hashes + 1), indexing="ij")
    b, r = b[b * r <= hashes], r[b * r <= hashes]
    places, weights = np.polynomial.legendre.leggauss(hashes // 2 + 1)

    def apart(start: float, end: float) -> NDArray[np.float64]:
        """The integral of (1 - s^r)^b over a range, by Gauss and Legendre."""
        s = start + (end - start) * (places + 1) / 2
        return (1 - s ** r[:, None]) ** b[:, None] @ weights * (end - start) / 2

    best = np.argmin((1 - MISSED) * (threshold - apart(0, threshold)) + MISSED * apart(threshold, 1))
    return int(b[best]), int(r[best])


def found_share(similarity: float, bands: int, rows: int) -> float:
    """The share of the pairs of a similarity that share a band."""
    return 1 - (1 - similarity**rows) ** bands


def band_keys(signature: U64, bands: int, rows: int) -> U64:
    """Signatures [texts, at least bands * rows] -> one hash per band, [texts, bands]."""
    parts = signature[:, : bands * rows].reshape(-1, bands, rows)
    return seeded_hash((parts * _powers(_BAND_BASE, rows)).sum(axis=2, dtype=np.uint64), "band")


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

    folded *= _powers(_UNIT_BASE, len(codes))
    before = folded[starts]
    np.cumsum(folded, out=folded)
    sums = folded[ends] - folded[starts] + before
    hashes = seeded_hash(sums * _powers(pow(_UNIT_BASE, -1, 2**64), len(codes))[starts], "unit")

    offsets = np.searchsorted(starts, np.cumsum([0, *(len(text) + 1 for text in texts)]))
    return hashes, offsets, np.diff(np.cumsum(np.r_[0, kinds[starts] == CHARACTER])[offsets]), starts, ends


def windows(values: U64, offsets: I64, sizes: I64) -> tuple[U64, I64]:
    """Hashes of all windows of `sizes[t]` consecutive values of text t, or of the whole text where it is shorter."""
    counts = np.diff(offsets)
    here = np.arange(len(values))
    end, size = np.repeat(offsets[1:], counts), np.repeat(sizes, counts)
    stop = np.minimum(here + size, end)
    hashes = np.zeros(len(values), np.uint64)
    for ahead in range(min(int(sizes.max()), len(values))):
        start = len(values) - ahead
        within = here[ahead:] < stop[:start]
        hashes[:start] += np.where(within, values[ahead:] * _powers(_SHINGLE_BASE, ahead + 1)[ahead], np.uint64(0))
    whole = (here + size <= end) | (here == np.repeat(offsets[:-1], counts))
    found = np.minimum(counts, np.maximum(counts - sizes + 1, 1))
    return seeded_hash(hashes[whole], "shingle"), np.cumsum(np.r_[0, found])


def _powers(base: int, count: int) -> U64:
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
