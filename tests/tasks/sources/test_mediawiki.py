"""Dumps of MediaWiki, in every layout that they are published in."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from data_specs.extract import Extract
from data_specs.sources import MediawikiSource
from tasks.sources import Read, Reader, reader
from tests.tasks.sources import dumps
from tests.tasks.sources.dumps import HEAD, page

PARTS = dumps.wiki(30)
HEADER, *PAGES, END = PARTS
TEXT = """River 3 is a river of 3 km.

Course

It passes the town & the $a < b_3$ hills, 河流3 计算机.
- one
- two

Year | Flow
1990 | 3"""


def multistream(pages: list[bytes], each: int = 4) -> bytes:
    """As Wikimedia writes it: the header, some pages a stream, the end."""
    streams = [b"".join(pages[start : start + each]) for start in range(0, len(pages), each)]
    return b"".join(map(bz2.compress, [HEADER, *streams, END]))


def cut_anywhere(data: bytes, size: int = 700) -> bytes:
    """As pbzip2 writes it: streams of so many bytes, wherever a page ends."""
    return b"".join(bz2.compress(data[start : start + size]) for start in range(0, len(data), size))


LAYOUTS = {
    "a.xml": b"".join(PARTS),
    "a.xml.bz2": bz2.compress(b"".join(PARTS)),
    "a.xml.gz": gzip.compress(b"".join(PARTS)),
    "cut.xml.bz2": cut_anywhere(b"".join(PARTS)),
    "multistream.xml.bz2": multistream(PAGES),
}


def source(path: Path, **settings: Any) -> Reader:
    return reader("wiki", MediawikiSource(kind="mediawiki", paths=str(path), **settings), Extract())


def read_all(found: Reader) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The documents of all shards, and all counts."""
    reads = [found.read(shard) for shard in found.shards(None)[0]]
    return [row for read in reads for row in read.documents.to_pylist()], counted(reads)


def counted(reads: list[Read]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for read in reads:
        counts.update({**read.ledger["dropped"], **read.ledger["quarantined"]}, read=read.ledger["in"])
    return counts


@pytest.mark.parametrize("name", LAYOUTS)
def test_articles_become_documents_and_other_pages_are_counted_in_every_layout(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LAYOUTS[name])
    found = source(tmp_path / "*")
    rows, counts = read_all(found)
    assert counts == {"read": 33, "namespace": 1, "redirect": 1, "not_wikitext": 1}
    assert [row["title"] for row in rows] == [f"River {number}" for number in range(30)]
    third = rows[3]
    assert third["text"] == TEXT
    assert (third["url"], third["date"]) == ("https://en.wikipedia.org/wiki/River_3", "2020-03-01")
    assert (third["categories"], third["site"]) == ("Rivers|Number 3", "Wikipedia")
    assert len({row["id"] for row in rows}) == 30
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in rows)
    for size in (500, 3000):
        assert read_all(source(tmp_path / "*", shard=size)) == (rows, counts)
    shards = source(tmp_path / "*", shard=500).shards(None)[0]
    busy = sum(found.read(shard).documents.num_rows > 0 for shard in shards)
    assert (busy > 3) == (name in ("a.xml", "multistream.xml.bz2"))


def test_a_page_of_several_revisions_is_its_last_and_one_that_is_too_large_is_dropped(tmp_path: Path) -> None:
    pages = [
        page("Old & new", "the last", revisions=3),
        page("Large", "x" * 5000),
        page("Gone", ""),
        page("Kept", "so"),
    ]
    (tmp_path / "a.xml").write_bytes((HEAD + "".join(pages)).encode() + END)
    rows, counts = read_all(source(tmp_path / "*", largest=4000))
    assert [(row["title"], row["text"], row["date"]) for row in rows] == [
        ("Old & new", "the last", "2022-03-01"),
        ("Kept", "so", "2020-03-01"),
    ]
    assert rows[0]["url"] == "https://en.wikipedia.org/wiki/Old_&_new"
    assert counts == {"read": 4, "too_large": 1, "no_text": 1}


