"""What a page says before its main text is extracted: enough of it to tell its language, in a hundredth of the time.

Tags are stripped, not parsed. What is looked at is bounded, and every step is linear in it, whatever the page holds.
"""

from __future__ import annotations

import re
from html import unescape

LOOKED_AT = 2**20
"""Characters of a page that are looked at, at most."""
LINE = 300
"""Characters of a line that are judged, at most: one of them may be data."""
_LINES = 100
"""Lines among which the longest are sought once their spaces are made one."""
_SILENT = (b"script", b"style", b"svg", b"template", b"noscript")
"""Elements whose text nobody reads."""
_INLINE = re.compile(
    rb"</?(?:a(?:bbr)?|b(?:di)?|code|em|font|i|mark|s(?:mall|pan|trong|u[bp])|u|wbr)\b[^<>]*+>"  # one branch a letter
)
_TAGS = re.compile(rb"<[^<>]*+(?:>\s*+<[^<>]*+)*+>?")
"""A tag, and those behind it with nothing but space between: five in six are, and would be empty lines."""
_LANGUAGE = re.compile(r"<(?:html|body)\b[^<>]*?\s(?:xml:)?lang\s*+=\s*+[\"']?\s*+([a-z]{2,3})\b", re.IGNORECASE)
_CODE = re.compile(r"\s*+([a-z]{2,3})\b", re.IGNORECASE)
_HEAD = 2**13
"""Characters in which a page's own element is sought."""


def raw_text(html: str, most: int) -> str:
    """About `most` characters of what stands on a page, in lower case: its longest lines, of equally long ones the
    first, as prose is in long ones and menus in short ones."""
    found = html[:LOOKED_AT].encode(errors="ignore").lower()  # of bytes that takes a tenth of the time
    for name in _SILENT:
        found = _without(found, b"<" + name, b"</" + name, b"<")
    found = _TAGS.sub(b"\n", _INLINE.sub(b"", _without(found, b"<!--", b"-->", b"\n")))
    stripped = [*map(bytes.strip, found.split(b"\n"))]
    lengths = [*map(len, stripped)]
    longest = sorted(sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)[:_LINES])
    lines = [" ".join(stripped[each][: 6 * LINE].decode(errors="ignore").split())[:LINE] for each in longest]
    chosen, size = [], 0
    for line in sorted(lines, key=len, reverse=True):
        if size >= most or not line:
            break
        chosen.append(unescape(line).lower())
        size += len(line) + 1
    return " ".join(chosen)


def _without(text: bytes, start: bytes, end: bytes, instead: bytes) -> bytes:
    """A text with `instead` in the place of what stands from each `start` to the next `end`."""
    first, *rest = text.split(start)
    return b"".join((first, *(instead + part.partition(end)[2] for part in rest)))


def declared_language(html: str, header: str | None = None) -> str | None:
    """The language that a page says it is in, or else its Content-Language: ISO 639-1, or 639-3."""
    found = _LANGUAGE.search(html, 0, _HEAD) or _CODE.match(header or "")
    return found[1].lower() if found else None
