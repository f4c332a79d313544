"""Shingles, MinHash signatures and LSH bands of texts, many texts at once in numpy.

A text is cut into units (tasks/text/units.py). A shingle is `words` consecutive ones, or `characters` of them where
most units of the text are characters of a script written without spaces; a text of fewer units is one shingle, a text
without units has none. The text alone decides: the same units give the same shingles under any language label.

Shingles are hashed as units are. A permutation of shingle hashes is the multiplication by an odd 64-bit number:
datasketch's affine scheme without its addend, which mixed hashes do not need (the tests bound bias and variance). Half
of the time cuts and hashes units, a third takes the minima (benchmarks/duplicates.py).

Of texts to clusters the minima are a fifth. Fewer hashes of each shingle (Fast Similarity Sketching, Dahlgaard et al.
2017) would save 16 % of it in numpy, 17 % by rensa, which has them, and hashes of 32 bits 10 %; of all work on a corpus
that is .1 %, for which the candidates of every store would be computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.arrays.addresses import I64, U64
from tasks.arrays.hashing import seeded_hash
from tasks.text.units import BLOCK, Mask, powers, units

MISSED = 0.9
"""What a missed pair weighs against a candidate in vain (1 - MISSED), which is only compared and then forgotten. For a
threshold of .8 and 128 hashes: 14 bands of 9 rows, which find 87 % of the pairs at .8, 97 % at .85 and 99.9 % at .9,
and 13 % of those at .6. With equal weights 40 %, 69 % and 93 % are found."""

_SHINGLE_BASE = 0xD6E8FEB86659FD93
_BAND_BASE = 0xA0761D6478BD642F


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
    return seeded_hash((parts * powers(_BAND_BASE, rows)).sum(axis=2, dtype=np.uint64), "band")


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
        hashes[:start] += np.where(within, values[ahead:] * powers(_SHINGLE_BASE, ahead + 1)[ahead], np.uint64(0))
    whole = (here + size <= end) | (here == np.repeat(offsets[:-1], counts))
    found = np.minimum(counts, np.maximum(counts - sizes + 1, 1))
    return seeded_hash(hashes[whole], "shingle"), np.cumsum(np.r_[0, found])
