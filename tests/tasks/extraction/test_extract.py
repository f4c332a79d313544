"""Extraction: the same text as trafilatura, metadata, limits that hold inside C code, and a reason for every page."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trafilatura.utils import load_html
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from data_specs.extract import Extract
from data_specs.sources import HtmlSource, WarcSource
from tasks.extraction import at_once, http
from tasks.extraction.child import Child
from tasks.extraction.html import extract, metadata, names_author
from tasks.sources import reader

ARTICLE = "<html><head><title>Gold</title>{}</head><body><article>{}</article></body></html>"
TEXT = "<p>" + "A sluice box washes gravel until the gold is left, and its channels are measured. " * 5 + "</p>"


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child("tests.behaviours:behave", cpu_seconds=0.5, memory=128 << 20, wall_seconds=60)
    yield made
    made.close()


# -- the child ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("spin", "cpu_limit"),
        ("spin in C", "cpu_limit"),
        ("swell", "memory_limit"),
        ("grow", "memory_limit"),
        ("crash", "parser_error"),
        ("raise", "parser_error"),
        ("hang", "parser_error"),
    ],
)
def test_an_item_that_breaks_a_limit_gives_a_reason_and_the_next_is_served(child: Child, how: str, reason: str) -> None:
    first = child.call(text="gold")["pid"]
    if how == "hang":
        child.wall_seconds = 1.5
    assert child.call(how=how) == {"reason": reason}
    after = child.call(text="金")
    assert after["text"] == "金"
    assert (after["pid"] == first) == (how == "raise")


@pytest.mark.slow
def test_what_took_too_long_once_is_tried_again_in_a_fresh_child(child: Child, tmp_path: Path) -> None:
    first = child.call()["pid"]
    again = child.call(how="spin once", mark=str(tmp_path / "mark"))
    assert again["pid"] != first


def test_waiting_costs_no_cpu_and_a_child_killed_by_another_is_replaced(child: Child, tmp_path: Path) -> None:
    first = child.call()["pid"]
    time.sleep(0.7)
    assert child.call()["pid"] == first
    assert child.call(how="crash once", mark=str(tmp_path / "mark"))["mark"]
    os.kill(child.call()["pid"], signal.SIGKILL)
    time.sleep(0.1)
    assert child.call(text="x")["text"] == "x"


def test_a_child_dies_with_its_parent() -> None:
    code = (
        "from tasks.extraction.child import Child; import os, time\n"
        "child = Child('tests.behaviours:behave', 600, 2**30, 600)\n"
        "print(child.call()['pid'], flush=True)\n"
        "child.call(how='spin')\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent by 10 s")


def test_a_child_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"the child for tests.nothing:here did not start"):
        Child("tests.nothing:here", 1, 2**30, 60).call()


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(shared: Path) -> list[str]:
    """Real pages in a dozen languages, a third of them Chinese news."""
    found = []
    for name, number in (("nonlatin_web_html", 14), ("gne_zh_news_html", 8)):
        with tarfile.open(shared / "html" / f"{name}.tar.xz") as tar:
            read = [(member.name, tar.extractfile(member)) for member in tar]
            files = sorted((name, file.read()) for name, file in read if file and name.endswith(".html"))
        short = [body for _, body in files if len(body) < 300_000]  # the others take seconds
        found += map(http.text, random.Random(3).sample(short, number))
    return found


@pytest.mark.slow
def test_the_text_is_trafilaturas_and_does_not_depend_on_what_came_before(pages: list[str]) -> None:
    children = [Child(f"benchmarks.extraction:{name}", 60, 2**31, 300) for name in ("ours", "ours", "plain")]
    try:
        forward, backward, plain = (
            [child.call(html=html, url="http://example.org/")["text"] for html in order]
            for child, order in zip(children, (pages, pages[::-1], pages), strict=True)
        )
    finally:
        for child in children:
            child.close()
    assert forward == backward[::-1] == plain
    hanzi = [sum("一" <= character <= "鿿" for character in text) for text in forward[14:]]
    assert sum(count > 200 for count in hanzi) >= 7


# -- metadata ----------------------------------------------------------------------------------------------------------


def facts(head: str, body: str = TEXT, url: str = "http://www.example.org/a", latest: str = "2021-06-01") -> Any:
    html = ARTICLE.format(head, body)
    tree = load_html(html)
    return metadata(tree, html, url, latest)


def test_metadata_is_found_in_meta_elements_json_and_markup() -> None:
    meta = (
        '<meta property="og:title" content="Gold &amp;amp; gravel"><meta name="author" content="Jane Washer">'
        '<meta property="article:published_time" content="2020-02-03T10:00:00Z">'
        '<meta property="og:site_name" content="River News">'
    )
    expected = {"title": "Gold & gravel", "date": "2020-02-03", "author": "Jane Washer", "site": "River News"}
    assert facts(meta) == expected
    linked = (
        '<script type="application/ld+json">{"@context": "https://schema.org", "@type": "NewsArticle", "headline": "T",'
        '"datePublished": "2020-02-03", "author": {"@type": "Person", "name": "Jane Washer"},'
        '"publisher": {"@type": "Organization", "name": "River News"}}</script>'
    )
    assert facts(linked) == expected | {"title": "T"}
    markup = '<h1>One heading</h1><span class="author-name">Jane Washer</span><time datetime="2020-02-03">3 Feb</time>'
    assert facts("", markup + TEXT) == expected | {"title": "One heading", "site": "example.org"}
    assert facts('<script type="application/ld+json">[5, {"@type": [1]}]</script>')["title"] == "Gold"


def test_no_page_was_published_after_it_was_crawled_and_the_clock_is_not_asked() -> None:
    meta = '<meta property="article:published_time" content="{}">'
    assert facts(meta.format("2021-06-01T23:00:00"))["date"] == "2021-06-01"
    assert facts(meta.format("2022-02-03T01:00:00"))["date"] is None
    assert facts(meta.format("2020-05"))["date"] in (None, "2020-05-01")
    assert facts("", url="http://www.example.org/2019/04/05/a.html")["date"] == "2019-04-05"


@pytest.mark.parametrize("stamp", ["2020-02-03T10:00:00+24:00", "2020-02-03T10:00:00+99:99", "2020-02-03T10:00-25:00"])
def test_a_date_that_is_none_costs_a_page_nothing_else(stamp: str) -> None:
    found = facts(f'<meta property="article:published_time" content="{stamp}">')
    assert found["date"] in (None, "2020-02-03")
    assert (found["title"], found["site"]) == ("Gold", "example.org")


def test_authors_are_sought_where_a_tag_speaks_of_one() -> None:
    assert not names_author("<p>the author of a writer's byline</p>")
    assert names_author("<p>author</p><span class='by author'>")


# -- guards and reasons ------------------------------------------------------------------------------------------------


def levels(element: Any) -> int:
    """Deepest nesting of a parsed page."""
    return 1 + max(map(levels, element), default=0)


@pytest.mark.parametrize("unit", ["<div>", "<span>", "<ul><li>", "<i>", "<table><tr><td>"])
def test_elements_nested_deeper_than_the_limit_drop_a_page_and_none_that_is_less_deep(unit: str) -> None:
    outcomes = set()
    for number in range(70, 200, 25):
        page = ARTICLE.format("", unit * number + TEXT)
        deepest = levels(load_html(page))
        for limit in {deepest - 1, min(deepest, 255), 200}:
            wanted = "too_deep" if deepest > limit else None
            assert extract(page, None, None, fast=True, deepest=limit, costliest=10).get("reason") == wanted
            outcomes.add(wanted)
    assert outcomes == {"too_deep", None}
    page = ARTICLE.format("", unit * 10_000 + TEXT)
    assert extract(page, None, None, fast=True, deepest=255, costliest=10)["reason"] == "too_deep"


@pytest.mark.parametrize(
    "unit",
    [
        *("<a name=x{}>{}", "<p><b>{}</p>", "<h2>Section {}{}", "<table><tr><td><font size=2>{}</td></tr></table>"),
        *(
            '{}<i data-t="<div class=x>">{}</i>',
            "<script>'<div>'</script>{}",
            "{}<!-- <b> -->",
            "<svg><path d=''></svg>{}",
        ),
    ],
)
def test_pages_whose_tags_only_look_nested_are_kept(unit: str) -> None:
    page = ARTICLE.format("", "".join(unit.format(TEXT, number) for number in range(300)))
    assert levels(load_html(page)) < 20
    assert "A sluice box washes gravel" in extract(page, None, None, fast=True, deepest=200, costliest=10)["text"]


def archive(*responses: tuple[str, str, bytes]) -> bytes:
    """A WARC by warcio of (status line, content type, body)."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    for number, (status, media, body) in enumerate(responses):
        headers = StatusAndHeaders(status, [("Content-Type", media)], protocol="HTTP/1.1")
        url = f"http://example.org/{number}"
        writer.write_record(writer.create_warc_record(url, "response", payload=io.BytesIO(body), http_headers=headers))
    return out.getvalue()


