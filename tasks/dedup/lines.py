"""Lines or paragraphs of texts, by their hashes, for stages that cut those which repeat: on pages of a site
(tasks/dedup/boilerplate.py), or across the corpus (tasks/dedup/repeated_lines.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from tasks.arrays.addresses import U64
from tasks.arrays.groups import I64, changes, runs

_BLANK = re.compile(r"\n{3,}")
_BETWEEN = r"\n[ \t]*\n"
"""What stands between two paragraphs: a blank line."""


class Lines:
    """The lines of some texts, or their paragraphs. Case and indentation count for nothing."""

    def __init__(
        self,
        texts: pa.Array,
        seeds: Sequence[int | None] | None = None,
        numbers: bool = True,
        paragraphs: bool = False,
    ) -> None:
        """`seeds`: of each text what its lines are told apart by from the same lines of others, None where they count
        for nothing; by default the same line is the same anywhere. `numbers`: whether they tell lines apart."""
        self.between = "\n\n" if paragraphs else "\n"
        parts = pc.split_pattern_regex(texts, _BETWEEN) if paragraphs else pc.split_pattern(texts, "\n")
        self.text: I64 = pc.list_parent_indices(parts).to_numpy()
        """The number of the text that each is of."""
        self.parts = parts.flatten()
        plain = pc.utf8_lower(pc.utf8_trim_whitespace(self.parts))
        if not numbers:
            plain = pc.replace_substring_regex(plain, r"\p{Nd}+", "0")
        self.letters: I64 = pc.count_substring_regex(plain, r"\p{L}").cast(pa.int64()).to_numpy()
        found = [0] * len(texts) if seeds is None else seeds
        self.hash: U64 = np.array(
            [
                xxhash.xxh3_64_intdigest(line, seed) or 1 if (seed := found[text]) is not None and letters else 0
                for line, text, letters in zip(
                    plain.to_pylist(), self.text.tolist(), self.letters.tolist(), strict=True
                )
            ],
            np.uint64,
        )
        """0 without a letter or a seed."""

    def distinct(self, chosen: NDArray[np.bool_]) -> tuple[U64, I64]:
        """Of the lines that are `chosen`, each once for a text: hashes and numbers of texts, in order of these."""
        line, text = self.hash[chosen], self.text[chosen]
        order = np.lexsort((line, text))
        order = order[changes(line[order], text[order])]
        return line[order], text[order]

    def without(self, own: slice, gone: NDArray[np.bool_]) -> str:
        """A text, whose lines are `own`, without some of them; of blank lines in a row one is left."""
        left = [line for line, goes in zip(self.parts[own].to_pylist(), gone.tolist(), strict=True) if not goes]
        return _BLANK.sub("\n\n", self.between.join(left)).strip()

    def of_texts(self, count: int) -> list[slice]:
        """Where the lines of each of `count` texts are."""
        starts = np.searchsorted(self.text, np.arange(count + 1)).tolist()
        return [slice(start, end) for start, end in pairwise(starts)]


def texts_with(line: U64, text: U64 | None = None) -> I64:
    """How many different texts have the line of each row; where none is given, each row is of another one."""
    order = np.argsort(line, kind="stable") if text is None else np.lexsort((text, line))
    different = np.ones(len(line), bool) if text is None else changes(line[order], text[order])
    starts, ends = runs(line[order])
    count = np.add.reduceat(different.astype(np.int64), starts) if len(starts) else np.zeros(0, np.int64)
    found = np.zeros(len(line), np.int64)
    found[order] = np.repeat(count, ends - starts)
    return found
