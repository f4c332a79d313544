"""Shingles, signatures and LSH bands of texts, many texts at once in numpy.

A text is cut into units (tasks/text/units.py). A shingle is `words` consecutive ones, or `characters` of them where
most units of the text are characters of a script written without spaces; a text of fewer units is one shingle, a text
without units has none. The text alone decides: the same units give the same shingles under any language label.

Shingles are hashed as units are. A signature takes a few more hashes of each shingle, not one for each of its places
(Fast Similarity Sketching): less than a fifth of the time from texts to bands (benchmarks/duplicates.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.arrays.addresses import I64, U64
from tasks.arrays.groups import changes
from tasks.arrays.hashing import mix, salt, seeded_hash
from tasks.text.units import BLOCK, Mask, powers, units

VERSION = 3
"""Of signatures and keys of bands, which stores and indexes hold: 2 had as many hashes of each shingle as places."""
MISSED = 0.9
"""What a missed pair weighs against a candidate in vain (1 - MISSED), which is only compared and then forgotten. For a
threshold of .8 and 128 hashes: 14 bands of 9 rows, which find 87 % of the pairs at .8, 97 % at .85 and 99.9 % at .9,
and 13 % of those at .6. With equal weights 40 %, 69 % and 93 % are found."""

MOST = 1024
"""Places of a signature: rounds are told apart by 11 bits."""
_EMPTY = np.uint64(2**64 - 1)
"""Of a bin that no shingle was thrown into."""
REPEATED = 32
"""Where shingles have been thrown so many times for each bin and one is empty still, few of them are distinct: the
chance of it otherwise is exp(-32) for each bin. Repeats are removed then; of a page that repeats one word without end
all would be thrown in all rounds."""

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
    """Signatures by Fast Similarity Sketching (Dahlgaard, Knudsen & Thorup 2017), [texts, count]; a text without
    shingles has all bits set. `count` is at most MOST.

    Each place of a signature is a bin. In a round every shingle is thrown into a bin by a hash, and a bin keeps the
    least hash of the first round in which it is hit. A text is done once all its bins are: one of 1,000 shingles mostly
    after one round of 128 bins, shorter ones after more. The last `count` rounds throw all shingles into one bin each,
    so that those of a text of a single shingle are hit, too. Which shingle a bin keeps is the first of a random order
    of all: two texts have it in common with the probability of their Jaccard similarity, as by MinHash (Broder 1997),
    and repeats count once.
    """
    counts = np.diff(offsets)
    result = np.full((len(counts), count), _EMPTY)
    texts = np.arange(len(counts))
    first = np.repeat(texts * count, counts)
    """Of each shingle the first bin of its text."""
    done = 0
    while len(hashes):
        ahead = min(BLOCK // len(hashes), done)  # as many again, but no more than are hashed at once
        rounds = np.arange(done, min(done + max(ahead, 1), 2 * count), dtype=np.uint64)[:, None]
        for start in range(0, len(hashes), BLOCK):
            part = slice(start, start + BLOCK)
            bins, values = _thrown(hashes[part], rounds, count)
            bins += first[part]
            np.minimum.at(result.reshape(-1), bins.reshape(-1), values.reshape(-1))
        done += len(rounds)
        left = (result[texts] == _EMPTY).any(axis=1)
        shingles_left = np.repeat(left, counts)
        hashes, first = hashes.compress(shingles_left), first.compress(shingles_left)
        texts, counts = texts[left], counts[left]
        if len(texts) and done * counts.max() > REPEATED * count:
            order = np.lexsort((hashes, first))
            order = order[changes(first[order], hashes[order])]
            hashes, first = hashes[order], first[order]
            counts = np.bincount(np.searchsorted(texts, first // count), minlength=len(texts))
    return result


@cache
def _of_rounds() -> U64:
    """Bits of each round, which make other hashes of the same shingles."""
    return seeded_hash(np.arange(2 * MOST, dtype=np.uint64), "round") ^ salt("throw")


def _thrown(hashes: U64, rounds: U64, count: int) -> tuple[I64, U64]:
    """Shingles in rounds [rounds, 1] -> the bin of each, and what is kept of it, [rounds, shingles]: 11 bits of the
    round, so that an earlier one is less, and 53 of its hash, by whose other end the bin is chosen."""
    values = mix(hashes ^ _of_rounds()[rounds])
    bins = values & np.uint64(0xFFFFFFFF)
    bins *= np.uint64(count)
    bins >>= np.uint64(32)
    if rounds[-1] >= count:
        last = rounds[:, 0] >= count
        bins[last] = rounds[last] - np.uint64(count)
    values >>= np.uint64(11)
    if rounds[-1]:
        values |= rounds << np.uint64(53)
    return bins.view(np.int64), values


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
