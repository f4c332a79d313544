"""Lists of domains, addresses and words: what is listed, and how lines are written."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_specs.sources import UrlList
from tasks.engine.hosts import LONGEST, split
from tasks.engine.reading import SourceError
from tasks.sources.url_lists import Listed, address, words

NAMES = {
    "straße.de": "xn--strae-oqa.de",
    "a_b.STRASSE.straße.de": "a_b.strasse.xn--strae-oqa.de",
    "βόλος.com": "xn--nxasmm1c.com",
    "i❤.ws": "xn--i-7iq.ws",
    "例え。テスト": "xn--r8jz45g.xn--zckzah",
    "BÜCHER.example": "xn--bcher-kva.example",
    "ü-.de": "xn----dha.de",
}
"""Host -> as it is asked for."""
LINES = {
    "domains": "# games\nexample.org\n\n*.Games.example\r\nhttps://bücher.example/\n",
    "urls": "http://user@Example.org:80/a/?q=1#top\nexample.net\n",
    "words": "casino\n!!\nPlay now!\n2 girls\n",
}
LISTED = {
    "domains": [
        "http://example.org",
        "https://www.EXAMPLE.org:8080/x?y#z",
        "//a.b.games.example/",
        "http://xn--bcher-kva.example",
    ],
    "urls": ["https://example.org/a/?q=1", "http://example.org:8080/a/?q=1#other", "https://example.net/"],
    "words": [
        "http://x.example/best-Casino/1",
        "http://casino.example",
        "http://x.example/play%20now",
        "http://x.example/2-girls",
    ],
}
OTHERS = {
    "domains": [
        "http://example.org.evil.example",
        "http://notexample.org/",
        "http://x.example/example.org",
        "http://org",
        "",
    ],
    "urls": [
        "https://example.org/a/",
        "https://example.org/a/?q=2",
        "https://www.example.net/",
        "https://example.net/x",
    ],
    "words": [
        "http://casinos.example",
        "http://x.example/play/it/now",
        "http://x.example/girls-2",
        "http://x.example/12-girls",
    ],
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", LINES)
def test_what_a_list_holds_is_listed_and_nothing_else(tmp_path: Path, kind: str, packed: bool) -> None:
    path = tmp_path / "list"
    text = LINES[kind].encode()
    path.write_bytes(gzip.compress(text[:20]) + gzip.compress(text[20:]) if packed else text)
    found = Listed("games", UrlList(**{kind: str(path)}))
    assert found.matches(LISTED[kind]) == [True] * len(LISTED[kind])
    assert found.matches([*OTHERS[kind], None]) == [False] * (len(OTHERS[kind]) + 1)
    assert found.matches([]) == []


def test_words_have_their_marks_however_an_address_spells_them(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("करे\ncafé\n")
    found = Listed("some", UrlList(words=str(tmp_path / "list")))
    urls = ["http://x.example/करे-12", "http://x.example/caf%C3%A9", "http://x.example/cafe%CC%81_1"]
    others = ["http://x.example/करी", "http://x.example/करेंगे", "http://x.example/cafe", "http://x.example/caf"]
    assert found.matches([*urls, *others]) == [True] * 3 + [False] * 4


def test_an_empty_list_lists_nothing(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# nothing yet\n")
    found = Listed("none", UrlList(urls=str(tmp_path / "list")))
    assert len(found) == 0
    assert found.matches(["http://example.org", None]) == [False, False]


@pytest.mark.parametrize(
    ("kind", "line", "told"),
    [
        ("domains", "example.org/path", "line 2 of .* is no domain: example.org/path"),
        ("domains", "two words", "is no domain"),
        ("words", "a b c d e f g h i", "is more than 8 words"),
        ("domains", "domain,category", "is no domain"),
        ("domains", "||example.org^", "is no domain"),
        ("domains", "*.*.example.org", "is no domain"),
        ("domains", '["example.org", "b.example"]', "is no domain"),
        ("urls", '["http://example.org/a","http://b.example"]', "is no address"),
        ("urls", "<html><body>404</body></html>", "is no address"),
        ("urls", "example.org/a\rb.example/c", "is no text"),
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path: Path, kind: str, line: str, told: str) -> None:
    (tmp_path / "list").write_text(f"# first\n{line}\n")
    with pytest.raises(SourceError, match=f"lists.games: .*{told}"):
        Listed("games", UrlList(**{kind: str(tmp_path / "list")}))


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"example.org\n" * 1000)[:-9])
    with pytest.raises(SourceError, match=r"lists\.games: .*list\.gz is damaged"):
        Listed("games", UrlList(domains=str(tmp_path / "list.gz")))


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize(
    "packed",
    [
        lambda text: text.decode().encode("utf-16"),
        lambda text: text.decode().encode("utf-16-be"),
        zstandard.compress,
        bz2.compress,
        lzma.compress,
        lambda text: gzip.compress(gzip.compress(text)),
    ],
    ids=["utf-16", "utf-16-be", "zst", "bz2", "xz", "gz twice"],
)
def test_a_list_of_another_encoding_or_compression_is_not_taken_for_one_that_lists_nothing(
    tmp_path: Path, kind: str, packed: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "list").write_bytes(packed(b"example.org\nb.example\n" * 10))
    with pytest.raises(SourceError, match=r"lists\.games: line 1 of .* is no text; lists are plain or \.gz, in UTF-8"):
        Listed("games", UrlList(**{kind: str(tmp_path / "list")}))


def test_a_hundred_thousand_domains_are_a_megabyte(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("".join(f"site-{number}.example\n" for number in range(100_000)))
    found = Listed("many", UrlList(domains=str(tmp_path / "list")))
    assert len(found) == 100_000
    assert found.hashes.nbytes == 800_000
    assert found.matches(["http://a.site-99999.example/", "http://site-100000.example/"]) == [True, False]


@pytest.mark.parametrize(
    "url", ["a." * 10**6, "http://" + "é" * 10**6, "/a" * 10**6, "http://[" * 10**5, "%e4" * 10**6, "@" * 10**6]
)
def test_hostile_addresses_take_little_time(tmp_path: Path, url: str) -> None:
    for kind in LINES:
        (tmp_path / kind).write_text(LINES[kind])
        found = Listed(kind, UrlList(**{kind: str(tmp_path / kind)}))
        started = time.process_time()
        assert found.matches([url]) == [False]
        assert time.process_time() - started < 2
    assert len(address(url)) <= LONGEST * 2
    assert len(words(url)) <= LONGEST


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("HTTP://User:x@Example.org.:80/A?b#c", ("example.org", "/A?b")),
        ("example.org", ("example.org", "")),
        ("example.org:8080/x", ("example.org", "/x")),
        ("http://[::1]:80/x", ("[::1]", "/x")),
        ("mailto:a@b.example", ("b.example", "")),
        ("/path/only", ("", "/path/only")),
        ("\ud800", ("\ud800", "")),
    ],
)
def test_an_address_is_taken_apart(url: str, parts: tuple[str, str]) -> None:
    assert split(url) == parts


def test_international_names_are_those_that_browsers_ask_for(tmp_path: Path) -> None:
    for name, wanted in NAMES.items():
        assert split(f"https://{name}/x")[0] == wanted
    (tmp_path / "list").write_text("straße.de\n")
    found = Listed("x", UrlList(domains=str(tmp_path / "list")))
    urls = ["https://strasse.de/", "https://xn--strae-oqa.de/", "https://www.straße.de/"]
    assert found.matches(urls) == [False, True, True]
