"""What an extraction may cost, known from the parsed page before it begins: a measure of the page, not of the machine.

CPU seconds depend on the neighbours: two runs of one crawl refused other pages. So a page is refused for what one pass
over its tree counts, the same everywhere, and CPU seconds are only the last resort.

The work of a page is a bound in microseconds of a quiet core, made from the dearest page of each kind that could be
built; ordinary pages cost a tenth to a half of it. It adds up

- elements, whatever they are;
- links, once for every element they lie in: each container is tested for the share of links in it;
- characters, and once more for every list, paragraph and picture in a quote or list, as what follows one that is left
  out is put behind what was there;
- cells of tables, as often as they span rows and columns, and once for every cell before them in their row, which
  trafilatura counts anew for each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain

from lxml.etree import XPath
from lxml.html import HtmlElement

_HOLDERS = frozenset({"blockquote", "pre", "q", "ul", "ol", "dl"})
_BLOCKS = frozenset({"ul", "ol", "dl", "p", "img"})
_ELEMENTS, _LINKS = XPath("count(//*)"), XPath("count(//a)")
_ALL_BLOCKS = XPath(" + ".join(f"count(//{tag})" for tag in sorted(_BLOCKS)))
_SPAN = 100
"""Rows and columns of a cell, at most, that trafilatura believes."""


@dataclass(frozen=True)
class Work:
    """What is counted of a page."""

    elements: int
    links: int
    """Sum over links of the elements that each lies in."""
    cells: int
    """Of all tables, each as often as it spans rows and columns."""
    crossed: int
    """Sum over cells of those before it in its row, spanned ones too."""
    blocks: int
    """Lists, paragraphs and pictures in quotes and lists."""
    characters: int

    @property
    def total(self) -> int:
        """Microseconds, at most."""
        tables = 30 * self.cells + self.crossed // 30
        text = self.characters // 2 + self.blocks * self.characters // 1000
        return 90 * self.elements + 25 * self.links + tables + text


def surely_at_most(tree: HtmlElement, characters: int, most: int, deepest: int) -> bool:
    """Whether the work of a page, whose elements lie in no more than `deepest` others, is at most so many microseconds
    even if each of its links lies as deep and each of its blocks in a list: true of nearly every page, and known in a
    quarter of the time that counting takes."""
    elements, links, blocks = int(_ELEMENTS(tree)), int(_LINKS(tree)), int(_ALL_BLOCKS(tree))
    return Work(elements, links * deepest, *_cells(tree), blocks, characters).total <= most


def work(tree: HtmlElement, characters: int, most: int) -> Work:
    """Count a page of so many characters; what has more elements than `most` microseconds allow is counted no further.
    A tenth of an extraction, at most."""
    elements = int(_ELEMENTS(tree))
    if 90 * elements > most:
        return Work(elements, 0, 0, 0, 0, characters)
    links = blocks = depth = 0
    outside, inside = [tree], list[HtmlElement]()
    while outside or inside:
        links += depth * sum(element.tag == "a" for element in chain(outside, inside))
        blocks += sum(element.tag in _BLOCKS for element in inside)
        depth += 1
        inside = [
            *(child for element in inside for child in element),
            *(child for element in outside if element.tag in _HOLDERS for child in element),
        ]
        outside = [child for element in outside if element.tag not in _HOLDERS for child in element]
    return Work(elements, links, *_cells(tree), blocks, characters)


def _cells(tree: HtmlElement) -> tuple[int, int]:
    """Cells of all tables, and sum over them of those before each in its row."""
    rows: Counter[HtmlElement | None] = Counter()
    cells, highest = 0, 1
    for cell in tree.iter("td", "th"):
        columns, lines = _span(cell, "colspan"), _span(cell, "rowspan")
        cells += columns * lines
        highest = max(highest, lines)
        row = cell.getparent()
        rows[row if row is not None and row.tag == "tr" else None] += columns
    widest = rows.pop(None, 0) + max(rows.values(), default=0)  # cells outside a row join another's
    return cells, cells * min(cells, widest * highest) // 2


def _span(cell: HtmlElement, name: str) -> int:
    value = cell.get(name, "1")
    return 1 if not value.isdecimal() else _SPAN if len(value) > 3 else min(int(value), _SPAN)
