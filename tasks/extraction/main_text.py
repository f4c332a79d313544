"""The main text of a page by its type: what an extractor took, put right block by block, and written anew.

Extractors are made for articles: of forums they leave out the posts, of products and listings what is in short lines,
and of every page the structure. So each block of the page is judged (`tasks.extraction.judge`), among other measures by
whether the extractor took it, with weights of the page's type; those chosen are written in the form that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from lxml.etree import XPath
from lxml.html import HtmlElement

from tasks.extraction.blocks import blocks
from tasks.extraction.features import FEATURES, features, letters, sizes
from tasks.extraction.furniture import without_furniture
from tasks.extraction.judge import judged
from tasks.extraction.page_type import PageType, page_type
from tasks.extraction.render import Format, render

if TYPE_CHECKING:
    from data_specs.extract import Extractor

_ELSEWHERE = 0.4
"""Share of the extractor's text below which the page's elements do not hold it: it came from data in a script."""
_TAKEN, _IN_TITLE = FEATURES.index("taken"), FEATURES.index("in_title")
_TRUST = 1.5
"""Log odds by which trafilatura's word counts more than was learned. On pages of WCXB that were not learned from it
costs nothing; on those of trafilatura's own evaluation a third of the unwanted segments go. It rarely
takes a page's title and code, so of these it says nothing."""
VERSION = 9  # alttext in words is no formula
"""Raised when values change, where weights stay."""
_IN_ELEMENTS = XPath(".//text()[not(parent::script or parent::style or parent::template)]")
_LINES = 50
"""Lines of it that are sought in the page."""


def beneath(extractor: Extractor, kind: PageType) -> Extractor:
    """The extractor that a page of a type is judged by: trafilatura is the better one of articles and documentation,
    and of no others, for which it takes many times as long."""
    return extractor if kind in ("article", "documentation") else "resiliparse"


def main_text(
    tree: HtmlElement, url: str | None, extractor: Extractor, take: Callable[[Extractor], str], form: Format = "text"
) -> str:
    """The main text of a parsed page; `take` gives what an extractor takes from it."""
    page = blocks(tree)
    kind = page_type(tree, page, url)
    by = beneath(extractor, kind)
    taken = take(by)
    measured = features(page, taken, tree.findtext(".//title") or "")
    odds = judged(measured, extractor, kind)
    if by == "trafilatura":
        kinds = np.array([block.kind for block in page.blocks])
        apart = (kinds == "pre") | ((kinds == "h1") & (measured[:, _IN_TITLE] == 1))
        odds += np.where(measured[:, _TAKEN] == 1, _TRUST, np.where(apart, 0, -_TRUST))
    chosen = odds > 0
    kept = without_furniture([*compress(page.blocks, chosen)], measured[chosen, _TAKEN].tolist(), kind)
    if not kept or _only_in_scripts(taken, tree, "".join(block.text for block in page.blocks)):
        return taken
    return render(kept, form)


def _only_in_scripts(taken: str, tree: HtmlElement, seen: str) -> bool:
    """Whether most of the extractor's text, by some of its lines, is in no element of the page: in none of what was
    `seen` of them, nor of what was passed over there, as readings above Japanese."""
    every = taken.split("\n")
    lines = [letters(line) for line in every[:: 1 + len(every) // _LINES]]
    return _are_elsewhere(lines, seen) and _are_elsewhere(lines, "".join(_IN_ELEMENTS(tree)))


def _are_elsewhere(lines: list[str], text: str) -> bool:
    whole = letters(text)
    found = [line for line in lines if line[:40] in whole]
    return bool(sizes(found).sum() < _ELSEWHERE * sizes(lines).sum())
