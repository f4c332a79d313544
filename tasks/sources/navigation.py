"""What of a page of a book leads through the book and is no text of it: contents, indexes, numbers of printed pages.

A page says so itself (`epub:type`, `role`, a class), or it is a list or a page that consists of links to its book.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from lxml import etree

_KINDS = frozenset("toc toc-brief landmarks page-list pagebreak loi lot loa lov index".split())
_ROLES = frozenset("doc-toc doc-pagelist doc-pagebreak doc-index".split())
_CLASSES = frozenset("pagenum pageno x-ebookmaker-pageno".split())
"""Classes of the numbers of pages in books of Project Gutenberg."""
_NUMBER = 12
"""Characters of such a number, without spaces, at most: "[Pg xxxviii]"."""
_LISTS = frozenset(("ul", "ol", "dl", "table"))
_UNREAD = frozenset(("head", "script", "style", "nav"))
_LINKS = 3
"""Links of a list that leads through a book, at least."""
_LINKED = 0.7
"""Share of a list's letters that are in its links, at least; of Sphinx's lists of chapters, tables of contents and
indexes it is .7 to 1."""
_ELSEWHERE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")
"""How an address begins that leads out of a book."""
_BLANK = re.compile(r"\s+")


def of_page(root: Any) -> set[Any]:
    """The elements of a page that lead through its book."""
    letters: dict[Any, int] = defaultdict(int)
    linked: dict[Any, int] = defaultdict(int)
    links: dict[Any, int] = defaultdict(int)
    found, open_lists = set(), 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if event == "start":
            open_lists += element.tag in _LISTS
            continue
        open_lists -= element.tag in _LISTS
        own, inside, number = letters.pop(element, 0), linked.pop(element, 0), links.pop(element, 0)
        own += _length(element.text)
        if element.tag == "a" and _is_within(element.get("href")):
            inside, number = own, number + 1
        leads = number >= _LINKS and inside >= _LINKED * own and (element.tag in _LISTS or element.tag == "body")
        declared = _is_declared(element) or (own <= _NUMBER and _is_number(element))
        if leads or declared:
            found.add(element)
        if element.tag in _UNREAD or declared or (leads and not open_lists):  # a list around it may lead, too
            own = inside = number = 0
        parent = element.getparent()
        letters[parent] += own + _length(element.tail)
        linked[parent] += inside
        links[parent] += number
    return found


def _is_declared(element: Any) -> bool:
    kinds, role = element.get("epub:type"), element.get("role")
    return bool(kinds and not _KINDS.isdisjoint(kinds.split())) or bool(role and not _ROLES.isdisjoint(role.split()))


def _is_number(element: Any) -> bool:
    return not _CLASSES.isdisjoint((element.get("class") or "").split())


def _is_within(address: str | None) -> bool:
    return bool(address) and not _ELSEWHERE.match(address or "")


def _length(text: str | None) -> int:
    return len(_BLANK.sub("", text)) if text else 0