def test_pages_that_name_their_own_namespace_of_xml_are_read(tmp_path: Path) -> None:
    export = b'<page xmlns="http://www.mediawiki.org/xml/export-0.10/" xmlns:a="http://a.org/">'
    (tmp_path / "a.xml").write_bytes(b"".join(PARTS))
    (tmp_path / "b.xml").write_bytes(b"".join(PARTS).replace(b"<page>", export))
    (rows, counts), (again, counted) = (read_all(source(tmp_path / name)) for name in ("a.xml", "b.xml"))
    told = ("text", "title", "date", "url", "categories")
    assert [[row[name] for name in told] for row in again] == [[row[name] for name in told] for row in rows]
    assert counted == counts


def test_namespaces_are_chosen_and_a_redirect_without_its_element_is_one(tmp_path: Path) -> None:
    pages = [page("Help:A", "how", namespace=12), page("B", "so"), page("C", "#重定向 [[B]]"), page("D", "#1 of [[B]]")]
    pages += [
        page("E", "#Rivers [[Rhine]]\n#Lakes [[Como]]"),
        page("F", "#REDIRECCIÓN [[B]]"),
        page("G", "#Redirect: [[B]]"),
    ]
    (tmp_path / "a.xml").write_bytes((HEAD + "".join(pages)).encode() + END)
    rows, counts = read_all(source(tmp_path / "*", namespaces=(0, 12)))
    assert [row["title"] for row in rows] == ["Help:A", "B", "D", "E"]
    assert counts == {"read": 7, "redirect": 3}


def test_a_damaged_page_costs_itself_alone(tmp_path: Path) -> None:
    broken = [
        PAGES[1].replace(b"</text>", b""),  # no XML
        PAGES[2].replace(b"  </page>\n", b""),  # the next begins in it
        PAGES[3].replace(b"River", b"&undeclared;", 1),
        PAGES[4].replace(b"  <page>\n", b""),
    ]
    (tmp_path / "a.xml").write_bytes(b"".join([HEADER, PAGES[0], *broken, PAGES[5], PAGES[6][:200]]))
    rows, counts = read_all(source(tmp_path / "*"))
    assert [row["title"] for row in rows] == ["River 0", "River 5"]
    assert counts == {"read": 7, "not_xml": 3, "truncated": 2}


PACKED = {"a.xml": bytes, "a.xml.bz2": bz2.compress, "a.xml.gz": gzip.compress, "cut.xml.bz2": cut_anywhere}


@pytest.mark.parametrize("rest", [b"", b"  <pa", b"</mediawi"])
@pytest.mark.parametrize("name", [*PACKED, "multistream.xml.bz2"])
def test_a_dump_that_breaks_off_between_two_pages_is_told_to_be_truncated_once_however_it_is_cut(
    tmp_path: Path, name: str, rest: bytes
) -> None:
    whole = b"".join([HEADER, *PAGES[:20], rest])
    pieces = map(bz2.compress, [HEADER, *PAGES[:20], *([rest] if rest else [])])
    data = PACKED[name](whole) if name in PACKED else b"".join(pieces)
    (tmp_path / name).write_bytes(data)
    for size in (300, 2000, 2**30):
        rows, counts = read_all(source(tmp_path / "*", shard=size))
        assert len(rows) == 20
        assert counts == {"read": 21, "truncated": 1}
    [first, *others] = (source(tmp_path / "*").read(shard) for shard in source(tmp_path / "*").shards(None)[0])
    assert not others
    assert first.ledger["files"] == {name: {"truncated": 1}}
    assert read_all(source(tmp_path / "*", shard=2**30))[0] == rows


def test_pages_without_a_dump_around_them_and_two_dumps_in_one_file_are_whole(tmp_path: Path) -> None:
    (tmp_path / "pages.xml").write_bytes(b"".join(PAGES[:9]))
    (tmp_path / "two.xml").write_bytes(
        b"".join([HEADER, *PAGES[:9], END, b"\n", HEADER, *PAGES[9:18], END, b"<!-- -->\n"])
    )
    for size in (300, 2**30):
        assert read_all(source(tmp_path / "*", shard=size))[1] == {"read": 27}


