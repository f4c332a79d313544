"""The text of a page before its extraction: what is read of it, in linear time whatever it holds."""

from __future__ import annotations

import random
import re
import time

import pytest

from tasks.extraction.raw_text import LOOKED_AT, declared_language, raw_text

PROSE = "Die Schleuse hält das Wasser zurück, bis das Gold am Boden liegt."


def test_prose_is_read_and_what_nobody_reads_is_not() -> None:
    page = (
        "<html><head><title>T</title><STYLE>.long{content:'a rule that is as long as any sentence of the page'}</style>"
        "<script>if (a < b) document.write('<p>words in a script, as many as a sentence of the page has, and more')"
        "</script></head><body><ul>"
        + "<li><a href='/'>Home</a>"
        * 20
        + f"</ul><!-- <p>a comment that is as long as any sentence of the page --><p>{PROSE[:30]}<b>{PROSE[30:40]}</b>"
        f"{PROSE[40:]}</p><p>&Uuml;ber &amp; &#x4e2d;&#25991;</p>"
    )
    found = raw_text(page, 100)
    assert found.startswith(PROSE.lower())
    assert "über & 中文" in found.lower()
    assert not {"rule", "script", "comment"} & set(found.split())


def test_the_longest_lines_come_first_and_no_more_than_is_asked_for() -> None:
    lines = [word * number for number, word in enumerate(("a ", "b ", "c ", "d "), 40)]
    found = raw_text("".join(f"<div>{line}</div>" for line in lines), 100)
    assert found == " ".join((lines[3].strip(), lines[2].strip()))
    assert raw_text("<p>" + "x" * 10**6, 1000) == "x" * 300
    assert raw_text("", 100) == raw_text("<script>", 100) == raw_text("<<<>>>", 100).strip("> ") == ""


def test_a_run_of_tags_ends_a_line_as_each_of_them_does() -> None:
    rng = random.Random(2)
    pieces = ["<", ">", "<p>", "</div>", "<td class='x'", "<q", "/>", " ", "\n", "\x0b", "\u3000", "my word", "é y"]
    for _ in range(2000):
        page = "".join(rng.choices(pieces, k=rng.randrange(60)))
        lines = (line.strip().decode() for line in re.sub(rb"<[^<>]*>?", b"\n", page.encode()).split(b"\n"))
        written = [" ".join(line.split()) for line in lines]
        assert raw_text(page, 10**6) == " ".join(sorted(filter(None, written), key=len, reverse=True))


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!--",
        "<script",
        "<script>",
        "</script",
        "<a",
        "<b <",
        "&amp",
        "&#",
        "<p>\n",
        "<p>",
        "<p> x",
        " ",
        "<style></style",
        "İ<!--",
    ],
)
def test_hostile_pages_take_linear_time(piece: str) -> None:
    page = piece * (8 * LOOKED_AT // len(piece))
    started = time.process_time()
    raw_text(page, 1000)
    declared_language(page)
    assert time.process_time() - started < 5


def test_any_page_has_a_raw_text() -> None:
    rng = random.Random(1)
    pieces = [
        "<",
        ">",
        "<script",
        "</script>",
        "<!--",
        "-->",
        "&#x110000;",
        "&lt;p&gt;",
        "\0",
        "\ud800",
        "text",
        "\n",
        "<b>",
        "ſ",
    ]
    for _ in range(300):
        assert isinstance(raw_text("".join(rng.choices(pieces, k=rng.randrange(40))), 50), str)


@pytest.mark.parametrize(
    ("page", "header", "language"),
    [
        ("<!doctype html><html class=a lang='zh-Hans'>", "en", "zh"),
        ('<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="DE">', None, "de"),
        ("<html>" + "<div lang=fr>", "pt-BR, en", "pt"),
        ("<html lang=''>", "", None),
        ("<html>" + " " * 9000 + "<html lang=en>", None, None),
        ("<html lang=english>", None, None),
    ],
)
def test_the_language_that_a_page_declares(page: str, header: str | None, language: str | None) -> None:
    assert declared_language(page, header) == language
