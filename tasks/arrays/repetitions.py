"""How often a few tokens stand in a row: line breaks, dashes and other padding that no rule on words sees."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 13
"""Tokens of what is repeated, at most, as the trainings of OLMo 2 looked for (OLMo et al. 2025)."""


def repeated(tokens: pa.ChunkedArray) -> pa.Array:
    """Of each list of tokens how many times in a row the same 1 to 13 stand, at most; null of null."""
    lists = tokens.combine_chunks()
    length = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    found = pa.array(repetitions(pc.list_flatten(lists).to_numpy(), length))
    return pc.if_else(lists.is_valid(), found, None)


def repetitions(tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Of documents that lie end to end, each of so many tokens: the most repetitions, int32; 1 where there are none.

    Of `a b a b a c`, tokens 2 to 4 are as those two before them: three in a row, so `a b` stands 3 // 2 + 1 = 2 times.
    """
    ends = np.cumsum(length)
    found = np.minimum(length, 1).astype(np.int32)
    for period in range(1, LONGEST + 1):
        same = tokens[period:] == tokens[:-period]
        for before in range(1, period + 1):  # a token is not held against one of another document
            across = ends - before
            same[across[(across >= 0) & (across < len(same))]] = False
        place = np.flatnonzero(same)
        first = np.flatnonzero(np.diff(place, prepend=-2) != 1)
        count = np.diff(first, append=len(place)) // period + 1
        document = np.searchsorted(ends, place[first], "right")
        np.maximum.at(found, document[count > 1], count[count > 1].astype(np.int32))
    return found
