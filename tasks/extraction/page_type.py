"""What type of page it is, by cheap signals: what it says of itself, what made it, its address, how it is built.

Types are those of WCXB: an article, a forum's thread (or a question with its answers), a product, a collection of
products, a listing of other pages, documentation, and a service, which is every other page that presents something.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from lxml.html import HtmlElement

from tasks.extraction.blocks import WIDE, Page
from tasks.extraction.names import BIT

PageType = Literal["article", "forum", "product", "collection", "listing", "documentation", "service"]
TYPES: tuple[PageType, ...] = ("article", "forum", "product", "collection", "listing", "documentation", "service")
_SCHEMA = re.compile(r'"@type"\s*:\s*\[?\s*"(?:https?://schema\.org/)?(\w+)"')
_OF_SCHEMA: dict[str, PageType] = {
    **dict.fromkeys(("DiscussionForumPosting", "QAPage", "Question"), "forum"),
    **dict.fromkeys(("Product", "ProductGroup", "IndividualProduct"), "product"),
    **dict.fromkeys(("ItemList", "OfferCatalog"), "collection"),
    **dict.fromkeys(("CollectionPage", "Blog", "SearchResultsPage"), "listing"),
    **dict.fromkeys(("TechArticle", "APIReference", "SoftwareSourceCode"), "documentation"),
    **dict.fromkeys(("NewsArticle", "BlogPosting", "Article", "ReportageNewsArticle", "ScholarlyArticle"), "article"),
    **dict.fromkeys(("Service", "ProfessionalService", "SoftwareApplication", "LocalBusiness"), "service"),
}
_SOFTWARE = re.compile(
    r"discourse|phpbb|vbulletin|xenforo|flarum|mybb|invision|vanilla|smf|nodebb|discuz|phpwind", re.IGNORECASE
)
_DOCUMENTATION = re.compile(
    r"sphinx|docusaurus|mkdocs|gitbook|doxygen|javadoc|hugo.*docs|readme|vuepress|vitepress", re.IGNORECASE
)
_ADDRESSES: dict[PageType, re.Pattern[str]] = {
    "forum": re.compile(
        r"[/.](?:forums?|community|discuss(?:ions?)?|boards?|bbs|tieba)[./]|/(?:threads?|topics?|t|questions?|comments)/|"
        r"viewtopic|showthread|stackoverflow\.com|stackexchange\.com|news\.ycombinator",
        re.IGNORECASE,
    ),
    "documentation": re.compile(
        r"//(?:docs?|developers?|api|wiki|help|support)\.|/(?:docs?|documentation|manual|reference|api|guide)/",
        re.IGNORECASE,
    ),
    "product": re.compile(r"/(?:products?|dp|itm|item|p|pd|buy|sku)/[^/?]+", re.IGNORECASE),
    "collection": re.compile(
        r"/(?:collections?|categor(?:y|ies)|c|shop|store|catalog(?:ue)?|departments?|plp|cat)(?:/|$|\?)", re.IGNORECASE
    ),
    "article": re.compile(
        r"/(?:news|blog|articles?|posts?|story|stories|opinion)/[^/?]{12,}|/(?:19|20)\d\d/[01]?\d/", re.IGNORECASE
    ),
    "listing": re.compile(
        r"/(?:news|blog|articles|events|jobs|courses|topics?|tags?|authors?|search)/?(?:\?|$)", re.IGNORECASE
    ),
}
"""Asked in this order."""
_SLUG = re.compile(r"[^/:]/[^/?#_-]++(?:[-_][^/?#_-]++){3,}")
"""A part of a path that is four words or more, as those that are made of a title; asked where none of the above is
found, as threads of forums are called so, too. Without its two votes 106 of the 990 pages of trafilatura's evaluation
are judged as listings and services, which costs .005 of F1 of segments; of WCXB's words it is the same. Three words
would add .001, and cost WCXB's collections .02."""


def page_type(tree: HtmlElement, page: Page, url: str | None) -> PageType:
    """The type of a page, an article where nothing says otherwise."""
    votes = Counter[PageType]()
    head = tree.find("head")
    for meta in () if head is None else head.iter("meta"):
        name, content = (meta.get("property") or meta.get("name") or "").lower(), (meta.get("content") or "").lower()
        if name == "og:type":
            votes["product" if "product" in content else "article" if content == "article" else "service"] += 2
            votes["article"] += content == "article"
        elif name == "generator":
            votes["forum"] += 6 * bool(_SOFTWARE.search(content))
            votes["documentation"] += 6 * bool(_DOCUMENTATION.search(content))
    for script in tree.iter("script"):
        if script.get("type") == "application/ld+json":
            names = set(_SCHEMA.findall((script.text or "")[:200_000]))
            for kind in {_OF_SCHEMA[name] for name in names if name in _OF_SCHEMA}:
                votes[kind] += 4 if kind == "forum" else 3
    for kind, pattern in _ADDRESSES.items():
        if url and pattern.search(url):
            votes[kind] += 3
            break
    else:
        votes["article"] += 2 * bool(_SLUG.search((url or "").partition("?")[0]))
    return _by_build(page, votes)


def _by_build(page: Page, votes: Counter[PageType]) -> PageType:
    """The type that the page's build and the votes that it has come to say."""
    prose = linked = total = wide = 0.0
    prices = 0
    for block in page.blocks:
        characters = len(block.text)
        extra = 0 if block.text.isascii() else 2 * len(WIDE.findall(block.text))
        size = characters + extra
        total += size
        wide += extra
        linked += block.linked * size / max(characters, 1)
        prose += size if size > 150 and block.linked < size / 3 else 0
        prices += size < 60 and any(sign in block.text for sign in "$€£¥") and any(map(str.isdigit, block.text))
    posts = sum(bool(own & (BIT["post"] | BIT["comment"] | BIT["answer"] | BIT["thread"])) for own in page.own)
    if prose > 0.5 * total:
        votes["article"] += 2
        votes["documentation"] += 1
    elif wide > 0.3 * total and prose > max(0.2 * (total - linked), 0.05 * total):
        votes["article"] += 2  # Chinese news stand among hundreds of links
    elif linked > 0.5 * total:
        votes["listing"] += 2
    else:
        votes["service"] += 2
    if prices > 10:
        votes["collection"] += 2
    elif prices > 2:
        votes["product"] += 1
    votes["forum"] += posts > 40 and prose > 0.2 * total
    return max(TYPES, key=lambda kind: votes[kind])
