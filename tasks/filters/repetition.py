"""Repeated n-grams of words (Rae et al. 2021, appendix A.1.1), many texts at once in numpy.

n-grams are equal when their strings are, as in datatrove: a string's key is its 64-bit polynomial hash modulo 2^64 over
prefix sums, so that an n-gram of any length costs one subtraction and one product. Chance collisions are as rare as
2^-64 per pair; a text made to collide can only seem more repetitive than it is. Only n-grams that occur twice in a text
are looked at one by one, and only where the count depends on the order in which they are met.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.arrays.addresses import U64
from tasks.arrays.groups import I64, runs
from tasks.arrays.hashing import seeded_hash
from tasks.text.words import Words

F64 = NDArray[np.float64]

_BASE = 0x9FB21C651E98DF25
_INVERSE = pow(_BASE, -1, 2**64)
_LAST = 2**32 - 1
"""Above the number of every word."""


class Grams:
    """n-grams of the words of some texts, each word followed by `separator`."""

    def __init__(self, words: Words, separator: str) -> None:
        written = [word + separator for word in words.vocabulary]
        lengths = np.fromiter(map(len, written), np.int64, len(written))
        longest = int(lengths.max(initial=0))
        hashes = _hashes("".join(written), lengths, longest)
        self.text = words.text
        self.start: I64 = _before(lengths[words.word], np.add)
        """[words + 1] characters before each word."""
        scale = _before(_powers(_BASE, longest)[lengths][words.word], np.multiply)
        self._shrink: U64 = _before(_powers(_INVERSE, longest)[lengths][words.word], np.multiply)[:-1]
        self._prefix: U64 = _before(hashes[words.word] * scale[:-1], np.add)
        self._salt: U64 = seeded_hash(words.text.astype(np.uint64), "text")

    def opening(self, n: int) -> I64:
        """First words of the texts that have an n-gram."""
        begins, ends = runs(self.text)
        return begins[begins + n <= ends]

    def repeated(self, n: int) -> tuple[I64, I64]:
        """(first words of the n-grams that occur at least twice in their text, those of one n-gram together, ascending;
        how many these are of each n-gram)."""
        inside = self.text[: max(0, len(self.text) - n + 1)] == self.text[n - 1 :]  # of one text
        count = len(inside)
        keys = ((self._prefix[n:] - self._prefix[:-n]) * self._shrink[:count] + self._salt[:count])[inside]
        # To sort numbers takes a third of what it takes to sort places by them. So places are put into the lowest bits
        # of keys, and of those few whose other bits are alike the keys are looked at whole.
        low = np.uint64(len(keys).bit_length())
        ordered = np.sort(keys >> low << low | np.arange(len(keys), dtype=np.uint64))
        alike = (ordered[1:] ^ ordered[:-1]) >> low == 0
        shared = np.zeros(len(keys), bool)
        shared[1:] |= alike
        shared[:-1] |= alike
        place = (ordered[shared] & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)
        place = place[np.argsort(keys[place], kind="stable")]
        begins, ends = runs(keys[place])
        counts = ends - begins
        several = counts > 1
        return np.flatnonzero(inside)[place[np.repeat(several, counts)]], counts[several]


def top_characters(spaced: Grams, n: int, texts: int) -> F64:
    """Characters of each text's most frequent n-gram, its words joined by a space, times its count; of n-grams as
    frequent, the first. NaN for a text of fewer than n words. [texts]"""
    characters = np.full(texts, np.nan)
    opening = spaced.opening(n)
    characters[spaced.text[opening]] = spaced.start[opening + n] - spaced.start[opening] - 1
    position, counts = spaced.repeated(n)
    first = position[np.cumsum(counts) - counts]
    best = np.zeros(texts, np.int64)
    np.maximum.at(best, spaced.text[first], (counts << 32) + (_LAST - first))
    text = np.flatnonzero(best)
    count, first = best[text] >> 32, _LAST - (best[text] & _LAST)
    characters[text] = count * (spaced.start[first + n] - spaced.start[first] - 1)
    return characters


def duplicate_characters(joined: Grams, n: int, texts: int) -> F64:
    """Characters of each text in n-grams met before, when it is read from the left, past each such n-gram at once.
    Read so, an n-gram counts as met only where it was not passed over. [texts]"""
    position, counts = joined.repeated(n)
    order = np.argsort(position)
    number = np.repeat(np.arange(len(counts)), counts)[order]
    hits, seen, free = [], bytearray(len(counts)), 0
    for first, gram in zip(position[order].tolist(), number.tolist(), strict=True):
        if first < free:
            continue
        if seen[gram]:
            hits.append(first)
            free = first + n
        else:
            seen[gram] = 1
    hit = np.array(hits, np.int64)
    lengths = (joined.start[hit + n] - joined.start[hit]).astype(np.float64)
    return np.asarray(np.bincount(joined.text[hit], lengths, texts), np.float64)


def _hashes(characters: str, lengths: I64, longest: int) -> U64:
    """Strings of these lengths, written one after another -> the sum of c_k B^k of each."""
    codes = np.frombuffer(characters.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    starts = _before(lengths, np.add)
    within = np.arange(len(codes)) - np.repeat(starts[:-1], lengths)
    sums = _before(seeded_hash(codes, "character") * _powers(_BASE, longest)[within], np.add)
    return sums[starts[1:]] - sums[starts[:-1]]


def _powers(base: int, highest: int) -> U64:
    """base^0 to base^highest, modulo 2^64."""
    return _before(np.full(highest, base, np.uint64), np.multiply)


def _before(values: NDArray, operation: np.ufunc) -> NDArray:
    """Running sum or product of what comes before each value, and of all; one longer than `values`."""
    first = np.full(1, operation.identity, values.dtype)
    return np.concatenate([first, operation.accumulate(values)])