def test_no_entity_is_expanded_and_no_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("gold")
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(12))
    outside = f'<!ENTITY f SYSTEM "file://{tmp_path}/secret">'
    head = f"<!DOCTYPE mediawiki [{laughs}{outside}]>\n{HEAD}"
    pages = [page("A", "so").replace("so", "&l11;"), page("B", "so").replace("so", "&f;"), page("C", "so")]
    inside = page("D", "so").replace("<page>", f"<page><!DOCTYPE page [{outside}]>")
    (tmp_path / "a.xml").write_bytes((head + "".join([*pages, inside])).encode() + END)
    rows, counts = read_all(source(tmp_path / "a.xml"))
    assert [row["text"] for row in rows] == ["so"]
    assert counts == {"read": 4, "not_xml": 3}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.xml", b"", "empty_file"),
        ("a.xml", HEADER + END, "no_pages"),
        ("a.xml", HEADER, "truncated"),
        ("a.xml", bz2.compress(HEADER), "unreadable"),
        ("a.xml.bz2", HEADER, "unreadable"),
        ("a.xml.gz", gzip.compress(HEADER)[:-9], "truncated"),
    ],
)
def test_a_file_that_holds_no_page_is_one_record_under_its_name(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_all(source(tmp_path / "*")) == ([], {"read": 1, reason: 1})


def test_a_damaged_piece_costs_its_own_pages_alone(tmp_path: Path) -> None:
    data = bytearray(multistream(PAGES))
    starts = [found for found in range(len(data)) if data[found : found + 4] == b"BZh9"]
    data[starts[3] + 60 : starts[3] + 80] = bytes(20)
    (tmp_path / "a.xml.bz2").write_bytes(data)
    rows, counts = read_all(source(tmp_path / "*"))
    lost = {f"River {number}" for number in range(8, 12)}
    assert {f"River {number}" for number in range(30)} - {row["title"] for row in rows} == lost
    assert counts["unreadable"] == 1
    assert read_all(source(tmp_path / "*", shard=2000))[0] == rows


@pytest.mark.slow
def test_memory_is_that_of_a_page_however_large_a_page_and_a_file_are(tmp_path: Path) -> None:
    with bz2.open(tmp_path / "a.xml.bz2", "wb", 1) as file:
        file.write(HEADER + PAGES[0] + b"  <page>\n<text>")
        for _ in range(60):
            file.write(b"words of no end " * 2**16)
        file.write(b"</text>\n  </page>\n" + PAGES[1] + END)
    found = source(tmp_path / "*", largest=2**20)
    tracemalloc.start()
    rows, counts = read_all(found)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
    assert [row["title"] for row in rows] == ["River 0", "River 1"]
    assert counts == {"read": 3, "too_large": 1}


def test_a_refused_address_is_not_made_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b"".join(PARTS))
    every, _ = read_all(source(tmp_path / "*"))
    long = [row["title"] for row in every if len(row["text"]) > len(TEXT)]
    refuse = {"seventh": "url like '%/River_7'", "long": f"raw_length > {len(TEXT)}"}
    rows, counts = read_all(source(tmp_path / "*", refuse=refuse))
    assert 0 < len(long) < 29
    assert (counts["seventh"], counts["long"]) == (1, len(long))
    assert [row["title"] for row in rows] == [row["title"] for row in every if row["title"] not in (*long, "River 7")]


def test_pages_are_those_that_an_xml_parser_finds(tmp_path: Path) -> None:
    whole = b"".join(PARTS)
    tree = etree.parse(io.BytesIO(whole))
    name = "{http://www.mediawiki.org/xml/export-0.11/}"
    titles = [each.findtext(f"{name}title") for each in tree.iter(f"{name}page")]
    (tmp_path / "a.xml").write_bytes(whole)
    rows, counts = read_all(source(tmp_path / "*", namespaces=(0, 1)))
    assert [row["title"] for row in rows] == [title for title in titles if title not in ("Old name", "Style.css")]
    assert counts["read"] == len(titles)
