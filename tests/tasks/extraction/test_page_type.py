"""The type of a page by what it says of itself, its address and its build; and what names say of its parts."""

from __future__ import annotations

import pytest
from trafilatura.utils import load_html

from tasks.extraction.blocks import blocks
from tasks.extraction.names import BIT, marks
from tasks.extraction.page_type import PageType, page_type

PROSE = "<p>" + "The river runs over gravel and sand in summer, and in winter it stands still. " * 4 + "</p>"


def kind(head: str, body: str = PROSE * 4, url: str | None = "https://example.org/x") -> PageType:
    tree = load_html(f"<html><head><title>T</title>{head}</head><body>{body}</body></html>")
    return page_type(tree, blocks(tree), url)


def linked(name: str) -> str:
    return f'<script type="application/ld+json">{{"@context": "https://schema.org", "@type": "{name}"}}</script>'


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        *((linked("Product"), "product"), (linked("DiscussionForumPosting"), "forum"), (linked("QAPage"), "forum")),
        *((linked("NewsArticle"), "article"), (linked("TechArticle"), "documentation"), ("", "article")),
        ('<meta name=generator content="Discourse 3.1">', "forum"),
        ('<meta name=generator content="Docusaurus v2">', "documentation"),
        ('<script type="application/ld+json">{"@type": [broken</script>', "article"),
    ],
)
def test_a_page_says_its_type_by_itself(head: str, wanted: PageType) -> None:
    assert kind(head) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        *(
            ("https://forum.example.org/viewtopic.php?t=1", "forum"),
            ("https://stackoverflow.com/questions/1/x", "forum"),
        ),
        *(("https://docs.example.org/a", "documentation"), ("https://example.org/blog/how-gold-is-washed", "article")),
        *(("https://example.org/products/pan", "product"), (None, "article")),
    ],
)
def test_its_address_says_the_type_of_a_page(url: str | None, wanted: PageType) -> None:
    assert kind("", url=url) == wanted


def test_its_build_says_the_type_of_a_page() -> None:
    links = "".join(f"<li><a href=/{number}>Page number {number}</a></li>" for number in range(40))
    assert kind("", f"<ul>{links}</ul>") == "listing"
    assert kind("", "<div>Pan</div><div>$12.00</div>" * 30, "https://example.org/shop") == "collection"
    assert kind("", "<h2>We wash</h2><div>Gold and sand</div>" * 9) == "service"


def test_an_address_that_is_made_of_a_title_says_more_than_a_build_of_short_parts() -> None:
    parts = "<h2>We wash</h2><div>Gold and sand</div>" * 9
    assert kind("", parts, "https://example.org/7/how-gold-is-washed/12?page=2") == "article"
    for url in ("https://how-gold-is-washed.example/x", "https://example.org/x?of=/how-gold-is-washed", "//a-b-c-d/x"):
        assert kind("", parts, url) == "service"


def test_an_address_of_a_forum_or_a_shop_is_one_also_where_it_is_made_of_a_title() -> None:
    assert kind("", url="https://stackoverflow.com/questions/1/how-gold-is-washed-by-hand") == "forum"
    parts = "<h2>A pan</h2><div>Of steel</div>" * 9
    assert kind("", parts, "https://example.org/products/pan-of-steel-for-gold") == "product"


def test_chinese_news_are_an_article_among_whatever_number_of_links() -> None:
    links = "".join(f"<li><a href=/{number}>某地将举办第{number}届农民丰收节</a></li>" for number in range(40))
    prose = "<p>今天上午，当地举行了新闻发布会，介绍了今年以来的有关情况，"
    prose += "并且回答了记者们提出来的各种各样的问题，会后还发放了材料。</p>"
    assert kind("", f"<ul>{links}</ul>{prose * 4}") == "article"
    assert kind("", f"<ul>{links}</ul>") == "listing"
    assert kind("", "<h2>我们的服务</h2><div>开锁换锁</div>" * 9) == "service"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        *(("main-content", {"main", "content"}), ("postBody", {"post", "body"}), ("sidebarLeft", {"sidebar"})),
        *(("ad-slot", {"advert"}), ("header", {"header"}), ("shadow", set()), ("x y", set()), ("tagged", set())),
    ],
)
def test_names_of_parts_are_read_as_words(names: str, wanted: set[str]) -> None:
    found = {name for name, bit in BIT.items() if marks(names) & bit}
    assert wanted <= found
    assert found <= wanted or names == "sidebarLeft"
