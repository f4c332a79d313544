"""Refused records: a row for each that the ledger counts out, with its place, address and measures."""

from __future__ import annotations

import bz2
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_specs.extract import Extract
from data_specs.sources import FolderSource, JsonlSource, WarcSource
from tasks.engine.reading import REFUSED, URL, Part, Read
from tasks.sources import reader, refused
from tasks.sources.base import Records
from tests.tasks.sources.test_sources import archive, read_all, words

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
BLOCKS = {
    "status": b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>gone",
    "not_html": HEAD.replace(b"text/html", b"image/png") + b"\x89PNG",
    "empty": HEAD + b" \n ",
    "too_large": HEAD + b"<html><p>" + b"gold " * 9000,
    "too_deep": HEAD + b"<html>" + b"<div>" * 40 + b"gold",
    "too_costly": HEAD + b"<html><p>" + b"<b>gold</b>" * 900,
    "no_text": HEAD + b"<html><body></body></html>",
}


def rows(reads: list[Read]) -> list[dict[str, Any]]:
    """The rows of all shards, which have to be those that the ledgers count."""
    for read in reads:
        assert read.refused.schema == REFUSED
        counted = Counter(read.ledger["dropped"]) + Counter(read.ledger["quarantined"])
        assert Counter(read.refused["reason"].to_pylist()) == counted
    return [row for read in reads for row in read.refused.to_pylist()]


@pytest.mark.parametrize("compressed", [True, False])
def test_every_page_that_is_refused_has_a_row_that_leads_to_it(tmp_path: Path, compressed: bool) -> None:
    data = archive([words(90), *BLOCKS.values()], compressed)
    cut = archive([words(90)], compressed).removesuffix(b"\r\n\r\n")
    path = tmp_path / f"a.warc{'.gz' if compressed else ''}"
    end = cut.rindex(b"\x1f\x8b\x08") if compressed else cut.rindex(b"WARC/1.0")
    path.write_bytes(data + cut[: end - 40])
    limits = Extract(largest=20_000, deepest=20, costliest=0.05)
    found = rows(read_all(reader("web", WarcSource(kind="warc", paths=str(path)), limits)))
    assert [row["reason"] for row in found] == [*BLOCKS, "truncated"]
    for (number, block), row in zip(enumerate(BLOCKS.values(), 1), found[:-1], strict=True):
        assert (row["source"], row["file"], row["url"]) == ("web", path.name, f"http://example.org/{number}")
        record = path.read_bytes()[row["offset"] : row["offset"] + row["length"]]
        record = gzip.decompress(record) if compressed else record
        assert record.startswith(b"WARC/1.0")
        assert record.count(b"WARC/1.0") == 1
        assert record.rstrip().endswith(block.rstrip())
        assert row["url"].encode() in record
    assert found[-1]["url"] == "http://example.org/0"
    assert len(data) < found[-1]["offset"] < found[-1]["offset"] + found[-1]["length"] <= path.stat().st_size
    measured = {row["reason"]: json.loads(row["measures"]) for row in found if row["measures"]}
    assert measured.keys() == {"too_costly"}
    assert measured["too_costly"]["elements"] > 900


def test_lines_that_are_refused_have_rows_that_lead_to_them(tmp_path: Path) -> None:
    lines = [b'{"text": 5, "url": "https://example.org/five"}', b"[]", b"", b'{"text": "gold"}', b'{"text": " "}']
    text = b"\n".join(lines) + b"\n"
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text)[:-9])
    (tmp_path / "c.jsonl.bz2").write_bytes(bz2.compress(text)[:-20] + bytes(20))
    found = rows(read_all(reader("web", JsonlSource(kind="jsonl", paths=str(tmp_path / "*")), Extract())))
    of = {name: [row for row in found if row["file"] == name] for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.bz2")}
    told = [(row["reason"], text[row["offset"] :][: row["length"]], row["url"]) for row in of["a.jsonl"]]
    assert told == [
        ("no_text", lines[0], "https://example.org/five"),
        ("not_json", lines[1], None),
        ("no_text", lines[4], None),
    ]
    assert of["b.jsonl.gz"][-1]["reason"] == "truncated"
    assert of["b.jsonl.gz"][-1]["length"] is None
    assert text[: of["b.jsonl.gz"][-1]["offset"]].endswith(b"\n")
    assert [(row["reason"], row["offset"]) for row in of["c.jsonl.bz2"]] == [("unreadable", 0)]


def test_files_of_a_folder_that_are_refused_have_rows_without_address(tmp_path: Path) -> None:
    for name, body in (("a.py", b" \n"), ("b.py", b"\0\0\0"), ("c.py", b"x" * 99), ("d.py", b"print()")):
        (tmp_path / name).write_bytes(body)
    settings = FolderSource(kind="code", paths=str(tmp_path / "*.py"), largest=50)
    found = rows(read_all(reader("code", settings, Extract())))
    assert sorted((row["file"], row["reason"], row["offset"], row["length"], row["url"]) for row in found) == [
        ("a.py", "empty", 0, 2, None),
        ("b.py", "not_text", 0, 3, None),
        ("c.py", "too_large", 0, 99, None),
    ]


def test_addresses_are_clipped_and_of_very_many_records_the_first_have_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "_MOST", 100_000)
    counted, part = Records("web"), Part("/x", "x", 0, 1)
    for number in range(20_000):
        counted.drop("no_text", part, number, 1, "\ud800é" * 3000 if number == 0 else None)
    read = counted.read()
    assert read.ledger["dropped"] == {"no_text": 20_000}
    assert read.refused["url"][0].as_py() == "é" * (URL // 2)
    assert read.refused["offset"].to_pylist() == list(range(read.refused.num_rows))
    assert 1000 < read.refused.num_rows < 2000
