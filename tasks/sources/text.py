"""One normalisation for the text of every source.

Unicode NFC; line ends, form feeds and line separators become newlines; tabs stay; every other space (no-break,
ideographic, the sixteen widths) becomes a space; what has no width or direction of its own is removed: other control
characters, bidirectional controls, zero-width space and joiner-like marks, soft hyphens, interlinear annotations, tag
characters, noncharacters; so is every combining mark after 30 in a row. The joiners U+200C and U+200D stay where they
shape what is read: after a character of a script that joins (Arabic, Syriac, the Indic scripts, Mongolian) or after a
symbol, as in emoji sequences. Applied to its own result it changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from datetime import date

import regex

_NEWLINE = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSHAPED = re.compile(
    "(?<![\u0600-\u10ff\u1200-\u1aff\u2190-\u2bff\ua840-\uabff\ufb50-\ufdcf\ufdf0-\ufe0f\ufe70-\ufefc\U00010a00-\U0001faff])"
    "[\u200c\u200d]+"
)
_ASCII = {c: _INVISIBLE.sub("", _NEWLINE.sub("\n", chr(c))) for c in range(128)}
"""What becomes of ASCII, of which a table makes it ten times as fast."""
_MARKS = regex.compile(r"(?<!\p{M})(\p{M}{30})\p{M}++")
"""More marks on a character than any script has; UAX #15 cuts at as many. NFC takes time of their number squared."""
_MANY = regex.compile(r"\p{M}{31}")
"""Whether there are so many anywhere, which is found in half the time."""
_RUN = regex.compile(r"[\p{M}\u200c\u200d]++")
"""Marks and joiners in a row."""
LONGEST = 1000
"""Characters of a title, author or site name, at most."""


def normalise(text: str) -> str:
    """Text of a document: normalised, without blank lines at its beginning or space at its end."""
    if text.isascii():
        text = text.replace("\r\n", "\n").translate(_ASCII)
    else:  # pattern by pattern: one of several alternatives takes three times as long
        text = _NEWLINE.sub("\n", _SPACE.sub(" ", text).replace("\r\n", "\n"))
        text = _INVISIBLE.sub("", _UNSHAPED.sub("", text) if "\u200c" in text or "\u200d" in text else text)
    first = len(text) - len(text.lstrip(" \t\n"))
    return _shaped(_composed(text[text.rfind("\n", 0, first) + 1 :].rstrip()))


def _shaped(text: str) -> str:
    """Without the joiners of runs of marks in which one came to stand behind a mark that shapes nothing, as NFC changes
    the places of marks."""
    if ("\u200c" not in text and "\u200d" not in text) or not _UNSHAPED.search(text):
        return text
    return _composed(_RUN.sub(lambda run: _plain(run[0]) if _UNSHAPED.search(text, *run.span()) else run[0], text))


def _plain(run: str) -> str:
    return run.replace("\u200c", "").replace("\u200d", "")


def _composed(text: str) -> str:
    """NFC, of every run of combining marks the first 30; a mark may become three."""
    if text.isascii():
        return text
    text = _thirty(text)
    if not unicodedata.is_normalized("NFC", text):  # by way of NFD: marks that come apart cost an eighth so
        text = _thirty(unicodedata.normalize("NFC", unicodedata.normalize("NFD", text)))
    return text


def _thirty(text: str) -> str:
    return _MARKS.sub(r"\1", text) if _MANY.search(text) else text


def line(text: str | None) -> str | None:
    """One line of metadata: normalised, runs of space made one, at most `LONGEST` characters; null where empty."""
    return " ".join(normalise(text[: 4 * LONGEST]).split())[:LONGEST].rstrip() or None if text else None


def day(stamp: str | None) -> str | None:
    """The day that a time begins with, as ISO 8601 has it; None where the calendar has none."""
    with suppress(ValueError):
        return date.fromisoformat((stamp or "")[:10]).isoformat()
    return None
