"""Two texts, word by word: what was removed of the one and added in the other, and of what is equal a little around it.

Long texts are compared line by line first, and the words only of lines that differ: comparing is quadratic, and what is
compared here is hostile. Stretches that are too large to compare are told as removed and added whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal, NamedTuple

from data_specs.amounts import plural

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|.", re.DOTALL)
"""Words, and single characters of scripts without spaces, of punctuation and of space."""
_LARGEST = 4_000_000
"""Parts of the one text times parts of the other, at most, that are compared."""
_AROUND = 60
"""Characters of equal text that are shown before and after what differs."""


class Piece(NamedTuple):
    """A stretch of text, and which of two texts it is of."""

    kind: Literal["equal", "removed", "added", "skipped"]
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """The pieces of both texts, in order: without those `added` they are the one, without those `removed` the other."""
    found = _lines(before.splitlines(keepends=True), after.splitlines(keepends=True))
    merged = [Piece(kind, "".join(each.text for each in group)) for kind, group in groupby(found, lambda p: p.kind)]
    return [piece for piece in merged if piece.text]


def _lines(before: Sequence[str], after: Sequence[str]) -> Iterator[Piece]:
    for same, one, other in _blocks(before, after):
        if same:
            yield Piece("equal", "".join(one))
        elif len(one) == len(other):  # as where every line was rewritten
            for line, rewritten in zip(one, other, strict=True):
                yield from _words(line, rewritten)
        else:
            yield from _words("".join(one), "".join(other))


def _words(before: str, after: str) -> Iterator[Piece]:
    for same, one, other in _blocks(_WORD.findall(before), _WORD.findall(after)):
        if same:
            yield Piece("equal", "".join(one))
        else:
            yield Piece("removed", "".join(one))
            yield Piece("added", "".join(other))


def _shared(before: Sequence[str], after: Sequence[str]) -> int:
    """How many parts are the same at the beginning of both."""
    pairs = zip(before, after, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(before), len(after)))


def _blocks(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[bool, Sequence[str], Sequence[str]]]:
    """(whether they are the same, parts of the one, parts of the other), in order; of too many what is the same at both
    ends, and all between them at once."""
    if len(before) * len(after) <= _LARGEST:
        for what, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            yield what == "equal", before[a:b], after[c:d]
        return
    first = _shared(before, after)
    last = _shared(before[first:][::-1], after[first:][::-1])
    middle, other = before[first : len(before) - last], after[first : len(after) - last]
    yield True, before[:first], after[:first]
    yield from _blocks(middle, other) if first + last else [(False, middle, other)]
    yield True, before[len(before) - last :], after[len(after) - last :]


def shortened(found: Sequence[Piece], most: int = 200) -> list[Piece]:
    """The pieces that differ, at most so many, and what stands right around them; `skipped` says how many characters,
    or differences, are not shown."""
    differing = [number for number, piece in enumerate(found) if piece.kind != "equal"]
    if len(differing) > most:
        found = found[: differing[most]]
    result = []
    for number, piece in enumerate(found):
        begin = _AROUND if number else 0
        end = len(piece.text) - (_AROUND if number < len(found) - 1 or len(differing) > most else 0)
        if piece.kind != "equal":
            result.append(_cut(piece))
        elif begin + _AROUND < end:
            result += [Piece("equal", piece.text[:begin]), Piece("skipped", plural(end - begin, "character"))]
            result.append(Piece("equal", piece.text[end:]))
        else:
            result.append(piece)
    if len(differing) > most:
        result.append(Piece("skipped", plural(len(differing) - most, "more difference")))
    return [piece for piece in result if piece.text]


def _cut(piece: Piece, longest: int = 2000) -> Piece:
    """A piece that differs, of a very long one the beginning."""
    more = len(piece.text) - longest
    return piece if more <= 0 else piece._replace(text=f"{piece.text[:longest]} ... {plural(more, 'more character')}")
