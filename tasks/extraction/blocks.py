"""A page as its blocks of text, in order: paragraphs, headings, items, rows of tables, code, with where each stands.

One walk over the parsed page. Nothing is judged here but what no reader sees (scripts, readings above Japanese, numbers
of lines beside code) and which tables are data: of these a row is a block, while what stands in the cells of a table
that only lays out a page is blocks of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from lxml.html import HtmlElement

from tasks.extraction.columns import Above, Cell
from tasks.extraction.formulas import enclosed, in_line, of_math
from tasks.extraction.names import BIT, OF_ELEMENT, marks
from tasks.extraction.numbering import Numbering

BREAK, CODE = "\v", "\x01"
"""In the text of a block: a line ends; inline code begins or ends."""
WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""A character of Chinese, Japanese or Korean, which says as much as three of others."""
HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SILENT = frozenset(
    "script style noscript template svg iframe object embed select option datalist input textarea canvas audio "
    "video map area head meta link base title track source progress meter applet frame frameset rt rp colgroup col "
    "param".split()
)
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd mark math nobr output picture q rb rtc "
    "ruby s samp slot small span strike strong sub sup time tt u var wbr".split()
)
_UNSEEN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_NUMBERS = re.compile(r"gutter|line-?(?:no|numbers?)|linenumber|rouge-gutter", re.IGNORECASE)
_RENDERED = re.compile(r"\b(?:MathJax\w*|mjx-\w+|MJX\w+|katex)\b")
_PICTURE = re.compile(r"\b(?:tex|latex|math|mwe-math\S*|ql-\S+|formula|equation)\b", re.IGNORECASE)
_LOOKS_TEX = re.compile(r"\\[a-zA-Z]+|[_^{}]")
_LANGUAGE = re.compile(r"\b(?:language|lang|brush|highlight-source|highlight)[-:]\s*([a-z0-9+#]+)", re.IGNORECASE)
_LONG_CELL = 300
"""Characters of a cell from which a table only lays out a page."""
_DEEPEST = 255


@dataclass(slots=True)
class Block:
    text: str
    """Spaces made one and lines ended by a newline; of code as it is written."""
    kind: str
    """The element it stands in; `row` of a table, `pre` for code."""
    part: int
    """The part of the page it stands in directly."""
    linked: int
    """Characters of it that lie in links."""
    quotes: int = 0
    """Quotations it stands in."""
    item: tuple[int, str | None] | None = None
    """Of a list's item the lists it stands in, and its number where they are numbered."""
    cells: list[str] | None = None
    language: str = ""
    """Of code, where the page says it."""


@dataclass(slots=True)
class Page:
    """The blocks of a page, and its parts: every element that is not inline."""

    blocks: list[Block] = field(default_factory=list)
    parents: list[int] = field(default_factory=lambda: [-1])
    tags: list[str] = field(default_factory=lambda: ["body"])
    own: list[int] = field(default_factory=lambda: [0])
    """Marks of each part's own names."""
    within: list[int] = field(default_factory=lambda: [0])
    """Marks of a part and all that it lies in."""
    near: list[int] = field(default_factory=lambda: [0])
    """Marks of a part and the two around it."""


def blocks(tree: HtmlElement) -> Page:
    """The blocks of a parsed page."""
    walk = _Walk()
    body = tree.find("body")
    body = tree if body is None else body
    walk.inside(body, 0, "body", False)
    walk.flush("body", 0)
    written = sum(len(block.text) for block in walk.page.blocks)
    for element in body.iter("noscript"):
        if len(element.xpath("string()")) > max(2 * written, _LONG_CELL):  # a page that scripts would have written
            walk.inside(element, 0, "body", False)
            walk.flush("body", 0)
    return walk.page


