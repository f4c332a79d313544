"""Gopher's signals as Dolma's taggers count them (Soldaini et al. 2024), which is not as datatrove does: words are what
stands between white space, marks and all; lengths are medians; every copy of a line or n-gram counts as repeated, the
first one, too; stop words count as often as they are there.
"""

from __future__ import annotations

import re
from collections import Counter
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import stages
from tasks.arrays.hashing import seeded_hash
from tasks.filters.composition import windows
from tasks.filters.measured import Measured

TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))

_LINE_END = re.compile(r"\n+")
_SYMBOL = re.compile("[#…]")


class Dolma(Measured):
    """The attributes of Dolma's tagger `gopher_v2`, or of `gopher_v1`, to which empty lines are lines."""

    name, version = "dolma", 1
    by_unicode = False
    writes = pa.schema(
        [
            ("dolma_words", pa.int32()),
            ("dolma_median_word_length", pa.float32()),
            ("dolma_symbol_word_share", pa.float32()),
            ("dolma_alphabetic_word_share", pa.float32()),
            ("dolma_stop_words", pa.int32()),
            ("dolma_bullet_line_share", pa.float32()),
            ("dolma_ellipsis_line_share", pa.float32()),
            ("dolma_duplicate_line_share", pa.float32()),
            ("dolma_duplicate_line_character_share", pa.float32()),
            *((f"dolma_top_{n}gram_share", pa.float32()) for n in TOP),
            *((f"dolma_duplicate_{n}gram_share", pa.float32()) for n in DUPLICATE),
        ]
    )
    settings: stages.Dolma

    def measured(self, text: str) -> dict[str, Any]:
        """No shares of a text without a word. 400 texts of 1,000 words a second and core."""
        words = text.split()
        if not words:
            return {"dolma_words": 0, "dolma_stop_words": 0}
        characters = sum(map(len, words))
        lines = text.split("\n") if self.settings.empty_lines else _LINE_END.split(text)
        again = {line: count for line, count in Counter(lines).items() if count > 1}
        return {
            "dolma_words": len(words),
            "dolma_median_word_length": float(median(map(len, words))),
            "dolma_symbol_word_share": sum(1 for word in words if _SYMBOL.search(word)) / len(words),
            "dolma_alphabetic_word_share": sum(any(map(str.isalpha, word)) for word in words) / len(words),
            "dolma_stop_words": sum(map(STOP_WORDS.__contains__, words)),
            "dolma_bullet_line_share": sum(line.startswith(("*", "-")) for line in lines) / len(lines),
            "dolma_ellipsis_line_share": sum(line.endswith("…") for line in lines) / len(lines),
            "dolma_duplicate_line_share": sum(again.values()) / len(lines),
            "dolma_duplicate_line_character_share": sum(len(line) * n for line, n in again.items()) / characters,
            **_of_grams(words, characters),
        }


def _of_grams(words: list[str], characters: int) -> dict[str, float]:
    """Shares of n-grams; none for an n of which the text has no n-gram."""
    number = {word: place for place, word in enumerate(dict.fromkeys(words))}
    codes = seeded_hash(np.array([number[word] for word in words], np.uint64), "word")
    before = np.concatenate([[0], np.cumsum([len(word) for word in words])])
    found: dict[str, float] = {}
    for n in (*TOP, *DUPLICATE):
        if len(words) < n:
            break
        sizes = before[n:] - before[:-n]
        _, first, gram, counts = np.unique(
            windows(codes, n), return_index=True, return_inverse=True, return_counts=True
        )
        if n in TOP:
            most = first[counts == counts.max()].min()  # of n-grams as frequent, the one that is met first
            found[f"dolma_top_{n}gram_share"] = float(counts.max() * sizes[most] / characters)
        else:
            found[f"dolma_duplicate_{n}gram_share"] = float(sizes[counts[gram] > 1].sum() / sizes.sum())
    return found
