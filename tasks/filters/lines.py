"""Signals of a text's lines, as datatrove's filters for Gopher, C4 and FineWeb count them; each has its own idea of a
line. Functions take one text and return signals by their columns' names, NaN where there is nothing to take a share of.
"""

from __future__ import annotations

import re
import unicodedata
from math import nan
from typing import NamedTuple

from datatrove.utils.text import TERMINAL_PUNCTUATION

from tasks.text.words import Split

ELLIPSES = ("...", "…")
SHORT = 30
"""Characters of a short line, at most (FineWeb)."""
FEWEST_WORDS = 3
"""Words, by white space, of a line that C4 keeps, at least."""
LONGEST_WORD = 1000
"""Characters of any word, by white space, of a line that C4 keeps, at most."""

_BULLETS = ("•", "-")
_PIECE = re.compile(r"\s+|\S+")
_TERMINALS = re.escape("".join(sorted(TERMINAL_PUNCTUATION)))
_UNMARKED = re.compile(rf"[^A-Za-z0-9{_TERMINALS}]*+[A-Za-z0-9][^{_TERMINALS}]*+")
"""A letter or digit, and no terminal mark: however it is split, there is a word, and none that ends a sentence."""
_C4_ENDS = frozenset(".?!\"'")
_C4_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_C4_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class Marked(NamedTuple):
    """Gopher quality (Rae et al. 2021, A.1.1), of lines."""

    bullet_line_share: float
    ellipsis_line_share: float


def marked(text: str) -> Marked:
    """Lines that begin with a bullet, and lines that end with an ellipsis."""
    lines = text.splitlines()
    if not lines:
        return Marked(nan, nan)
    bullets = ellipses = 0
    if any(mark in text for mark in _BULLETS):
        bullets = sum(line.lstrip()[:1] in _BULLETS for line in lines if line)
    if any(mark in text for mark in ELLIPSES):
        ellipses = sum(line.rstrip().endswith(ELLIPSES) for line in lines)
    return Marked(bullets / len(lines), ellipses / len(lines))


class Repeated(NamedTuple):
    """Gopher repetition (Rae et al. 2021, A.1.1), of lines and paragraphs."""

    duplicate_paragraph_share: float
    duplicate_paragraph_character_share: float
    duplicate_line_share: float
    duplicate_line_character_share: float


def repeated(text: str) -> Repeated:
    """Paragraphs and lines that repeat an earlier one, and the share of the text's characters in these."""
    if not text:
        return Repeated(nan, nan, nan, nan)
    # What lies between two line ends or more, and between line ends: patterns take four times as long.
    paragraphs = [part for each in text.strip().split("\n\n") if (part := each.lstrip("\n"))] or [""]
    lines = [*filter(None, text.split("\n")), *[""] * (text.startswith("\n") + text.endswith("\n"))]
    return Repeated(
        1 - len(set(paragraphs)) / len(paragraphs),
        _duplicate_characters(paragraphs) / len(text),
        1 - len(set(lines)) / len(lines),
        _duplicate_characters(lines) / len(text),
    )


class FineWeb(NamedTuple):
    """FineWeb's own filters (Penedo et al. 2024, 3.6), of lines that are not blank."""

    lines: int
    punctuated_line_share: float
    short_line_share: float
    fineweb_duplicate_character_share: float


def fineweb(text: str) -> FineWeb:
    """Lines that end with terminal punctuation of any script, that are short, and the share of characters (line ends
    left out) in lines that repeat an earlier one."""
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if not lines:
        return FineWeb(0, nan, nan, nan)
    return FineWeb(
        len(lines),
        sum(line[-1] in TERMINAL_PUNCTUATION for line in lines) / len(lines),
        sum(len(line) <= SHORT for line in lines) / len(lines),
        _duplicate_characters(lines) / (len(text) - text.count("\n")),
    )


def _duplicate_characters(parts: list[str]) -> int:
    distinct = set(parts)
    return sum(map(len, parts)) - sum(map(len, distinct)) if len(distinct) < len(parts) else 0


class C4(NamedTuple):
    """C4 (Raffel et al. 2020, 2.2), of the lines that it would keep, or would look at for these."""

    c4_sentences: int
    c4_lorem_ipsum_lines: int
    c4_curly_bracket_lines: int


class C4Lines:
    """Finds C4's lines, and counts sentences as spaCy's sentencizer does, which datatrove uses: one begins at the first
    word after terminal punctuation; closing marks in between belong to the old one."""

    def __init__(self, runs: dict[str, str], split: Split) -> None:
        """`runs`: words of each run of text between white space, as far as known; `split` gives others."""
        self._marks = _Marks(runs, split)

    def __call__(self, text: str) -> C4:
        lorem_ipsum = curly_brackets = 0
        whole = text.lower()
        cited = "[" in whole  # without it, a phrase may come together
        latin, script = cited or "lorem ipsum" in whole, cited or "javascript" in whole
        policy = cited or any(phrase in whole for phrase in _C4_POLICY)
        kept: list[str] = []
        for line in map(str.strip, text.splitlines()):
            if "[" not in line and (line[-1:] not in _C4_ENDS or line.endswith("...")):
                continue  # as most lines, for what is cheapest to see
            if len(line) > LONGEST_WORD and max(map(len, line.split())) > LONGEST_WORD:
                continue
            if len(line.split(None, FEWEST_WORDS - 1)) < FEWEST_WORDS:
                continue
            if "[" in line:
                line = _C4_CITATION.sub("", line)
            if line[-1:] not in _C4_ENDS or line.endswith("..."):
                continue
            lower = line.lower() if latin or script or policy else ""
            lorem_ipsum += latin and "lorem ipsum" in lower
            if script and "javascript" in lower:
                continue
            curly_brackets += "{" in line
            if policy and any(phrase in lower for phrase in _C4_POLICY):
                continue
            kept.append(line)
        marks = "".join(map(self._marks.__getitem__, " \n ".join(kept).split(" ")))
        return C4(len(kept) + marks.count(".w"), lorem_ipsum, curly_brackets)


class _Marks(dict[str, str]):
    """Part of a line between single spaces -> `.` for each terminal mark, `w` for words and stretches of other white
    space, in order; other punctuation leaves nothing. Of several words without a terminal mark between them one tells
    as much."""

    def __init__(self, runs: dict[str, str], split: Split) -> None:
        self._runs, self._split = runs, split
        self._words = _WordMarks()
        self["\n"] = "|"  # between two lines: no sentence goes on

    def __missing__(self, part: str) -> str:
        self[part] = marks = "w" if part.isalpha() or _UNMARKED.fullmatch(part) else self._of(part)
        return marks

    def _of(self, part: str) -> str:
        words = self._runs.get(part)
        if words is not None:
            return "".join(map(self._words.__getitem__, words.split(" ")))
        return "".join(map(self._of_piece, _PIECE.findall(part) or " "))

    def _of_piece(self, piece: str) -> str:
        if piece.isspace():
            return "w"
        words = self._runs[piece] if piece in self._runs else self._split([piece])[0]
        return "".join(map(self._words.__getitem__, words.split(" ")))


class _WordMarks(dict[str, str]):
    """Word -> what it leaves."""

    def __missing__(self, word: str) -> str:
        if word in TERMINAL_PUNCTUATION:
            mark = "."
        elif word.isalnum():
            mark = "w"
        else:
            mark = "" if all(unicodedata.category(character)[0] == "P" for character in word) else "w"
        self[word] = mark
        return mark