class _Walk:
    def __init__(self) -> None:
        self.page = Page()
        self._pieces: list[str] = []
        self._linked = self._quotes = 0
        self._lists: list[Numbering] = []
        """The lists around."""
        self._bullet: tuple[int, str | None] | None = None

    def inside(self, element: HtmlElement, part: int, kind: str, linked: bool) -> None:
        """What an element holds, of which the part and the kind of block are known."""
        if text := element.text:
            self._add(text, linked)
        for child in element:
            tag = child.tag
            if type(tag) is str:
                if tag in _INLINE:
                    self._inline(child, tag, part, kind, linked)
                elif tag == "br":
                    self._pieces.append(BREAK)
                elif tag in _SILENT:
                    if tag == "script" and "math/tex" in (child.get("type") or ""):
                        self._add(enclosed(child.text or "", "display" in child.get("type", "")), linked)
                else:
                    if self._pieces:
                        self.flush(kind, part)
                    self._block(child, tag, part, kind, linked)
            if tail := child.tail:
                self._add(tail, linked)

    def _add(self, text: str, linked: bool) -> None:
        if not self._pieces and text.isspace():
            return
        self._pieces.append(text)
        if linked:
            self._linked += len(text.strip())

    def flush(self, kind: str, part: int) -> None:
        """End a block, if one has begun."""
        if not self._pieces:
            return
        raw, linked = "".join(self._pieces), self._linked
        self._pieces, self._linked = [], 0
        if BREAK in raw:
            text = "\n".join(filter(None, (" ".join(line.split()) for line in raw.split(BREAK))))
        else:
            text = " ".join(raw.split())
        if text:
            bullet, self._bullet = self._bullet, None
            self.page.blocks.append(Block(text, kind, part, min(linked, len(text)), self._quotes, bullet))

    def _part(self, element: HtmlElement, tag: str, parent: int) -> int:
        page = self.page
        own = OF_ELEMENT.get(tag, 0)
        if attributes := element.items():
            own |= _of_attributes(dict(attributes))
        above = page.parents[parent]
        page.parents.append(parent)
        page.tags.append(tag)
        page.own.append(own)
        page.within.append(page.within[parent] | own)
        page.near.append(own | page.own[parent] | (page.own[above] if above >= 0 else 0))
        return len(page.parents) - 1

    def _block(self, element: HtmlElement, tag: str, parent: int, kind: str, linked: bool) -> None:
        part = self._part(element, tag, parent)
        if tag == "pre":
            return self._code(element, part)
        if tag == "table":
            return self._table(element, part, linked)
        if tag in ("ul", "ol", "menu"):
            self._lists.append(Numbering(element))
            self.inside(element, part, tag, linked)
            self._lists.pop()
        elif tag == "li":
            self._bullet = (max(len(self._lists), 1), self._lists[-1].of(element) if self._lists else None)
            self.inside(element, part, tag, linked)
            self.flush(tag, part)
            self._bullet = None
            return None
        elif tag == "blockquote":
            self._quotes += 1
            self.inside(element, part, tag, linked)
            self.flush(tag, part)
            self._quotes -= 1
        else:
            tag = kind if kind in HEADINGS else tag
            self.inside(element, part, tag, linked)
        self.flush(tag, part)
        return None

    def _inline(self, element: HtmlElement, tag: str, part: int, kind: str, linked: bool) -> None:
        if tag == "math":
            self._add(of_math(element), linked)
        elif tag in ("sub", "sup"):
            written = in_line(element, linked)
            self._add(" " if written is None else written, linked)
            if written is None:  # a text of its own
                self.inside(element, part, kind, linked)
        elif tag == "img":
            alt = element.get("alt") or ""
            if (
                alt
                and _LOOKS_TEX.search(alt)
                and _PICTURE.search(f"{element.get('class') or ''} {element.get('src') or ''}")
            ):
                self._add(enclosed(alt), linked)
        elif tag == "code":
            inside = element.xpath("string()")
            if "\n" in inside.strip() and (element.getparent().tag != "p"):
                self.flush(kind, part)
                return self._code(element, part)
            self._pieces.append(CODE)
            self.inside(element, part, kind, linked)
            self._pieces.append(CODE)
        elif tag == "span" and (names := element.get("class")) and _RENDERED.search(names):
            self._rendered(element, linked)
        else:
            if tag == "span" and element.get("style") and _UNSEEN.search(element.get("style", "")):
                return None
            self.inside(element, part, kind, linked or (tag == "a" and element.get("href") is not None))
        return None

    def _rendered(self, element: HtmlElement, linked: bool) -> None:
        """What MathJax and KaTeX made of a formula: the formula, where it is in there, as LaTeX or MathML."""
        found = next(element.iter("math"), None)
        if found is not None:
            self._add(of_math(found), linked)

    def _code(self, element: HtmlElement, part: int) -> None:
        text = _written(element).replace("\xa0", " ").replace("\r\n", "\n").replace("\r", "\n")
        lines = [line.rstrip() for line in text.split("\n")]
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        if lines:
            names = " ".join(
                str(each.get("class")) for each in (element, *element.iterchildren("code")) if each.get("class")
            )
            found = _LANGUAGE.search(names)
            self._bullet = None
            block = Block("\n".join(lines), "pre", part, 0, self._quotes, language=found[1].lower() if found else "")
            self.page.blocks.append(block)

    def _table(self, table: HtmlElement, part: int, linked: bool) -> None:
        rows = [row for row in table.iter("tr") if next(row.iterancestors("table"), None) is table]
        of_rows = [[cell for cell in row if cell.tag in ("td", "th")] for row in rows]
        if table.get("role") in ("presentation", "none") or lays_out(table, of_rows):
            self.inside(table, part, "table", linked)
            return self.flush("table", part)
        if any(_NUMBERS.search(cell.get("class") or "") for cells in of_rows[:1] for cell in cells):
            self.inside(table, part, "table", linked)
            return self.flush("table", part)
        for caption in table.iterchildren("caption"):
            self.inside(caption, part, "caption", linked)
            self.flush("caption", part)
        outer, self.page.blocks = self.page.blocks, []
        above = Above()
        for cells in of_rows:
            texts, links = [], 0
            for cell in cells:
                self.page.blocks = []
                self.inside(cell, part, "td", linked)
                self.flush("td", part)
                found = self.page.blocks
                between = "; " if any(block.item for block in found) else " "
                texts.append(between.join(block.text.replace("\n", " ") for block in found))
                links += sum(block.linked for block in found)
            spans = [(span(cell.get("rowspan")), span(cell.get("colspan"))) for cell in cells]
            in_columns = above.in_columns(Cell(text, *span) for text, span in zip(texts, spans, strict=True))
            if any(texts):
                block = Block(" | ".join(texts), "row", part, links, self._quotes, cells=in_columns)
                outer.append(block)
        self.page.blocks = outer
        return None


