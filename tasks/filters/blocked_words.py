"""Words that somebody listed, in texts: how many, and which. Lists such as LDNOOBW are made for one language each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ahocorasick_rs
import pyarrow as pa

from data_specs import stages
from data_specs.document import SpecError
from tasks.engine.stage import Stage
from tasks.text.lists import digest_of, lines_of, unchanged

LIBRARY = "ahocorasick_rs"
"""Aho and Corasick's automaton (1975): time linear in the text and in what is found, whatever the list."""
SHOWN = 10
"""Words that are named of a document, at most."""
_LONGEST = 1000
"""Characters of a word, at most."""
_UNSPACED = re.compile(r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Of a script that puts no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Han."""
_POINTS = re.compile(r"[\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]*")
"""Vowel points of Hebrew and Arabic, with which a word is written or without."""


class Words:
    """A list of words, to be found in texts."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._automaton = ahocorasick_rs.AhoCorasick(words)
        self._edges = [(_is_spaced(word[0]), _is_spaced(word[-1])) for word in words]

    def found_in(self, text: str) -> Iterator[tuple[int, int, int]]:
        """(number of the word, start, end) of each that stands in a text (`folded`), the first and of those the longest
        before others that overlap it. In scripts with spaces it stands between other characters than letters and
        digits, and what marks these have, as vowels of Indic scripts are: `ass` is not in `class`, nor `कर` in
        `करेंगे`."""
        places = [
            (start, -end, number)
            for number, start, end in self._automaton.find_matches_as_indexes(text, overlapping=True)
            if not (self._edges[number][0] and start and _is_spaced(text[start - 1]))
            and not (self._edges[number][1] and _goes_on(text, end))
        ]
        reached = 0
        for start, negative, number in sorted(places):
            if start >= reached:
                reached = -negative
                yield number, start, reached


class BlockedWords(Stage):
    """The words of a document that are in the list of its language.

    `blocked_words`: how many times one stands there, case and white space aside; `blocked_words_share`: the share of
    the text's characters in them; `blocked_words_found`: the first ten of them, each once. All are null where the
    language has no list.
    """

    name, version = "blocked_words", 2  # marks are parts of words
    libraries = (LIBRARY,)
    unhashed = frozenset({"words", "where"})  # what the files hold is in the fingerprint, and so is the gate
    reads = ("text", "language")
    writes = pa.schema(
        [
            ("blocked_words", pa.int32()),
            ("blocked_words_share", pa.float32()),
            ("blocked_words_found", pa.list_(pa.string())),
        ]
    )
    settings: stages.BlockedWords

    def __init__(self, settings: stages.BlockedWords) -> None:
        """Raises SpecError where a list cannot be read."""
        paths = {code: str(Path(path).expanduser().resolve()) for code, path in settings.words.items()}
        self._paths = dict(sorted(paths.items()))
        super().__init__(settings, {path: digest_of(path, _setting(code)) for code, path in self._paths.items()})
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        words = {code: self.files[path] for code, path in self._paths.items()}
        return super().hashed_settings() | {"words": words}

    def setup(self) -> None:
        """Raises SpecError where a list is not what the run began with, or is no text."""
        self.lists: dict[str, Words] = {}
        for code, path in self._paths.items():
            with unchanged(path, self.files[path], _setting(code)):
                self.lists[code] = Words(_read(code, path))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """10,000 documents/s on one core."""
        pairs = zip(batch["text"].to_pylist(), batch["language"].to_pylist(), strict=True)
        rows = [self._of(text, self.lists[code]) if code in self.lists else (None, None, None) for text, code in pairs]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
        return pa.table(columns, schema=self.writes)

    def _of(self, text: str, words: Words) -> tuple[int, float, list[str]]:
        plain = folded(text)
        found = [*words.found_in(plain)]
        names = dict.fromkeys(words.words[number] for number, _, _ in found)
        share = sum(end - start for _, start, end in found) / max(len(plain), 1)
        return len(found), share, [*names][:SHOWN]


def folded(text: str) -> str:
    """A text as words are compared: lower case, of white space one space."""
    return " ".join(text.lower().split())


def _is_spaced(character: str) -> bool:
    """Whether a character is a letter, digit or mark of a script that puts spaces between words."""
    of_a_word = character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")
    return of_a_word and not _UNSPACED.match(character)


def _goes_on(text: str, end: int) -> bool:
    """Whether a word goes on behind a place, points aside."""
    points = _POINTS.match(text, end)
    end = points.end() if points else end
    return end < len(text) and _is_spaced(text[end])


def _setting(code: str) -> str:
    return f"stages.blocked_words.words.{code}"


def _read(code: str, path: str) -> list[str]:
    """The words of a list, one a line, each once."""
    lines = [folded(line) for _, line in lines_of(path, _setting(code))]
    if wrong := next((line for line in lines if len(line) > _LONGEST), None):
        raise SpecError(f"{_setting(code)}: {path} has a line that is no word: {wrong[:80]}...")
    return list(dict.fromkeys(line for line in lines if line))