def test_every_page_is_a_document_or_has_a_reason(tmp_path: Path) -> None:
    page, ok, html = ARTICLE.format("", TEXT).encode(), "200 OK", "text/html"
    rows = "<tr><td>gravel</td><td>gold</td></tr>" * 60_000
    (tmp_path / "a.warc.gz").write_bytes(
        archive(
            (ok, html, page),
            ("404 Not Found", html, page),
            ("302 Found", "image/png", page),
            (ok, "application/xhtml+xml", page),
            (ok, "", page),
            (ok, "image/png", b"\x89PNG"),
            (ok, html, b"%PDF-1.4"),
            (ok, "", b"plain words"),
            (ok, html, b" \n"),
            (ok, html, page * 400),
            (ok, html, ARTICLE.format("", "<div>" * 300).encode()),
            (ok, html, b"<html><body><script>1</script></body></html>"),
            (ok, html, random.Random(1).randbytes(5000)),
            (ok, html, ARTICLE.format("", f"<table>{rows}</table>").encode() * 1),
        )
    )
    settings = Extract(largest=3 * 10**6)
    source = reader("web", WarcSource(kind="warc", paths=str(tmp_path / "*"), payload=4 * 10**6), settings)
    (shard,), _ = source.shards(None)
    read = source.read(shard)
    source.close()
    assert read.documents["url"].to_pylist()[:3] == [f"http://example.org/{number}" for number in (0, 3, 4)]
    dropped, quarantined = read.ledger["dropped"], read.ledger["quarantined"]
    assert read.ledger["in"] == 14
    expected = {"status": 2, "empty": 1, "too_deep": 1, "too_costly": 1}
    assert {name: dropped[name] for name in expected} == expected
    assert dropped["not_html"] >= 3
    assert quarantined == {}
    assert read.documents["text"][0].as_py().startswith("A sluice box washes gravel")


