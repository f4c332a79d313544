"""Contamination: documents that hold items of evaluation sets.

An item's fields (question, answers) are looked for by their n-grams of units (`tasks/text/units.py`: words, and
characters of unspaced scripts), so that case, spacing, punctuation and line breaks count for nothing: 13 units (Brown
et al. 2020, appendix C); a field of fewer is looked for whole. Each field stands for itself, the first of them being
the question: it is found without its answers, and with answers in another order or lettered otherwise. An n-gram weighs
the less the more items have it, since forms of questions are shared by many.

Measured on GSM8K, HumanEval and MMLU (14,099 questions), planted in web pages whole, by the question alone, with
answers lettered otherwise, wrapped and in capitals: 100, 100, and 96 % (question) to 98 % (whole) are found; the rest
are questions of fewer than six words, or forms such as "Which of the following is true?". Of 15,875 pages, laws,
articles and books one holds half of an item.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import filters
from data_specs.amounts import plural
from data_specs.document import SpecError
from tasks.arrays.addresses import I64, U64
from tasks.dedup import minhash
from tasks.engine.stage import Stage
from tasks.sources.files import escaping
from tasks.text import units
from tasks.text.rows import is_csv, is_parquet, rows_of, text_of

LONG = 13
"""Units of an n-gram."""
WHOLE = (10, 6)
"""Units of the n-grams by which shorter fields are looked for, all of which must be there: of a field of characters and
of one of words. Fields of fewer are not looked for."""
SHARED = 10
"""Items from which an n-gram is a form that says nothing."""


class Contamination(Stage):
    """How much of an item of an evaluation set a document holds, and of which.

    `contamination`: the highest share, 0 to 1, of a field's n-grams, each weighed by one over the number of items that
    have it; `contamination_item`: `set:number` of that item, counted from 0; null where the share is 0.
    """

    name, version = "contamination", 2  # an answer stands for no question that is null
    reads = ("text",)
    writes = pa.schema([("contamination", pa.float32()), ("contamination_item", pa.string())])
    unhashed = frozenset({"sets", "threshold"})  # what their files hold is in the fingerprint
    settings: filters.Contamination

    def __init__(self, settings: filters.Contamination) -> None:
        """Raises SpecError where a file of a set is missing."""
        self._sets = {name: _paths(name, each) for name, each in settings.sets.items()}
        super().__init__(settings, {path: _digest(path) for paths in self._sets.values() for path in paths})
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        sets = {
            name: [self.settings.sets[name].fields, [self.files[path] for path in paths]]
            for name, paths in self._sets.items()
        }
        by_the_book = {"csv": 2} if any(is_csv(path) for path in self.files) else {}
        of_bytes = {"parquet": 2} if any(is_parquet(path) for path in self.files) else {}
        return super().hashed_settings() | {"sets": sets} | by_the_book | of_bytes

    def setup(self) -> None:
        """Raises SpecError where a set cannot be read, or is not what the run began with."""
        self.items = Items.of(
            {
                name: [item for path in paths for item in _items(name, path, self.settings.sets[name].fields)]
                for name, paths in self._sets.items()
            }
        )
        for path, digest in self.files.items():
            if _digest(path) != digest:
                raise SpecError(f"{path} has changed since this run began; run again")
        sought = {
            name.rpartition(":")[0] for name, total in zip(self.items.names, self.items.total, strict=True) if total
        }
        if idle := sorted(self._sets.keys() - sought):
            raise SpecError(
                f"sets.{idle[0]}: {', '.join(self._sets[idle[0]])} has no item that would be found: one of {WHOLE[1]} "
                f"words or {WHOLE[0]} characters and more, that fewer than {SHARED} items share"
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """About 5 MB of text a second and core."""
        share = np.zeros(len(batch), np.float32)
        item: list[str | None] = [None] * len(batch)
        for document, found, name in self.items.found_in(batch["text"].to_pylist()):
            share[document], item[document] = found, name
        return pa.table([share, pa.array(item, pa.string())], schema=self.writes)


def _paths(name: str, settings: filters.EvaluationSet) -> list[str]:
    found = sorted(glob.glob(escaping(settings.path), recursive=True))
    if not found:
        raise SpecError(f"stages.contamination.sets.{name}.path: {settings.path} is no file")
    return found


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _items(name: str, path: str, fields: Sequence[str | int]) -> Iterator[list[str]]:
    """The texts of each item of a file, the first of them that of the first field, "" where it has none. Raises
    SpecError, naming file and row."""
    numbered = all(isinstance(field, int) for field in fields)
    for number, row in enumerate(rows_of(path, numbered)):
        try:
            yield [text_of(text, path, number) for field in fields for text in _texts(row[field]) or [""]]
        except (KeyError, IndexError, TypeError):
            known = ", ".join(map(str, row)) if isinstance(row, dict) else plural(len(row), "column")
            wanted = ", ".join(map(str, fields))
            raise SpecError(f"sets.{name}.fields: row {number} of {path} has not all of {wanted}: {known}") from None


def _texts(value: Any) -> list[Any]:
    """The values of a field: one; of a list or an object each."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [] if value is None else [value]


