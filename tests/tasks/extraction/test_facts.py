"""Title, date, author and site by one scan of the markup; and whether an author is one."""

from __future__ import annotations

import time

import pytest

from tasks.extraction.authors import credible
from tasks.extraction.facts import facts

URL = "https://www.example.org/a"


def test_what_meta_elements_say_comes_first_and_the_best_name_counts() -> None:
    html = (
        '<title>Gold - River News</title><meta name="title" content="no"><meta property="og:title" '
        'content="Gold &amp; sand">'
        "<meta name=date content='2019-01-01'><meta content='2020-02-03T10:00:00Z' property='article:published_time'>"
        '<meta name="author" content="By Jane Washer"><meta property="og:site_name" content="River News">'
    )
    wanted = {"title": "Gold & sand", "date": "2020-02-03", "author": "Jane Washer", "site": "River News"}
    assert facts(html, URL, "2021-06-01") == wanted


def test_json_ld_time_elements_and_the_address_say_what_meta_elements_do_not() -> None:
    linked = (
        '<title>Gold</title><script type="application/ld+json">{"@graph": [{"@type": "NewsArticle", "datePublished": '
        '"2020-02-03", "author": [{"name": "Jane Washer"}, {"name": "Li"}], "publisher": {"name": "River"}}]}</script>'
    )
    assert facts(linked, URL, None) == {"title": "Gold", "date": "2020-02-03", "author": "Jane Washer", "site": "River"}
    assert facts("<h1>Gold</h1><time datetime='2020-02-03'>", URL, None)["date"] == "2020-02-03"
    assert facts("", "https://example.org/2019/04/05/a.html", None)["date"] == "2019-04-05"
    assert facts("<p>", "HTTP://jane:secret@www.Example.org:80/a", None)["site"] == "example.org"
    assert facts("<p>", URL, None) == {"title": "", "date": None, "author": "", "site": "example.org"}


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("<!-- <title>Old</title> --><title>New</title>", "New"),
        ("<!--><title>New</title><!-- <title>Old</title> -->", "New"),
        ("<script>a = '<title>js</title>'</script><title>New</title>", "New"),
        ("<style>/* <title>css</title> */</style><svg><title>icon</title></svg><title>New</title>", "New"),
        ("<TEMPLATE><title>part</title></TEMPLATE><script src='a'/><title>New</title>", "New"),
        ("<title>List<String> in Java</title>", "List<String> in Java"),
        ("<title>x < y</title><h1>Gold</h1>", "x < y"),
        (
            "<title></title><h1><a href='/'><img></a></h1><h1>All the <em>gold</em> there is</h1>",
            "All the gold there is",
        ),
        ("<title>R &amp;amp; M</title>", "R & M"),
        ("<h1>R &amp;amp; M</h1>", "R & M"),
        ("<title>New <body><h1>Gold</h1>", "New"),
        ("<!-- never ended <title>New</title>", "New"),
    ],
)
def test_a_title_is_one_that_a_reader_sees_and_all_of_it(head: str, title: str) -> None:
    assert facts(f"<html><head>{head}", URL, None)["title"] == title


def test_what_is_said_in_comments_scripts_and_templates_is_not_said() -> None:
    said = (
        "<meta name='author' content='Old Hand'><meta property='og:site_name' content='Old'>"
        "<time datetime='2001-01-01'>"
    )
    for begin, end in (("<!--", "-->"), ("<template>", "</template>"), ("<script>s = `", "`</script>")):
        found = facts(f"<html>{begin}{said}{end}<meta name='author' content='Jane Washer'>", URL, None)
        assert found == {"title": "", "date": None, "author": "Jane Washer", "site": "example.org"}
    linked = '<script type="application/ld+json">{"datePublished": "2020-02-03"}</script>'
    assert facts(f"<!-- {linked} -->", URL, None)["date"] is None
    assert facts(f"<script>a</script>{linked}<script>b</script>", URL, None)["date"] == "2020-02-03"


@pytest.mark.parametrize(
    ("said", "day"),
    [
        *(("2021-02-28T23:00", "2021-02-28"), ("20191112", "2019-11-12"), ("2019年1月5日", "2019-01-05")),
        *(
            ("2021-02-31", None),
            ("2021-13-01", None),
            ("1612020191112", None),
            ("2021-02-30, 2021-03-01", "2021-03-01"),
        ),
    ],
)
def test_a_day_is_one_of_the_calendar_and_no_part_of_a_number(said: str, day: str | None) -> None:
    meta = f'<meta property="article:published_time" content="{said}">'
    assert facts(f"<html><head>{meta}</head></html>", None, "2024-01-01")["date"] == day


@pytest.mark.parametrize(
    ("path", "day"),
    [
        *(("2019/04/05/a", "2019-04-05"), ("20190405/a", "2019-04-05"), ("2019/02/31/a", None)),
        *(("2099/12/31/a", None), ("item/2020-1010-12", None), ("2099/12/31/2020-10-11.html", "2020-10-11")),
    ],
)
def test_a_day_in_an_address_is_one_of_the_calendar_before_the_crawl(path: str, day: str | None) -> None:
    assert facts("<html></html>", f"https://example.org/{path}", "2024-01-01")["date"] == day


def test_no_page_was_published_after_it_was_crawled() -> None:
    meta = "<meta property='article:published_time' content='{}'>"
    assert facts(meta.format("2022-02-03"), URL, "2021-06-01")["date"] is None
    assert facts(meta.format("2021-06-01T23:00:00"), URL, "2021-06-01")["date"] == "2021-06-01"


@pytest.mark.parametrize(
    "part",
    [
        "<meta ",
        "<meta content=",
        "<title>",
        '<script type="application/ld+json">',
        "<time ",
        "<h1",
        "<",
        "a='",
        "<h1>",
        "<!--",
        "<svg>",
        "<script>",
        "<title>a<b>",
        "<h1>a<b>",
    ],
)
def test_the_scan_is_linear_in_the_page(part: str) -> None:
    started = time.process_time()
    facts(part * (2**20 // len(part)), URL, None)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("said", "author"),
    [
        *(
            ("By Jane Washer", "Jane Washer"),
            ("作者：李伟", "李伟"),
            ("Jane Washer; admin; Jane Washer", "Jane Washer"),
        ),
        *(("admin", ""), ("责任编辑：", ""), ("佚名", ""), ("https://example.org/jane", ""), ("jane@example.org", "")),
        *(
            ("3 min read", ""),
            ("2020-02-03 10:00", ""),
            ("12", ""),
            ("浏览 123 次", ""),
            ("View all posts by Jane", ""),
        ),
        ("This is the story of a river in which men and women looked for gold for years", ""),
        *(("未知 责任编辑：棒棒不是糖", "棒棒不是糖"), ("Name; Email Com", ""), ("发表于", ""), ("我已授权", "")),
        ("O'Brien-Smith, J. R.", "O'Brien-Smith, J. R."),
    ],
)
def test_an_author_is_somebody(said: str, author: str) -> None:
    assert credible(said) == author
