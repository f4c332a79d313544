"""Texts of Project Gutenberg without its header, its licence and who typed them; and what the header tells.

Of fifty years of texts the marks between a book and what stands around it are of a few kinds: `*** START OF ...` and
`*** END OF ...`, the end of the "small print" that texts of before 2003 have in front, and the words `End of Project
Gutenberg's ...`. A text without any is left as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NEAR = 60_000
"""Characters at the beginning and at the end of a text in which marks are sought."""
_START = re.compile(
    r"^[ \t]*+\*\*\*[ \t]*+START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*+(?:\n(?!\n)[^\n]*?\*\*\*[^\n]*)?"
    r"|^[^\n]{0,80}\*END[* ]*THE SMALL PRINT![^\n]*+",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(
    r"^[ \t]*+\*\*\*[ \t]*+END OF (?:THE|THIS) PROJECT GUTENBERG|^[ \t]*+End of (?:the |this )?Project Gutenberg",
    re.MULTILINE | re.IGNORECASE,
)
_FIELD = re.compile(
    r"^(Title|Author|Language):[ \t]*+([^\n]{1,300})((?:\n[ \t]{2,}[^\n]{1,300})*)",
    re.MULTILINE,
)
_TYPED = re.compile(
    r"\s*+(?:(?:Produced|Prepared|Scanned|Transcribed|Digitized|E-?text prepared|This e-?(?:text|book) was p\w+"
    r"|HTML version|Transcriber['’]s note|\(Additional editing)\b[^\n]*+(?:\n[^\n]++)*+\n\s*\n)",
    re.IGNORECASE,
)
_PROJECT = re.compile(r"Project Gutenberg", re.IGNORECASE)


@dataclass(frozen=True)
class Book:
    """The text of a book, and what its header tells; null where it does not."""

    text: str
    title: str | None = None
    author: str | None = None
    language: str | None = None


def cut(text: str) -> Book:
    """A text without what stands around it, where it is of Project Gutenberg."""
    head = text[:_NEAR]
    if not _PROJECT.search(head):
        return Book(text)
    starts = [found.end() for found in _START.finditer(head)]
    begin = starts[-1] if starts else 0
    end = _END.search(text, max(begin, len(text) - _NEAR))
    header = {name: " ".join(f"{value}{more}".split()) for name, value, more in _FIELD.findall(head[:begin])}
    body = text[begin : end.start() if end else len(text)]
    for _ in range(3):
        typed = _TYPED.match(body) if starts else None
        if not typed:
            break
        body = body[typed.end() :]
    return Book(body.strip("\n"), header.get("Title"), header.get("Author"), header.get("Language"))
