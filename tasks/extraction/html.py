"""From an HTML page to its main text and its title, date, author and site name.

Runs inside the watched child (`tasks.extraction.child`), because a page can cost any amount of time and memory. Main
text is trafilatura's (Barbaresi, ACL 2021), tables kept, comments left out. Text and metadata share one parse, and of
the metadata only what a document keeps is looked for, where a cheap scan says it can be. On one core, 990 pages of 145
kB: 51 pages/s, where trafilatura makes 41 with its metadata and 64 without any (`benchmarks/extraction.py`).
Same page, same result, in whatever process and order: nothing here reads the clock or what another page left behind.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from functools import cache
from html import unescape
from typing import TYPE_CHECKING, Any

from htmldate import find_date
from lxml.etree import XPath
from lxml.html import HtmlElement
from trafilatura import bare_extraction
from trafilatura.metadata import (
    examine_meta,
    extract_author,
    extract_meta_json,
    extract_sitename,
    extract_title,
)
from trafilatura.utils import HTML_PARSER, load_html

from tasks.engine.hosts import site as site_of
from tasks.extraction import at_once, trafilatura_patches
from tasks.extraction.authors import credible
from tasks.extraction.facts import facts
from tasks.extraction.formulas import write_scripts
from tasks.extraction.main_text import main_text
from tasks.extraction.render import Format
from tasks.extraction.work import surely_at_most, work

trafilatura_patches.apply()

_AUTHOR_CUES = (
    *("author", "Author", "byl", "Byl", "BBL", "username", "screenname", "writer", "channel-name"),
    *("submitted-by", "posted-by", "journalist-name", "zuozhe", "bianji", "xiaobian"),
)

if TYPE_CHECKING:
    from data_specs.extract import Extractor  # its library of settings takes a third of what a child takes to start
"""What trafilatura's searches for an author look for in attributes; a page without any of them needs no search."""
_JSON = XPath('.//script[@type="application/ld+json" or @type="application/settings+json"]')
_SEARCHED = 10**8
"""Characters that the patterns for an author in broken JSON may look at, at most; about a second."""
_UNKNOWN = datetime(2039, 12, 31)
"""Latest date where a record has none: the end of the years that htmldate knows."""


@cache
def _deeper(levels: int) -> XPath:
    """Whether a page has elements below so many levels of others (0.1 ms for 145 kB)."""
    return XPath(f"boolean({'/*' * (levels + 1)})")


def names_author(html: str) -> bool:
    """Whether any tag holds one of the cues, by a scan without a parse."""
    for cue in _AUTHOR_CUES:
        at = html.find(cue)
        while at >= 0:
            start = max(0, at - 4096)
            if html.rfind("<", start, at) > html.rfind(">", start, at):
                return True
            at = html.find(cue, at + 1)
    return False


def _searches_long(tree: HtmlElement) -> bool:
    """Whether JSON-LD is broken, so that patterns would look for its author, and go back so often that 100 kB cost
    minutes."""
    for script in _JSON(tree):
        text = script.text or ""
        found = sum(map(text.count, ('"author"', 'erson"', '"publisher"'))) * (1 + text.count('"name'))
        if found * len(text) > _SEARCHED:
            try:
                json.loads(text, strict=False)
            except (ValueError, RecursionError):
                return True
    return False


def metadata(tree: HtmlElement, html: str, url: str | None, latest: str | None) -> dict[str, str | None]:
    """Title, date (ISO 8601 day), author and site name of a parsed page; empty or null where it does not say.

    `latest` is the day of the record (ISO 8601): no page was published after it was crawled.
    """
    found = examine_meta(tree)
    if found.author and " " not in found.author:
        found.author = None
    with suppress(AttributeError, KeyError, TypeError, ValueError, RecursionError):
        found = (
            found if _searches_long(tree) else extract_meta_json(tree, found)
        )  # JSON-LD of any shape; what the page says elsewhere still counts
    if not found.author and names_author(html):
        found.author = extract_author(tree)
    end = datetime.fromisoformat(latest).replace(hour=23, minute=59, second=59) if latest else _UNKNOWN
    date = None
    with suppress(ValueError, OverflowError):  # dates that no calendar has, offsets of a day and more
        date = find_date(tree, extensive_search=False, original_date=True, url=url or "", max_date=end)
    site = found.sitename or extract_sitename(tree)
    return {
        "title": unescape(found.title or extract_title(tree) or ""),
        "date": date,
        "author": unescape(found.author or ""),
        "site": unescape(site or "").lstrip("@") or site_of(url),
    }


def extract(
    html: str,
    url: str | None,
    latest: str | None,
    *,
    fast: bool,
    deepest: int,
    costliest: float,
    extractor: Extractor = "trafilatura",
    by_page_type: bool = False,
    form: Format = "text",
    stated: bool = False,
) -> dict[str, Any]:
    """Main text and metadata of a page: `{"text", "title", "date", "author", "site"}`, or `{"reason"}`; `stated`: of
    the metadata what the markup states.

    Reasons: `too_deep` (nesting of elements as parsed; at 256 levels libxml2 gives up), `not_html` (no tree can be made
    of it), `too_costly` (with what was counted, `work`), `no_text`. Raises whatever the libraries raise on a page that
    breaks them.
    """
    if extractor == "resiliparse" and not by_page_type:
        return at_once.extract(html, url, latest, costliest=costliest)
    tree = load_html(html)
    if any(error.type_name == "ERR_RESOURCE_LIMIT" for error in HTML_PARSER.error_log.filter_from_fatals()):
        return {"reason": "too_deep"}
    if tree is None:
        return {"reason": "not_html"}
    if _deeper(deepest)(tree):
        return {"reason": "too_deep"}
    most = int(costliest * 10**6)
    if not surely_at_most(tree, len(html), most, deepest) and (counted := work(tree, len(html), most)).total > most:
        return {"reason": "too_costly", "work": asdict(counted)}
    stated = stated or extractor == "resiliparse"
    found = facts(html, url, latest) if stated else metadata(tree, html, url, latest)
    if not by_page_type:
        write_scripts(tree)
        text = _by_trafilatura(tree, fast)
        return {"text": text, **found} if text else {"reason": "no_text"}
    if not stated:
        found["author"] = credible(found["author"] or "")
    text = main_text(tree, url, extractor, lambda which: taken_from(tree, html, which, fast), form)
    return {"text": text, **found} if text else {"reason": "no_text"}


def taken_from(tree: HtmlElement, html: str, extractor: Extractor, fast: bool = True) -> str:
    """The main text that an extractor takes from a page."""
    return at_once.main_content(html) if extractor == "resiliparse" else _by_trafilatura(tree, fast)


def _by_trafilatura(tree: HtmlElement, fast: bool) -> str:
    return getattr(bare_extraction(tree, fast=fast, include_comments=False), "text", None) or ""
