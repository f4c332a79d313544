"""Words of a text replaced by synonyms of a table (as in EDA; Wei & Zou 2019)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import stages
from data_specs.document import SpecError
from tasks.arrays.hashing import below, seeded_hash, words
from tasks.augmentation.base import Augmenting, chosen
from tasks.text.lists import digest_of, lines_of, unchanged
from tasks.text.words import Split, splitter

_RUN = re.compile(r"\S+")
Table = dict[str, list[str]]


class Synonyms(Augmenting):
    """`synonyms`: the text; `synonyms_replaced`: words that are replaced in it, null where there is none. Chinese is
    split into words by jieba, other languages by Unicode's boundaries of words. A word that is written with a capital,
    or in capitals, is replaced by one that is."""

    name, version = "synonyms", 1
    libraries = ("jieba", "regex", "rjieba")
    unhashed = frozenset({"tables"})  # what the files hold is in the fingerprint
    settings: stages.Synonyms

    def __init__(self, settings: stages.Synonyms, seed: int) -> None:
        """Raises SpecError where a table cannot be read."""
        paths = {code: str(Path(path).expanduser().resolve()) for code, path in settings.tables.items()}
        self._paths = dict(sorted(paths.items()))
        super().__init__(settings, seed, {path: digest_of(path, _setting(code)) for code, path in self._paths.items()})
        self.reads = (*self.reads, "language")
        self.writes = self.writes.append(pa.field(f"{self.name}_replaced", pa.int32()))

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | {"tables": {code: self.files[path] for code, path in self._paths.items()}}

    def setup(self) -> None:
        """Raises SpecError where a table is not what the run began with, or is none."""
        self.tables: dict[str, Table] = {}
        self.split: dict[str, Split] = {}
        for code, path in self._paths.items():
            with unchanged(path, self.files[path], _setting(code)):
                self.tables[code] = read(path, _setting(code))
            self.split[code] = splitter("jieba" if code == "zh" else "spaces", code)

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids, languages = words(batch["id"]), batch["language"].to_pylist()
        made, replaced = [""] * len(batch), np.zeros(len(batch), np.int32)
        for row in np.flatnonzero(chosen(batch, self.settings.share, self.seed, self.label)).tolist():
            if (code := languages[row]) in self.tables:
                found = self._replaced(batch["text"][row].as_py(), code, ids[row])
                made[row], replaced[row] = found if found[1] else ("", 0)
        return self.table(batch, made, pa.array(replaced, mask=replaced == 0))

    def _replaced(self, text: str, code: str, key: np.uint64) -> tuple[str, int]:
        """A text with other words, and how many."""
        table, pieces, here = self.tables[code], list[str](), 0
        known = list[int]()
        runs = [*_RUN.finditer(text)]
        for run, found in zip(runs, self.split[code]([run[0] for run in runs]), strict=True):
            split = found.split(" ") if found.replace(" ", "") == run[0] else [run[0]]
            pieces.append(text[here : run.start()])
            for word in split:
                if word.lower() in table:
                    known.append(len(pieces))
                pieces.append(word)
            here = run.end()
        pieces.append(text[here:])
        number = np.arange(len(known), dtype=np.uint64) + key
        wanted = below(seeded_hash(number, self.seed, f"word {self.label}"), self.settings.words)
        which = seeded_hash(number, self.seed, f"synonym {self.label}")
        for place in np.flatnonzero(wanted).tolist():
            word = pieces[known[place]]
            others = table[word.lower()]
            pieces[known[place]] = _written_as(word, others[int(which[place] % np.uint64(len(others)))])
        return "".join(pieces), int(wanted.sum())


def _written_as(word: str, other: str) -> str:
    """A word in capitals, or with a capital, where another one is."""
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other


def _setting(code: str) -> str:
    return f"stages.synonyms.tables.{code}"


def read(path: str, setting: str) -> Table:
    """Word, in lower case -> its synonyms, each once, without the word itself; of a word that stands in several lines
    those of all."""
    table: Table = {}
    for number, line in lines_of(path, setting):
        parts = [part.strip() for part in (line.split("\t") if "\t" in line else line.split())]
        word, *others = [part for part in parts if part] or [""]
        if not word:
            continue
        others = [other for other in others if other.lower() != word.lower()]
        if not others:
            raise SpecError(f"{setting}: line {number} of {path} has no synonym of {word[:40]}")
        known = table.setdefault(word.lower(), [])
        known += [other for other in dict.fromkeys(others) if other not in known]
    return table