@dataclass(frozen=True)
class Items:
    """The n-grams of the fields of evaluation items, by their length."""

    names: list[str]
    """`set:number` of each field's item."""
    item: I64
    """The number of each field's item."""
    alone: np.ndarray
    """bool [fields]: whether a text that holds the field holds the item. Short answers say so only two at a time, as
    "none of the above" stands anywhere."""
    total: np.ndarray
    """float64 [fields]: the weight of a field's n-grams."""
    lengths: dict[int, tuple[U64, I64, I64, np.ndarray]]
    """Length -> n-grams, ascending [n]; the offset of each one's fields and the end [n + 1]; those fields [m]; each
    n-gram's weight, float64 [n]."""

    @classmethod
    def of(cls, sets: Mapping[str, Sequence[Sequence[str]]]) -> Items:
        """Of each set the fields of each item."""
        names: list[str] = []
        owners: list[int] = []
        first: list[bool] = []
        texts: list[str] = []
        for name, items in sets.items():
            for number, fields in enumerate(items):
                for place, text in enumerate(dict.fromkeys(fields)):
                    owners.append(len(names) and owners[-1] + (names[-1] != f"{name}:{number}"))
                    names.append(f"{name}:{number}")
                    first.append(place == 0)
                    texts.append(text)
        item = np.array(owners, np.int64)
        total, lengths = np.zeros(len(names)), {}
        grams, fields_of, sizes = _ngrams(texts)
        for length in (LONG, *WHOLE):
            chosen = sizes == length
            known, which = np.unique(grams[chosen], return_inverse=True)
            if not len(known):
                continue
            gram, field = _distinct(which, fields_of[chosen])
            shared = np.bincount(_distinct(gram, item[field])[0], minlength=len(known))
            weight = np.where(shared < SHARED, 1 / shared, 0.0)
            np.add.at(total, field, weight[gram])
            lengths[length] = (known, np.searchsorted(gram, np.arange(len(known) + 1)), field, weight)
        alone = np.array(first, bool)
        alone[fields_of[sizes == LONG]] = True
        return cls(names, item, alone, total, lengths)

    def found_in(self, texts: Sequence[str]) -> Iterator[tuple[int, float, str]]:
        """(number of a text, share, item) of each text that holds some of an item: the highest share, then that of the
        field that weighs most, then the first."""
        number = 0
        for hashes, offsets, _ in units.units(texts):
            count = len(offsets) - 1
            found = [self._shares(hashes, offsets, length) for length in self.lengths]
            if found:
                text, field, share = (np.concatenate(parts) for parts in zip(*found, strict=True))
                _, which, fields = np.unique(
                    text * len(self.item) + self.item[field], return_inverse=True, return_counts=True
                )
                kept = self.alone[field] | (fields[which] > 1)
                text, field, share = text[kept], field[kept], share[kept]
                order = np.lexsort((field, -self.total[field], -share, text))
                for each in order[np.diff(text[order], prepend=-1) > 0].tolist():
                    yield number + int(text[each]), float(share[each]), self.names[field[each]]
            number += count

    def _shares(self, hashes: U64, offsets: I64, length: int) -> tuple[I64, I64, np.ndarray]:
        """(text, field, share) of each field of which a text holds n-grams of a length; whole fields alone where these
        are the short ones."""
        known, starts, fields, weights = self.lengths[length]
        grams, ends = minhash.windows(hashes, offsets, np.full(len(offsets) - 1, length))
        place = np.minimum(np.searchsorted(known, grams), len(known) - 1)
        hit = np.flatnonzero(known[place] == grams)
        text = np.searchsorted(ends, hit, side="right") - 1
        text, gram = _distinct(text, place[hit])
        many = starts[gram + 1] - starts[gram]
        inside = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        field = fields[np.repeat(starts[gram], many) + inside]
        key = np.repeat(text, many) * len(self.names) + field
        both, which = np.unique(key, return_inverse=True)
        text, field = np.divmod(both, len(self.names))
        weight = np.bincount(which, np.repeat(weights[gram], many), minlength=len(both))
        share = np.minimum(weight / np.maximum(self.total[field], 1e-9), 1.0)
        kept = share > 0 if length == LONG else share > 1 - 1e-6
        return text[kept], field[kept], share[kept]


def _distinct(one: I64, other: I64) -> tuple[I64, I64]:
    """Pairs of numbers, each once, ascending: of [1, 0, 1] and [5, 2, 5] they are [0, 1] and [2, 5]."""
    size = int(other.max(initial=0)) + 1
    found = np.unique(one * size + other)
    return found // size, found % size


def _ngrams(texts: Sequence[str]) -> tuple[U64, I64, I64]:
    """(n-grams, the number of the text of each, and the length of each) of texts that are long enough."""
    parts, number = [], 0
    for hashes, offsets, single in units.units(texts):
        counts = np.diff(offsets)
        whole = np.where(2 * single > counts, *WHOLE)
        sizes = np.where(counts >= LONG, LONG, whole)
        grams, ends = minhash.windows(hashes, offsets, sizes)
        text = np.repeat(np.arange(len(counts)), np.diff(ends))
        kept = (counts >= whole)[text]
        parts.append((grams[kept], number + text[kept], sizes[text[kept]]))
        number += len(counts)
    if not parts:
        return np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)
    grams, text, sizes = (np.concatenate(each) for each in zip(*parts, strict=True))
    return grams, text, sizes