# -- settings ----------------------------------------------------------------------------------------------------------


EVERY = [
    {"extractor": extractor, "by_page_type": by_page_type}
    for extractor in ("trafilatura", "resiliparse")
    for by_page_type in (False, True)
]
STATED: dict[str, Any] = {"extractor": "trafilatura", "stated": True}


@pytest.mark.parametrize("options", [*EVERY, STATED])
def test_every_setting_gives_text_and_metadata_or_a_reason(options: Any) -> None:
    meta = '<meta property="article:published_time" content="2020-02-03"><meta name="author" content="Jane Washer">'
    page = ARTICLE.format(meta, "<h2>River</h2>" + TEXT * 3)
    found = extract(page, "http://example.org/a", None, fast=True, deepest=200, costliest=10, **options)
    assert "A sluice box washes gravel" in found["text"]
    assert {name: found[name] for name in ("title", "date", "author", "site")} == {
        **{"title": "Gold", "date": "2020-02-03", "author": "Jane Washer", "site": "example.org"},
    }
    empty = extract("<html><body></body></html>", None, None, fast=True, deepest=200, costliest=10, **options)
    assert empty == {"reason": "no_text"}


@pytest.mark.parametrize("options", EVERY[1:])
def test_pages_that_would_cost_minutes_are_refused_by_every_setting(options: Any) -> None:
    page = ARTICLE.format("", "<div>" * 190 + "<div><a href=x>l</a> t</div>" * 200_000)
    found = extract(page, None, None, fast=True, deepest=200, costliest=10, **options)
    assert found["reason"] == "too_costly"


