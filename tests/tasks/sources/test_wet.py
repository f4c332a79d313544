"""WET files, as Common Crawl writes them: by warcio, and a real one."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from warcio.warcwriter import WARCWriter

from data_specs.extract import Extract
from data_specs.sources import WetSource
from tasks.sources import Reader, reader
from tests.tasks.sources.test_arc import read_all
from tests.tasks.sources.test_sources import archive

TEXTS = ["One\nline after line\n", "二\n文字", "x" * 5000, " \n", "last"]


def wet(texts: list[str], compressed: bool = True) -> bytes:
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=compressed)
    writer.write_record(writer.create_warcinfo_record("a.wet.gz", {"software": "warcio"}))
    for number, text in enumerate(texts):
        headers = {"WARC-Identified-Content-Language": "zho,eng"} if number % 2 else {}
        record = writer.create_warc_record(
            f"http://example.org/{number}",
            "conversion",
            payload=io.BytesIO(text.encode()),
            warc_content_type="text/plain",
            warc_headers_dict=headers,
        )
        writer.write_record(record)
    return out.getvalue()


def source(path: Path, **settings: Any) -> Reader:
    return reader("texts", WetSource(kind="wet", paths=str(path), **settings), Extract())


@pytest.mark.parametrize("compressed", [True, False])
def test_texts_become_documents_with_the_languages_that_the_crawl_found(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / f"a.warc.wet{'.gz' * compressed}").write_bytes(wet(TEXTS, compressed))
    rows, counts = read_all(source(tmp_path / "*", largest=4000))
    assert [(row["url"], row["text"], row["languages"]) for row in rows] == [
        ("http://example.org/0", "One\nline after line", None),
        ("http://example.org/1", "二\n文字", "zho,eng"),
        ("http://example.org/4", "last", None),
    ]
    assert counts == {"in": 5, "too_large": 1, "no_text": 1}
    again = source(tmp_path / "*")
    assert all(hashlib.sha256(again.reread(row)).hexdigest() == row["payload"] for row in rows)
    assert read_all(source(tmp_path / "*", largest=4000, shard=300)) == (rows, counts)


def test_texts_are_refused_by_the_language_that_the_crawl_found(tmp_path: Path) -> None:
    (tmp_path / "a.wet.gz").write_bytes(wet(TEXTS))
    rows, counts = read_all(source(tmp_path / "*", refuse={"chinese": "languages like 'zho%'"}))
    assert counts == {"in": 5, "chinese": 2}
    assert len(rows) == 3


def test_pages_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(archive(["page"] * 3))
    assert read_all(source(tmp_path / "*")) == ([], {"in": 4, "no_pages": 1, "not_text": 3})


def test_a_real_file_is_read(shared: Path) -> None:
    rows, counts = read_all(source(shared / "warc" / "whirlwind.warc.wet.gz"))
    assert counts == {"in": 1}
    assert (rows[0]["url"], rows[0]["languages"]) == ("https://an.wikipedia.org/wiki/Escopete", "spa")
    assert rows[0]["text"].startswith("Escopete - Biquipedia, a enciclopedia libre\nIr al contenido\n")
