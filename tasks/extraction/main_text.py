"""The main text of a page by its type: what an extractor took, put right block by block, and written anew.

Extractors are made for articles: of forums they leave out the posts, of products and listings what is in short lines,
and of every page the structure. So each block of the page is judged (`tasks.extraction.judge`), among other measures by
whether the extractor took it, with weights of the page's type; those chosen are written in the form that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from math import log1p
from typing import TYPE_CHECKING

import numpy as np
from lxml.etree import XPath
from lxml.html import HtmlElement

from tasks.extraction.blocks import Block, blocks
from tasks.extraction.features import FEATURES, features, letters, sizes
from tasks.extraction.furniture import without_furniture
from tasks.extraction.judge import judged
from tasks.extraction.page_type import PageType, page_type
from tasks.extraction.render import Format, render

if TYPE_CHECKING:
    from data_specs.extract import Extractor

_ELSEWHERE = 0.4
"""Share of the extractor's text below which the page's elements do not hold it: it came from data in a script."""
_TAKEN, _IN_TITLE, _SIZE = map(FEATURES.index, ("taken", "in_title", "size"))
_TRUST = 1.5
"""Log odds by which trafilatura's word counts more than was learned. On pages of WCXB that were not learned from it
costs nothing; on those of trafilatura's own evaluation a third of the unwanted segments go. It rarely
takes a page's title, its lead and code, so of these it says nothing."""
VERSION = 11  # documentation is judged by resiliparse
"""Raised when values change, where weights stay."""
_IN_ELEMENTS = XPath(".//text()[not(parent::script or parent::style or parent::template)]")
_DESCRIPTIONS = XPath("./head/meta[@name='description' or @property='og:description'][position() < 3]")
_DIGITS = "0123456789"
_LINES = 50
"""Lines of it that are sought in the page."""
_LEAD, _DESCRIPTION = 40, 1000
"""Letters by which a lead is known, and characters of a description that it is sought in."""


def beneath(extractor: Extractor, kind: PageType) -> Extractor:
    """The extractor that a page of a type is judged by: trafilatura is the better one of articles, and of no others,
    for which it takes many times as long."""
    return extractor if kind == "article" else "resiliparse"


def main_text(
    tree: HtmlElement, url: str | None, extractor: Extractor, take: Callable[[Extractor], str], form: Format = "text"
) -> str:
    """The main text of a parsed page; `take` gives what an extractor takes from it."""
    page = blocks(tree)
    kind = page_type(tree, page, url)
    by = beneath(extractor, kind)
    taken = take(by)
    squashed = [letters(block.text) for block in page.blocks]
    measured = features(page, squashed, taken, tree.findtext(".//title") or "")
    odds = judged(measured, extractor, kind) + _trusted(tree, page.blocks, measured, by, kind)
    chosen = odds > 0
    kept = without_furniture([*compress(page.blocks, chosen)], measured[chosen, _TAKEN].tolist(), kind)
    if not kept or _only_in_scripts(taken, tree, "".join(squashed)):
        return taken
    return render(kept, form)


def _trusted(
    tree: HtmlElement, blocks: Sequence[Block], measured: np.ndarray, by: Extractor, kind: PageType
) -> np.ndarray:
    """Log odds that each block gains or loses beyond what was learned: trafilatura's word counts more, and
    documentation keeps its title, its code, and the rows that resiliparse took."""
    taken = measured[:, _TAKEN] == 1
    code, rows, titles = (np.array([block.kind == name for block in blocks], bool) for name in ("pre", "row", "h1"))
    titles &= measured[:, _IN_TITLE] == 1
    if by == "trafilatura":
        apart = code | titles | leads(tree, blocks, measured)
        return np.where(taken, _TRUST, np.where(apart, 0, -_TRUST))
    kept = code | titles | (rows & taken) if kind == "documentation" else np.zeros(len(blocks), bool)
    return np.where(kept, np.inf, 0)


def leads(tree: HtmlElement, blocks: Sequence[Block], measured: np.ndarray) -> np.ndarray:
    """Of each block whether it begins with what the page says of itself, as the paragraph below a title that sums an
    article up, and the extractor left it out."""
    found = np.zeros(len(blocks), bool)
    descriptions = [letters((meta.get("content") or "")[:_DESCRIPTION]) for meta in _DESCRIPTIONS(tree)]
    candidates = (measured[:, _TAKEN] < 1) & (measured[:, _SIZE] >= log1p(_LEAD))
    for place in np.flatnonzero(candidates).tolist() if descriptions else ():
        start = letters(blocks[place].text[: 3 * _LEAD])[:_LEAD]
        found[place] = any(start in each for each in descriptions)
    return found


def _only_in_scripts(taken: str, tree: HtmlElement, seen: str) -> bool:
    """Whether most of the extractor's text, by some of its lines, is in no element of the page: in none of the letters
    that were `seen`, nor of what was passed over there, as readings above Japanese."""
    every = taken.split("\n")
    lines = [letters(line) for line in every[:: 1 + len(every) // _LINES]]
    return _are_elsewhere(lines, seen) and _are_elsewhere(lines, "".join(map(letters, _IN_ELEMENTS(tree))))


def _are_elsewhere(lines: list[str], seen: str) -> bool:
    """Whether most of some lines are elsewhere; the number of an item, which an extractor writes, is in no element."""
    found = [line for line in lines if line.lstrip(_DIGITS)[:40] in seen]
    return bool(sizes(found).sum() < _ELSEWHERE * sizes(lines).sum())
