"""What is held back of texts that something is learned from, to tell what was learned: never a copy of one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray


def plain(text: str) -> str:
    """A text as it is told from others: case and white space aside."""
    return " ".join(text.split()).casefold()


def held_back(
    texts: Sequence[str], labels: Sequence[Hashable] | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks [n]: what is learned from, and what is held back, of each label the first tenth of its texts. A text is
    on one side, however many rows have it: held back it stands once, and with several labels it is learned from."""
    names = [plain(text) for text in texts]
    label_of: dict[str, Hashable] = {}
    several = set[str]()
    first = np.zeros(len(names), bool)
    for place, (name, label) in enumerate(zip(names, labels or [None] * len(names), strict=True)):
        first[place] = name not in label_of
        if label_of.setdefault(name, label) != label:
            several.add(name)
    left = {label: count // 10 for label, count in Counter(label_of.values()).items()}
    chosen = set[str]()
    for name, label in label_of.items():
        if left[label] and name not in several:
            left[label] -= 1
            chosen.add(name)
    learned = np.array([name not in chosen for name in names], bool)
    return learned, ~learned & first
