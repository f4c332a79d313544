"""From an HTML page to its main text by resiliparse, and to what its markup states: no tree is made in Python.

Runs inside the watched child, in the place of `tasks.extraction.html` where no more is asked for: a child then starts
without that one's libraries, which take .2 s of a core to import.
"""

from __future__ import annotations

import re
from typing import Any

from resiliparse.extract.html2text import extract_plain_text

from tasks.extraction.facts import facts

_READING = re.compile(r"<rt\b", re.IGNORECASE)
_RUBY = re.compile(r"<(r[tp])\b[^<>]*+>[^<>]*+(?:</\1\s*+>)?|</?(?:ruby|rb|rtc|rt|rp)\b[^<>]*+>", re.IGNORECASE)
"""Readings, and the tags around what they are of."""
_TAG = 30e-6
"""Seconds that resiliparse takes for a tag, at most, where few lie in each other: of links in 190 elements 45."""


def extract(html: str, url: str | None, latest: str | None, *, costliest: float, **others: Any) -> dict[str, Any]:
    """What `tasks.extraction.html.extract` returns for `extractor: resiliparse`, whatever the `others` of its settings
    say. Reasons: `too_costly` (with what was counted, `work`), `no_text`."""
    del others
    tags = html.count("<")
    if tags * _TAG > costliest:
        return {"reason": "too_costly", "work": {"elements": tags, "characters": len(html)}}
    text = main_content(html)
    return {"text": text, **facts(html, url, latest)} if text.strip() else {"reason": "no_text"}


def main_content(html: str) -> str:
    """The main text of a page, without readings above Japanese: resiliparse leaves out a character that stands alone
    below one, and joins others with theirs."""
    html = _RUBY.sub("", html) if _READING.search(html) else html
    return extract_plain_text(html, main_content=True, alt_texts=False)
