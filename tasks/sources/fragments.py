"""HTML that is text throughout as text: paragraphs, lists and rows of tables as lines, code as it stands, with its
indentation.

For posts that a site keeps by themselves, and chapters of books; pages, in which the text has to be found first, are
for `tasks.extraction`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import Any

from lxml import etree

from tasks.extraction.blocks import lays_out, span
from tasks.extraction.columns import Above, Cell
from tasks.extraction.formulas import of_math
from tasks.extraction.numbering import Numbering

_APART = frozenset(
    "p pre blockquote h1 h2 h3 h4 h5 h6 table div hr dl section article aside header footer main figure address "
    "details form fieldset center hgroup".split()
)
"""Elements with a blank line around them."""
_LINES = frozenset("br li tr td th ul ol dt dd caption figcaption summary legend option".split())
_LEFT_OUT = frozenset("head title script style template img svg nav noscript iframe rt rp math".split())
"""Elements of which nothing is read, or what is said in another way: of `math` the formula."""
_REPEATED = 2**20
"""Characters of cells that may be repeated in a table's further rows."""
_SPACE = re.compile(r"[ \t\r\n]+")


class _Text:
    """What was written so far."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._breaks = 0
        """Line ends that are due before what comes next."""

    def break_(self, lines: int) -> None:
        self._breaks = max(self._breaks, lines)

    def add(self, text: str, code: bool = False) -> None:
        if not code:
            text = _SPACE.sub(" ", text)
            if self._breaks or not self._out or self._out[-1].endswith((" ", "\n")):
                text = text.lstrip(" ")
        if not text:
            return
        if self._breaks and self._out:
            while self._out and not (last := self._out.pop().rstrip(" \n")):
                pass
            self._out += [last, "\n" * self._breaks] if last else []
        self._breaks = 0
        self._out.append(text)

    def whole(self) -> str:
        return "".join(self._out).rstrip()


def plain(html: str, apart: Callable[[Any], Set[Any]] = lambda _: frozenset()) -> str:
    """The text of a fragment of HTML, without the elements that `apart` finds in it."""
    if "<" not in html and "&" not in html:
        return html.strip()
    parser = etree.HTMLParser(no_network=True, huge_tree=False, remove_comments=True, remove_pis=True)
    root = etree.fromstring(f"<html><body>{html}</body></html>", parser)
    return "" if root is None else _read(root, apart(root))


def _read(root: Any, apart: Set[Any]) -> str:
    """The text of an element, without those in it that are `apart`."""
    text, lists, pre, outside, table = _Text(), list[Numbering](), 0, 0, None
    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag.rpartition(":")[2]
        if event == "start":
            if tag == "math" and not outside:
                text.add(of_math(element))
            if tag == "table" and not outside and element not in apart and (rows := _rows(element, apart)) is not None:
                table = element
                text.break_(2)
                text.add(rows, code=True)
            outside += tag in _LEFT_OUT or element is table or element in apart
            if outside:
                continue
            _begin(element, text, lists)
            pre += tag == "pre"
            if element.text:
                text.add(element.text.lstrip("\n") if tag == "pre" else element.text, code=pre > 0)
        else:
            if outside:
                outside -= tag in _LEFT_OUT or element is table or element in apart
                if element is table:
                    text.break_(2)
            else:
                pre -= tag == "pre"
                _end(element, text, lists)
            if element.tail and not outside and element is not root:
                text.add(element.tail, code=pre > 0)
    return text.whole()


def _begin(element: Any, text: _Text, lists: list[Numbering]) -> None:
    """`lists`: those that are open."""
    tag = element.tag
    if tag in _APART and not (tag == "p" and lists):
        text.break_(2)
    elif tag in _LINES:
        text.break_(2 if tag in ("ul", "ol") and not lists else 1)
    if tag in ("ul", "ol"):
        lists.append(Numbering(element))
    elif tag == "li" and lists:
        number = lists[-1].of(element)
        text.add("  " * min(len(lists) - 1, 10) + ("- " if number is None else f"{number}. "), code=True)
    elif tag in ("sup", "sub"):
        text.add(("^" if tag == "sup" else "_") + "{" * _is_long(element))


def _rows(table: Any, apart: Set[Any]) -> str | None:
    """The rows of a table as lines, a bar between cells, what spans rows in each of them; None of one that only lays
    out what stands in it."""
    of_rows = [[cell for cell in row if cell.tag in ("td", "th")] for row in table.iter("tr")]
    if lays_out(table, of_rows):
        return None
    above, found = Above(_REPEATED), [_in_line(caption, apart) for caption in table.iterchildren("caption")]
    for row in of_rows:
        cells = [Cell(_in_line(each, apart), span(each.get("rowspan")), span(each.get("colspan"))) for each in row]
        texts = above.in_columns(cells)
        while texts and not texts[-1]:
            texts.pop()
        found.append(" | ".join(texts) if any(each.text for each in cells) else "")
    return "\n".join(filter(None, found))


def _in_line(cell: Any, apart: Set[Any]) -> str:
    """What stands in a cell, as one line."""
    lines = [line.strip() for line in _read(cell, apart).split("\n") if line.strip()]
    if next(cell.iter("li"), None) is None:
        return " ".join(lines)
    return "; ".join(line.removeprefix("- ") for line in lines)


def _is_long(element: Any) -> bool:
    """Whether a raised or lowered part is more than a word or a number, so that its end has to be marked."""
    text = "".join(element.itertext()).strip()
    return bool(text) and not re.fullmatch(r"[+\-−]?\w+", text)


def _end(element: Any, text: _Text, lists: list[Numbering]) -> None:
    tag = element.tag
    if tag in ("sup", "sub") and _is_long(element):
        text.add("}")
    if tag in ("ul", "ol") and lists:
        lists.pop()
        text.break_(1 if lists else 2)
    elif tag in _APART:
        text.break_(1 if tag == "p" and lists else 2)
    elif tag in _LINES and tag != "br":
        text.break_(1)
