"""What the lines of a text are: sentences, lists, tables, code, verse, or the labels and links around them.

Lines that were wrapped at some width are joined first, so that a paragraph is judged and not its lines. What a line is
follows from its shape alone, the same in every script; a script without spaces has about a word in two characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

UNSPACED = "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\u312f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Scripts without spaces between words, as a range of a regular expression: Thai, Lao, Tibetan, Burmese, Khmer, kana
and ideographs."""
FEWEST_WORDS = 4
"""Words of a sentence, at least."""
LONG = 12
"""Words from which a line with a comma is a clause, though no mark ends it, as the steps of a recipe are."""
LONGER = 25
"""Words from which a line is prose without any mark."""
NARROWEST, WIDEST = 40, 110
"""Width of lines that were wrapped by hand or by a program; an ideograph is two wide."""
VERSES = 4
"""Lines in a row that may be a stanza, at least."""

_WIDE = re.compile(f"[{UNSPACED}\u3000-\u303f\uff00-\uff60]")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_LETTER_RUN = re.compile(rf"[^\W\d_{UNSPACED}][^\s{UNSPACED}]*")
_END = re.compile(r"[.!?…][\"'”’»)\]*_]*(?=\s|$)|[。！？；।॥។။።؟۔]")
_ENDS = tuple(".!?…。！？；:：\"'”’」』)）]】।॥។။።؟۔")
_COMMA = re.compile(r"[,;:，、；：،、]")
_ITEM = re.compile(
    r"(?:[-*+•·●○▪■◆➤►–—]|\(?(?:\d{1,3}|[a-zA-Z])[.)、．]|[（(]?[一二三四五六七八九十]{1,3}[、.)）])\s*\S"
)
_HEADING = re.compile(r"#{1,6}\s|={2,}|-{3,}$")
_FENCE = re.compile(r"\s*(?:```|~~~|\$\$\s*$)")
_ROW = re.compile(r"\S *\|.*\||^\|.*\||\S\t+\S.*\t+\S|\S {3,}\S.* {3,}\S")
_CODE_END = re.compile(r"[{};)]$|\) ?:$|\],$")
_CODE_START = re.compile(
    r"\s*(?:[$>%]\s|#include|#!|//|/\*|\*/|<\w+[^>]*>|</\w+>|(?:sudo|apt|pip|git|cd|def|class|import|from|return|public|"
    r"private|static|int|void|const|let|var|function|using|namespace|template|struct|for|while|if|else|elif|try)\b)"
)
_SYMBOL = re.compile(r"[{}()\[\]<>=;_/\\&$@^~`+]")


class Kind(StrEnum):
    """What a block of lines is."""

    PROSE = "prose"
    LIST = "list"
    TABLE = "table"
    CODE = "code"
    VERSE = "verse"
    OTHER = "other"


class Block(NamedTuple):
    """A paragraph, an item of a list, a row of a table, a line of code or of verse, or another line."""

    kind: Kind
    text: str
    words: int


def words(text: str) -> int:
    """About how many words a text has: runs with a letter between spaces, half the characters of unspaced scripts."""
    return len(_LETTER_RUN.findall(text)) + len(_UNSPACED.findall(text)) // 2


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a text, in order."""
    fenced = False
    for blank, run in groupby(text.splitlines(), lambda line: not line.strip()):
        if blank:
            continue
        lines: list[str] = []
        for line in run:
            if _FENCE.match(line):
                yield from _run(lines)
                lines, fenced = [], not fenced
            elif fenced:
                yield Block(Kind.CODE, line, words(line))
            else:
                lines.append(line)
        yield from _run(lines)


def _run(lines: list[str]) -> Iterator[Block]:
    """The blocks of lines without a blank one between."""
    paragraphs = list(_joined(lines))
    verse = len(paragraphs) >= VERSES and _stanza(paragraphs)
    for paragraph in paragraphs:
        number = words(paragraph)
        yield Block(Kind.VERSE if verse else _kind(paragraph, number), paragraph, number)


def _joined(lines: list[str]) -> Iterator[str]:
    """Lines, those that were wrapped joined: a line goes on in the next where that begins in lower case and no mark
    ends the line, or where the line is about as wide as most and the next is no item of a list."""
    if len(lines) < 2:
        yield from lines
        return
    widths = [_width(line) for line in lines]
    usual = sorted(widths)[int(0.8 * len(widths))]
    wrapped = len(lines) > 2 and NARROWEST <= usual <= WIDEST
    held: list[str] = []
    for number, line in enumerate(lines):
        held.append(line.strip() if held else line)
        after = lines[number + 1].lstrip() if number + 1 < len(lines) else ""
        full = wrapped and 0.7 * usual <= widths[number] <= 1.4 * usual
        open_ended = (after[:1].islower() and line[-1:].isalpha()) or line.rstrip().endswith(",")
        if after and (full or open_ended) and not _ITEM.match(after):
            continue
        yield " ".join(held)
        held = []


def _width(line: str) -> int:
    return len(line) + len(_WIDE.findall(line))


def _kind(line: str, number: int) -> Kind:
    bare = line.strip()
    sentence = number >= FEWEST_WORDS and _END.search(bare) is not None
    clause = number >= LONG and _COMMA.search(bare) is not None
    if not sentence and _code(line, bare):
        return Kind.CODE
    if _ROW.search(bare) and not (sentence and number >= LONG):
        return Kind.TABLE
    if sentence or clause or number >= LONGER:
        return Kind.PROSE
    return Kind.LIST if _ITEM.match(bare) and not _HEADING.match(bare) else Kind.OTHER


def _code(line: str, bare: str) -> bool:
    """Whether a line is one of a program, a command or a formula: by many symbols, or by how it begins and ends."""
    symbols = len(_SYMBOL.findall(bare))
    if symbols >= 3 and symbols > 0.15 * len(bare):
        return True
    return symbols >= 1 and bool(_CODE_START.match(line)) and bool(_CODE_END.search(bare[-3:]))


def _stanza(lines: list[str]) -> bool:
    """Whether lines are verse: short, three in four of about the same length, half of them ended by a mark, and none
    with a digit, a symbol or the beginning of an item."""
    widths = sorted(map(_width, lines))
    middle = widths[len(widths) // 2]
    if not 8 <= middle <= 60 or widths[-1] > 2 * middle + 4:
        return False
    even = sum(abs(width - middle) <= 0.4 * middle for width in widths) / len(widths)
    marked = sum(line.rstrip().endswith((",", "，", "、", ";", "；", *_ENDS)) for line in lines) / len(lines)
    plain = not any(_ITEM.match(line.lstrip()) or _SYMBOL.search(line) or re.search(r"\d", line) for line in lines)
    return even >= 0.75 and marked >= 0.5 and plain
