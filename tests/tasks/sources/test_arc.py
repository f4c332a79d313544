"""ARC files, against warcio and against the same crawl as WARC."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator

from data_specs.extract import Extract
from data_specs.sources import ArcSource, WarcSource
from tasks.sources import Reader, arc, reader
from tasks.sources.archive import Fault, Record
from tests.tasks.sources.test_sources import words

ABOUT = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n"
FILE = b"filedesc://old.arc 0.0.0.0 20080430204825 text/plain %d\n%s\n" % (len(ABOUT), ABOUT)
TEXTS = [words(90, seed) for seed in range(12)]


def response(number: int, extra: bytes = b"") -> bytes:
    """A record of version 1, of version 2 where it is uneven."""
    page = b"<html><body><p>" + TEXTS[number].encode() + b"</body></html>"
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    more = b" 200 A1B2 - 7 old.arc" if number % 2 else b""
    head = b"http://example.org/%d%s 192.0.2.1 20080430204826 text/html%s %d\n" % (number, extra, more, len(block))
    return head + block + b"\n"


RECORDS = [response(number) for number in range(12)]
PLAIN = b"".join([FILE, *RECORDS])
MEMBERS = b"".join(map(gzip.compress, [FILE, *RECORDS]))


def source(path: Path, **settings: Any) -> Reader:
    return reader("old", ArcSource(kind="arc", paths=str(path), **settings), Extract())


def read_all(found: Reader) -> tuple[list[dict[str, Any]], dict[str, int]]:
    rows, counts = [], dict[str, int]()
    try:
        for shard in found.shards(None)[0]:
            read = found.read(shard)
            rows += read.documents.to_pylist()
            for reason, count in {
                **read.ledger["dropped"],
                **read.ledger["quarantined"],
                "in": read.ledger["in"],
            }.items():
                counts[reason] = counts.get(reason, 0) + count
    finally:
        found.close()
    return rows, {reason: count for reason, count in counts.items() if count}


@pytest.mark.parametrize("data", [PLAIN, MEMBERS, gzip.compress(PLAIN)], ids=["plain", "members", "whole"])
def test_pages_of_both_versions_are_documents_however_the_file_is_cut(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.arc.gz").write_bytes(data)
    rows, counts = read_all(source(tmp_path / "*"))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["url"] for row in rows] == [f"http://example.org/{number}" for number in range(12)]
    assert counts == {"in": 12}
    again = source(tmp_path / "*")
    assert all(hashlib.sha256(again.reread(row)).hexdigest() == row["payload"] for row in rows)
    assert read_all(source(tmp_path / "*", shard=len(data) // 5)) == (rows, counts)


def test_a_record_that_breaks_off_costs_itself_alone(tmp_path: Path) -> None:
    parts = [gzip.compress(part) for part in (FILE, *RECORDS[:4])]
    parts[2] = parts[2][:-30]
    (tmp_path / "a.arc.gz").write_bytes(b"".join(parts))
    rows, counts = read_all(source(tmp_path / "*"))
    assert [row["text"] for row in rows] == [TEXTS[0], TEXTS[2], TEXTS[3]]
    assert counts == {"in": 4, "unreadable": 1}
    (tmp_path / "a.arc.gz").write_bytes(PLAIN[: PLAIN.index(RECORDS[2]) + 200])
    rows, counts = read_all(source(tmp_path / "*"))
    assert [row["text"] for row in rows] == TEXTS[:2]
    assert counts == {"in": 3, "truncated": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"WARC/1.0\r\n", "unreadable"),
        (gzip.compress(b"WARC/1.0\r\n"), "unreadable"),
        (b"http", "truncated"),
    ],
)
def test_a_file_that_is_no_arc_is_one_record_under_its_name(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.arc").write_bytes(data)
    assert read_all(source(tmp_path / "*")) == ([], {"in": 1, reason: 1})


def test_addresses_with_spaces_and_odd_headers_are_read_as_they_were_meant() -> None:
    data = FILE + response(0, b"?a b c") + response(1).replace(b"text/html 200", b"text/html; charset=utf-8 200")
    data += response(2).replace(b"20080430204826", b"20081330204826")
    found = [each for each in arc.records(io.BytesIO(data), 0, len(data), 10**6) if isinstance(each, Record)]
    assert [(each.url, each.date) for each in found] == [
        ("http://example.org/0?a b c", "2008-04-30"),
        ("http://example.org/1", "2008-04-30"),
        ("http://example.org/2", None),
    ]


def test_an_arc_inside_a_page_is_no_record_of_the_file() -> None:
    inner = b"HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\n\r\n" + MEMBERS
    outer = b"http://example.org/a.arc.gz 192.0.2.1 20080430204826 application/gzip %d\n%s\n" % (len(inner), inner)
    stored = gzip.compress(outer, 0)
    data = gzip.compress(FILE) + stored + gzip.compress(RECORDS[0])
    cut = len(gzip.compress(FILE)) + 200
    ranges = [(0, cut), (cut, len(data))]
    found = [each.url for start, end in ranges for each in arc.records(io.BytesIO(data), start, end, 10**6)]
    assert found == ["http://example.org/a.arc.gz", "http://example.org/0"]


@pytest.mark.slow
def test_a_crawl_gives_the_same_pages_as_its_warc_and_the_records_that_warcio_finds(shared: Path) -> None:
    old, new = (shared / "warc" / f"aut-example.{kind}.gz" for kind in ("arc", "warc"))
    with open(old, "rb") as file:
        theirs = [each.rec_headers.get_header("uri") for each in ArchiveIterator(file, no_record_parse=True)]
        file.seek(0)
        found = list(arc.records(file, 0, old.stat().st_size, 10**7))
    assert not [each for each in found if isinstance(each, Fault)]
    assert [each.url for each in found] == [uri for uri in theirs if not uri.startswith("filedesc:")]
    rows, counts = read_all(source(old))
    same, counted = read_all(reader("old", WarcSource(kind="warc", paths=str(new)), Extract()))
    assert [(row["url"], row["text"], row["payload"]) for row in rows] == [
        (row["url"], row["text"], row["payload"]) for row in same
    ]
    assert counts == counted
