"""The sentences of a text in another order, as BART's noise has it (Lewis et al. 2020)."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pyarrow as pa

from data_specs import stages
from tasks.arrays.hashing import seeded_hash, words
from tasks.augmentation.base import Augmenting, chosen
from tasks.text.sentences import sentences


class ShuffleSentences(Augmenting):
    """`shuffle_sentences`: the text; `shuffle_sentences_moved`: sentences that stand elsewhere in it, null where there
    is none. A text of one sentence, or of one in each line, has no other order."""

    name, version = "shuffle_sentences", 1
    libraries = ("regex",)
    settings: stages.ShuffleSentences

    def __init__(self, settings: stages.ShuffleSentences, seed: int) -> None:
        super().__init__(settings, seed)
        self.writes = self.writes.append(pa.field(f"{self.name}_moved", pa.int32()))

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids = words(batch["id"])
        made, moved = [""] * len(batch), np.zeros(len(batch), np.int32)
        for row in np.flatnonzero(chosen(batch, self.settings.share, self.seed, self.label)).tolist():
            text = batch["text"][row].as_py()
            other, count = shuffled(text, ids[row], self.seed, self.label, self.settings.within == "document")
            if other != text:
                made[row], moved[row] = other, count
        return self.table(batch, made, pa.array(moved, mask=moved == 0))


def shuffled(text: str, key: np.uint64, seed: int, name: str, whole: bool) -> tuple[str, int]:
    """A text whose sentences change places, inside their lines or in the `whole` text, by a hash of the key and the
    stage's name; and how many do. What is between sentences stays where it is."""
    places, lines, begin = [], [], 0
    for number, line in enumerate(text.split("\n")):
        for start, end in sentences(line):
            places.append((begin + start, begin + end))
            lines.append(0 if whole else number)
        begin += len(line) + 1
    found = [text[start:end] for start, end in places]
    order: list[int] = []
    for _, group in groupby(range(len(lines)), lines.__getitem__):
        members = list(group)
        chance = seeded_hash(np.array(members, np.uint64) + key, seed, f"sentences {name}")
        mixed = np.argsort(chance, kind="stable").tolist()
        if len(mixed) > 1 and mixed == sorted(mixed):  # by chance the order that it has
            mixed = [*mixed[1:], mixed[0]]
        order += [members[place] for place in mixed]
    pieces, here = [], 0
    for (start, end), other in zip(places, order, strict=True):
        pieces += [text[here:start], found[other]]
        here = end
    pieces.append(text[here:])
    return "".join(pieces), sum(one != other for one, other in enumerate(order))