def _of_attributes(attributes: dict[str, str]) -> int:
    """The marks of a part by its attributes."""
    get = attributes.get
    found = _named(get("class"), get("id"), get("role"), get("itemprop"))
    style = get("style")
    if "hidden" in attributes or get("aria-hidden") == "true" or (style and _UNSEEN.search(style)):
        found |= BIT["hidden"]
    return found


@lru_cache(2**14)
def _named(*names: str | None) -> int:
    return marks(" ".join(filter(None, names)))


def lays_out(table: HtmlElement, rows: list[list[HtmlElement]]) -> bool:
    """Whether a table only lays out what stands in it: others in it, one column, a cell of some length, or code."""
    if max(map(len, rows), default=0) < 2 or next(table.iterdescendants("table", "pre", "form"), None) is not None:
        return True
    return any(len(cell.xpath("string()").strip()) > _LONG_CELL for cells in rows for cell in cells)


def span(text: str | None) -> int:
    """How many rows or columns a cell spans."""
    return int(text) if text and text.isdecimal() and len(text) < 6 else 1


def _written(element: HtmlElement, depth: int = 0) -> str:
    """The text of code as it is written, without the numbers of its lines."""
    found = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str):
            if child.tag == "br":
                found.append("\n")
            elif child.tag not in _SILENT and depth < _DEEPEST and not _NUMBERS.search(child.get("class") or ""):
                found.append(_written(child, depth + 1))
                if child.tag in ("div", "p", "li", "tr") and not found[-1].endswith("\n"):
                    found.append("\n")
        found.append(child.tail or "")
    return "".join(found)
