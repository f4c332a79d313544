"""Folders of HTML files: extracted as the same pages are from a WARC file."""

from __future__ import annotations

from pathlib import Path

from data_specs.extract import Extract
from data_specs.sources import HtmlSource
from tasks.sources import reader
from tests.tasks.sources.test_sources import PAGE, archive, read_all, warc, words

HEAD = "<!doctype html><html><head><meta charset=utf-8><title>Page {n}</title></head><body><article><p>"


def page(number: int) -> bytes:
    return (HEAD.format(n=number) + "</p><p>".join([words(60, number)] * 2) + "</p></article></body></html>").encode()


def test_files_become_documents_with_addresses_or_are_counted_out(tmp_path: Path) -> None:
    pages = {f"guide/{n}.html": page(n) for n in range(6)}
    others = {"empty.html": b" \n", "image.html": b"\x89PNG\r\n\x1a\n" + bytes(50), "large.html": page(7) + bytes(9999)}
    for name, body in (pages | others).items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    paths, base = str(tmp_path / "site" / "**" / "*.html"), "https://example.org/docs/"
    source = reader("site", HtmlSource(kind="html", paths=paths, base=base, groups=1), Extract(largest=5000))
    try:
        [shard] = source.shards(None)[0]
        read = source.read(shard)
    finally:
        source.close()
    assert read.ledger["dropped"] == {"empty": 1, "not_html": 1, "too_large": 1}
    assert read.documents["url"].to_pylist() == [f"https://example.org/docs/guide/{n}.html" for n in range(6)]
    assert read.documents["title"].to_pylist() == [f"Page {n}" for n in range(6)]
    assert all(words(60, n) in text for n, text in enumerate(read.documents["text"].to_pylist()))
    rows = read.documents.to_pylist()
    assert [source.reread(row) for row in rows] == [*pages.values()]


def test_a_page_has_the_text_that_it_has_in_a_warc_file(tmp_path: Path) -> None:
    texts = [f"{words(40, n)}. 你好，世界。" for n in range(3)]
    (tmp_path / "a.warc.gz").write_bytes(archive([*texts]))
    [crawled] = read_all(warc(tmp_path / "a.warc.gz"))
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.html").write_text(PAGE.format(text))
    source = reader("site", HtmlSource(kind="html", paths=str(tmp_path / "*.html"), groups=1), Extract())
    [folder] = read_all(source)
    assert sorted(folder.documents["text"].to_pylist()) == sorted(crawled.documents["text"].to_pylist())
    assert folder.documents["url"].null_count == 3


def test_a_page_in_utf_16_is_a_page(tmp_path: Path) -> None:
    for number, codec in enumerate(("utf-16", "utf-16-be")):
        mark = "\ufeff" if codec == "utf-16-be" else ""
        (tmp_path / f"{number}.html").write_bytes((mark + page(number).decode()).encode(codec))
    source = reader("site", HtmlSource(kind="html", paths=str(tmp_path / "*.html"), groups=1), Extract())
    [folder] = read_all(source)
    assert folder.documents["title"].to_pylist() == ["Page 0", "Page 1"]
    assert folder.ledger["dropped"] == {}
