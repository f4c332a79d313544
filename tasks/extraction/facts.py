"""Title, date, author and site of a page by one scan of its markup, for extraction that makes no tree in Python.

What is read: the title element, meta elements, JSON-LD, the first time element and the address, in that order of trust.
It takes a fiftieth of what the searches of trafilatura and htmldate take, and finds less: what a page says in its
visible text alone is not looked for. Every pattern is linear in the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from html import unescape
from typing import Any

from tasks.engine.hosts import site as site_of
from tasks.extraction.authors import credible

VERSION = 5  # a title that is escaped twice is plain
_LOOKED_AT = 2**20
"""Characters of a page that are looked at, at most."""
_BEGINS = re.compile(r"<[!hmst](?:--|1\b|eta\b|ime\b|itle\b|cript\b|tyle\b|vg\b|emplate\b|extarea\b)", re.IGNORECASE)
"""Where an element that is looked at begins, or one in which none is: one scan instead of one for each."""
_META = re.compile(r"<meta\b([^<>]{0,2000})>", re.IGNORECASE)
_TIME = re.compile(r"<time\b[^<>]{0,500}?\bdatetime\s*+=\s*+[\"']([^\"']*+)", re.IGNORECASE)
_LINKED = re.compile(
    r"<script\b[^<>]{0,200}?application/ld\+json[^<>]*+>([^<]*+(?:<(?!/script)[^<]*+)*+)", re.IGNORECASE
)
_ATTRIBUTE = re.compile(r"([\w:.-]++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))")
_TITLE = re.compile(r"<title\b[^<>]*+>(?:([^<]*+(?:<(?!/?title\b)[^<]*+){0,50}+)(?=</title\b)|([^<]*+))", re.IGNORECASE)
_HEADING = re.compile(r"<h1\b[^<>]*+>(?:([^<]*+(?:<(?!/?h1\b)[^<]*+){0,50}+)(?=</h1\b)|([^<]*+))", re.IGNORECASE)
"""Such an element up to its end; one that has none up to the next tag."""
_TAG = re.compile(r"<[^<>]*+>")
_OPENED = re.compile(r"(?=[\s/>])[^<>]*+(?<!/)>")
"""The rest of a tag that opens an element."""
_ENDS = {name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style", "svg", "template", "textarea")}
_ENDS["!--"] = re.compile("-->")
"""By what a comment, or an element that holds none of the page, ends."""
_DAY = re.compile(
    r"(?<!\d)((?:19|20)\d\d)(?:[-/.年](0?[1-9]|1[0-2])[-/.月](0?[1-9]|[12]\d|3[01])"
    r"|(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))(?!\d)"
)
_IN_ADDRESS = re.compile(r"/((?:19|20)\d\d)([-/]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?=[-/._])")
_NAMES = {
    "title": ("og:title", "twitter:title", "dc.title", "headline"),
    "date": (
        *("article:published_time", "datepublished", "og:published_time", "publishdate", "pubdate", "publish_date"),
        *("parsely-pub-date", "dc.date", "dc.date.issued", "dcterms.date", "dcterms.created", "citation_date", "date"),
        *("article:modified_time", "last-modified"),
    ),
    "author": ("author", "article:author", "dc.creator", "parsely-author", "citation_author", "byl", "twitter:creator"),
    "site": ("og:site_name", "application-name", "publisher", "dc.publisher"),
}
_FACT = {name: (fact, rank) for fact, names in _NAMES.items() for rank, name in enumerate(names)}


def facts(html: str, url: str | None, latest: str | None) -> dict[str, str | None]:
    """As `tasks.extraction.html.metadata` has them; `latest` is the day after which no page was published."""
    html = html[:_LOOKED_AT]
    near = _places(html)
    meta = _meta(html, near)
    linked = list(_linked(html, near))
    title = meta.get("title") or unescape(_first(_TITLE, html, near) or _first(_HEADING, html, near, _TAG) or "")
    dates = (
        meta.get("date"),
        *_values(linked, "datePublished"),
        *_values(linked, "dateCreated"),
        next((found[1] for place in near if (found := _TIME.match(html, place))), None),
    )
    in_address = _IN_ADDRESS.finditer(url or "")
    days = [
        *filter(None, map(_day, filter(None, dates))),
        *filter(None, (_valid(found[1], found[3], found[4]) for found in in_address)),
    ]
    authors = (meta.get("author"), *_values(linked, "author"))
    site = meta.get("site") or next(iter(_values(linked, "publisher")), None)
    return {
        "title": unescape(title).strip(),  # many sites escape it twice
        "date": next((day for day in days if latest is None or day <= latest), None),
        "author": next(filter(None, map(credible, filter(None, authors))), ""),
        "site": unescape(site or "").strip().lstrip("@") or site_of(url),
    }


def _places(html: str) -> list[int]:
    """Where titles, headings, meta and time elements and scripts of JSON-LD begin, none of them in a comment, another
    script, a style, drawing or template, as far as these have an end."""
    places, at, endless = list[int](), 0, set[str]()
    while begun := _BEGINS.search(html, at):
        start, at, name = begun.start(), begun.end(), begun[0][1:].lower()
        if name not in _ENDS:
            places.append(start)
        elif name not in endless and (name == "!--" or _OPENED.match(html, at)):
            ended = _ENDS[name].search(html, start + 2)
            if ended is None:
                endless.add(name)
                continue
            at = ended.end()
            if name == "script" and _LINKED.match(html, start):
                places.append(start)
    return places


def _first(pattern: re.Pattern[str], html: str, near: list[int], without: re.Pattern[str] | None = None) -> str | None:
    """The first text of an element at some places, without some parts."""
    texts = (found[1] or found[2] or "" for place in near if (found := pattern.match(html, place)))
    shown = (" ".join((without.sub("", text) if without else text).split()) for text in texts)
    return next(filter(None, shown), None)


def _meta(html: str, near: list[int]) -> dict[str, str]:
    """What meta elements at some places say, of several that say the same thing the one of the best name."""
    found: dict[str, tuple[int, str]] = {}
    for meta in filter(None, (_META.match(html, place) for place in near)):
        values = {name.lower(): a or b or c for name, a, b, c in _ATTRIBUTE.findall(meta[1])}
        name = values.get("property") or values.get("name") or values.get("itemprop") or values.get("http-equiv") or ""
        fact, rank = _FACT.get(name.lower(), ("", 0))
        content = unescape(values.get("content", "")).strip()
        if fact and content and (fact not in found or rank < found[fact][0]):
            found[fact] = rank, content
    return {fact: content for fact, (_, content) in found.items()}


def _linked(html: str, near: list[int]) -> Iterator[dict[str, Any]]:
    """Objects of JSON-LD at some places, the outermost and those of their `@graph`."""
    end = 0
    for place in near:
        script = _LINKED.match(html, place) if place >= end else None
        if script is None:
            continue
        end = script.end()
        try:
            found = json.loads(script[1], strict=False)
        except (ValueError, RecursionError):
            continue
        for each in found if isinstance(found, list) else [found]:
            if isinstance(each, dict):
                yield each
                graph = each.get("@graph")
                yield from (inner for inner in graph if isinstance(inner, dict)) if isinstance(graph, list) else ()


def _values(linked: list[dict[str, Any]], name: str) -> list[str]:
    """The strings, or the names of the things, that the objects have under a name."""
    found = []
    for each in linked:
        values = each.get(name)
        for value in values if isinstance(values, list) else [values]:
            text = value.get("name") if isinstance(value, dict) else value
            found += [text] if isinstance(text, str) else []
    return found


def _day(text: str) -> str | None:
    found = _DAY.finditer(text[:40])
    return next(filter(None, (_valid(day[1], day[2] or day[4], day[3] or day[5]) for day in found)), None)


def _valid(year: str, month: str, day: str) -> str | None:
    """A day of the calendar as ISO 8601 has it; None where there is none."""
    with suppress(ValueError):
        return date(int(year), int(month), int(day)).isoformat()
    return None