@pytest.mark.parametrize("options", EVERY)
def test_the_child_of_every_setting_answers_as_extract_does(options: Any, tmp_path: Path) -> None:
    page = ARTICLE.format('<meta name="author" content="Jane Washer">', "<h2>Río 金</h2>" + TEXT * 3)
    (tmp_path / "a.html").write_text(page)
    source = reader("web", HtmlSource(kind="html", paths=str(tmp_path / "*.html")), Extract(**options))
    (shard,), _ = source.shards(1)
    try:
        (row,) = source.read(shard).documents.select(["text", "title", "author"]).to_pylist()
    finally:
        source.close()
    found = extract(page, None, None, fast=True, deepest=200, costliest=10, **options)
    assert row == {"text": found["text"].strip(), "title": "Gold", "author": "Jane Washer"}


def test_the_child_of_resiliparse_alone_starts_without_the_libraries_of_the_other() -> None:
    told = "import sys, tasks.extraction.at_once; print({'trafilatura', 'lxml', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_markdown_keeps_the_structure_of_a_page() -> None:
    body = f"<h1>Gold</h1>{TEXT}<h2>Code</h2>{TEXT}<pre>if gold:\n\n    wash()</pre>{TEXT}<ul><li>{TEXT}</li></ul>"
    options: Any = {"by_page_type": True, "form": "markdown", "extractor": "resiliparse"}
    found = extract(ARTICLE.format("", body), None, None, fast=True, deepest=200, costliest=10, **options)["text"]
    assert "## Code\n\nA sluice box" in found
    assert "```\nif gold:\n\n    wash()\n```" in found


def test_settings_of_earlier_specs_keep_their_documents() -> None:
    early = reader("web", WarcSource(kind="warc", paths="x"), Extract()).hashed_settings()["extract"]
    assert set(early) == {"costliest", "cpu_seconds", "memory", "largest", "deepest", "fast", "formulas"}
    fitted = reader("web", WarcSource(kind="warc", paths="x"), Extract(by_page_type=True)).hashed_settings()["extract"]
    assert set(fitted) - set(early) == {"by_page_type", "weights", "main_text"}
    assert set(early) - set(fitted) == {"formulas"}


SCRIPTS = {
    "10<sup>6</sup> of H<sub>2</sub>O": "10⁶ of H₂O",
    "x<SUP>2k</SUP> and a<sub><i>ij</i></sub>": "x^{2k} and a_{ij}",
    "H<sub>2</sub><sup>+</sup> ions": "H₂⁺ ions",
    "<b>10</b><sup>6</sup><b>km</b> of <i>m</i><sup>2</sup>": "10⁶km of m²",
    "said so<sup><a href=#n>12</a></sup> and<a href=#m><sup>3</sup></a>": "said so[12] and[3]",
    "the 1<sup>st</sup> and x<sup></sup>y": "the 1st and xy",
}


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
@pytest.mark.parametrize("html", SCRIPTS)
def test_sub_and_superscripts_do_not_fuse_in_what_an_extractor_takes_as_it_comes(html: str, extractor: Any) -> None:
    page = ARTICLE.format("", f"{TEXT}<p>There are {html} in the river.</p>{TEXT}")
    found = extract(page, None, None, fast=True, deepest=200, costliest=10, extractor=extractor)["text"]
    assert f"There are {SCRIPTS[html]} in the river." in found.split("\n")


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
def test_small_text_of_some_length_and_code_are_no_scripts(extractor: Any) -> None:
    small = "a line that is set small and above the others, of more than sixty characters"
    page = ARTICLE.format("", f"{TEXT}<p>See <sup>{small} and 10<sup>6</sup></sup>.</p>{TEXT}<pre>a<sup>2</sup></pre>")
    found = extract(page, None, None, fast=True, deepest=200, costliest=10, extractor=extractor)["text"]
    assert f"{small} and 10⁶" in found
    assert "a2" in found


