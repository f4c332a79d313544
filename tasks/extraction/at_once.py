"""From an HTML page to its main text by resiliparse, and to what its markup states: no tree is made in Python.

Runs inside the watched child, in the place of `tasks.extraction.html` where no more is asked for: a child then starts
without that one's libraries, which take .2 s of a core to import.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Any

from resiliparse.extract.html2text import extract_plain_text

from tasks.extraction.facts import facts
from tasks.extraction.formulas import LONGEST_SCRIPT, script

_SMALL = re.compile(r"<[rs](?:t\b|u[bp]\b)", re.IGNORECASE)
"""Where a reading, or a sub- or superscript, may be: one scan for both, as most pages have neither."""
_RUBY = re.compile(r"<(r[tp])\b[^<>]*+>[^<>]*+(?:</\1\s*+>)?|</?(?:ruby|rb|rtc|rt|rp)\b[^<>]*+>", re.IGNORECASE)
"""Readings, and the tags around what they are of."""
_SCRIPT = re.compile(
    r"<pre\b"
    r"|<(su[bp])\b[^<>]{0,500}>([^<>]{0,99}(?:<(?!/?su[bp]\b)[^<>]{0,500}>[^<>]{0,99}){0,6})</\1\s*>",
    re.IGNORECASE,
)
"""A sub- or superscript with some elements in it, none of them such a one; or where code begins, whose scripts stay."""
_CODE_ENDS = re.compile("</pre", re.IGNORECASE)
_MARKUP = re.compile("<[^<>]*>")
_LINK = re.compile(r"<(/?)a\b", re.IGNORECASE)
_LONE = re.compile(r">(\s?[^\x00-\u07ff]\s?)<")
_BESIDE = "\ufdd0"
"""resiliparse passes over a text of one character of three bytes between two tags, as `<b>爱</b>` and `<li>一</li>`: so
this one, which Unicode keeps out of texts, goes beside it, and goes again."""
_NEAR = 500
"""Characters before a script in which a link may begin that it stands in."""
_TAG = 30e-6
"""Seconds that resiliparse takes for a tag, at most, where few lie in each other: of links in 190 elements 45."""


def extract(html: str, url: str | None, latest: str | None, *, costliest: float, **others: Any) -> dict[str, Any]:
    """What `tasks.extraction.html.extract` returns for `extractor: resiliparse`, whatever the `others` of its settings
    say. Reasons: `too_costly` (with what was counted, `work`), `no_text`."""
    del others
    tags = html.count("<")
    if tags * _TAG > costliest:
        return {"reason": "too_costly", "work": {"elements": tags, "characters": len(html)}}
    text = main_content(html, scripts=True)
    return {"text": text, **facts(html, url, latest)} if text.strip() else {"reason": "no_text"}


def _with_scripts(html: str) -> str:
    """A page with its sub- and superscripts as they stand in a line (as by `tasks.extraction.formulas.write_scripts`),
    in time that is linear in its length."""
    found, done, code_ends = list[str](), 0, 0
    for match in _SCRIPT.finditer(html):
        start, end = match.span()
        if start < code_ends:
            continue
        if not match[1]:
            code_end = _CODE_ENDS.search(html, end)
            code_ends = code_end.start() if code_end else len(html)
        elif (written := _in_line(match, html)) is not None:
            found += [html[done:start], escape(written)]
            done = end
    return "".join((*found, html[done:]))


def _in_line(match: re.Match[str], html: str) -> str | None:
    """None of one that stays as it is: text of some length, or a formula."""
    inside = match[2]
    text = unescape(_MARKUP.sub("", inside))
    if len(text) > LONGEST_SCRIPT or "<math" in inside.lower():
        return None
    links = _LINK.findall(html, max(0, match.start() - _NEAR), match.start())
    return script(text, match[1].lower(), links[-1:] == [""] or _LINK.search(inside) is not None)


def main_content(html: str, scripts: bool = False) -> str:
    """The main text of a page, without readings above Japanese: resiliparse leaves out a character that stands alone
    below one, and joins others with theirs. `scripts`: with sub- and superscripts as they stand in a line."""
    if _SMALL.search(html):
        html = _RUBY.sub("", _with_scripts(html) if scripts else html)
    html, lone = _LONE.subn(rf">\1{_BESIDE}<", html)
    text: str = extract_plain_text(html, main_content=True, alt_texts=False)
    return text.replace(_BESIDE, "") if lone else text
