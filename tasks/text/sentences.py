"""Where the sentences of a text begin and end.

A sentence ends with marks that end one, and what closes behind them; in scripts with spaces where a space follows and
no small letter comes next, and not behind an initial or a common abbreviation. So `3.14`, `e.g. this` and `J. Smith`
are inside one. What stands between sentences is white space.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

_END = regex.compile(
    r"[。！？।॥။።؟۔]+[\"'”’»」』）〉》\])]*+|(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s++(?![\p{Ll}\p{N}])|$)"
)
_ABBREVIATED = regex.compile(
    r"(?:^|[\s(\"'“‘])(?:\p{Lu}|(?:\p{L}\.)+\p{L}|Mrs?|Ms|Dr|Prof|St|Sr|Jr|Rev|Gen|Col|Capt|Lt|Sen|Rep|No|Nos|Fig|Figs|Vol|"
    r"vol|pp?|ch|ed|eds|vs|al|etc|cf|approx|ca|Inc|Ltd|Co|Corp|Bros|Ave|Mt)\.$"
)
_LONGEST = 16
"""Characters in which an abbreviation is looked for."""


def sentences(line: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence of one line, without the white space around them, in order."""
    begin = 0
    for match in _END.finditer(line):
        end = match.end()
        if match[0] == "." and end < len(line) and _ABBREVIATED.search(line, max(0, end - _LONGEST), end):
            continue
        yield from _without_spaces(line, begin, end)
        begin = end
    yield from _without_spaces(line, begin, len(line))


def _without_spaces(line: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    bare = line[begin:end].strip()
    if bare:
        start = line.index(bare, begin)
        yield start, start + len(bare)