def test_stated_metadata_is_not_sought_in_the_text() -> None:
    page = ARTICLE.format("", "<p class=author>By Jane Washer</p><p class=date>2020-02-03</p>" + TEXT)
    options: Any = {"fast": True, "deepest": 200, "costliest": 10}
    searched, stated = (extract(page, None, None, **options, stated=stated) for stated in (False, True))
    assert (searched["date"], searched["author"]) == ("2020-02-03", "Jane Washer")
    assert (stated["date"], stated["author"]) == (None, "")
    assert stated["text"] == searched["text"]


def test_metadata_as_they_are_stated_are_other_documents() -> None:
    one, other = (
        reader("web", WarcSource(kind="warc", paths="x"), Extract(metadata=each)) for each in ("stated", "searched")
    )
    assert one.fingerprint != other.fingerprint


def test_markdown_takes_extraction_by_page_type() -> None:
    with pytest.raises(ValueError, match="`format: markdown` takes `by_page_type: true`"):
        Extract(format="markdown")


FORUM = """<html><head><title>Washing gold - River Forum</title><meta name=generator content="phpBB"></head><body>
<nav class=menu><ul><li><a href=/>Home</a></li><li><a href=/faq>FAQ</a></li><li><a href=/login>Login</a></li></ul></nav>
<h1>Washing gold</h1>{}<footer class=footer><p>Powered by phpBB. © 2024 River Forum. All rights reserved.</p></footer>
</body></html>"""
POST = """<div class="post comment"><div class="post-author"><a href=/u{0}>user{0}</a></div><div class="post-content">
<p>Post number {0}: I washed gravel at the bend of the river all day, and there was gold in it, about {0} grams.</p>
</div></div>"""


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
def test_the_posts_of_a_forum_are_main_text_and_what_is_around_them_is_not(extractor: Any) -> None:
    page = FORUM.format("".join(POST.format(number) for number in range(1, 12)))
    options: Any = {"by_page_type": True, "extractor": extractor}
    url = "https://forum.example.org/viewtopic.php?t=1"
    text = extract(page, url, None, fast=True, deepest=200, costliest=10, **options)["text"]
    assert all(f"Post number {number}:" in text for number in range(1, 12))
    assert "Powered by" not in text
    assert "Login" not in text


RUBY = """<p><ruby>法律<rt>ほうりつ</rt></ruby>では<ruby>親<rt>おや</rt></ruby>が
<ruby>子<rt>こ</rt></ruby>を{}<ruby>回<rt>かい</rt></ruby>
<ruby>守<rt>まも</rt></ruby>ることを<ruby>決<rt>き</rt></ruby>めました。</p>"""


@pytest.mark.parametrize("options", EVERY)
def test_japanese_with_readings_above_it_is_without_these(options: Any) -> None:
    page = f"<html><body><article>{''.join(map(RUBY.format, range(20)))}</article></body></html>"
    text = extract(page, None, None, fast=True, deepest=200, costliest=10, **options)["text"]
    assert "法律では親が 子を7回 守ることを決めました。" in text
    assert "ほうりつ" not in text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        *(("<p>我们<b>爱</b>中国</p>", "我们爱中国"), ("<p><span>我们</span>爱<span>中国</span></p>", "我们爱中国")),
        *(("<p>gold<b>—</b>sand</p>", "gold—sand"), ("<p>好</p>", "好"), ("<p>我<b>爱</b></p>", "我爱")),
    ],
)
def test_resiliparse_passes_over_no_character_that_stands_alone_between_tags(html: str, text: str) -> None:
    prose = "<p>" + "河水在夏天流过砾石，冬天静止不动。" * 6 + "</p>"
    found = at_once.main_content(f"<html><body><article>{prose}{html}{prose}</article></body></html>")
    assert found.split("\n")[2] == text
