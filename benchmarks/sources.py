"""Readers over 100 MB and more of real input each, with the counts of a peer beside theirs, and the rates of both.

    python -m benchmarks.sources SHARED|FOLDER [KIND ...]

SHARED is the folder of real data. `warc`: pages of three kinds (`benchmarks/filters_pages.py`), against warcio; `html`:
the reviewed pages of WCXB as files; `jsonl`: the texts in eighteen files, against gzip and json; `parquet`: the same as
DuckDB exports them, against pyarrow; `repository`: an archive by GNU tar of two large Python packages, against tarfile.

Where they are named, a FOLDER in the place of SHARED is read throughout: `books`, its EPUBs, against zipfile; `arxiv`,
its archives of papers, against tarfile; `stackexchange`, its Posts.xml under any name, against an XML parser.

Pages are extracted by resiliparse. Rates are MB of input, decompressed, a CPU second, of ours with all processes.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import duckdb
import psutil
import pyarrow.parquet as pq
from warcio.archiveiterator import ArchiveIterator

from benchmarks import filters_pages
from data_specs.sources import (
    ArxivSource,
    BookSource,
    HtmlSource,
    JsonlSource,
    ParquetSource,
    RepositorySource,
    SourceSettings,
    StackExchangeSource,
    WarcSource,
)
from data_specs.stages import Extract
from tasks.sources import reader

PAGES = 1800
PACKAGES = ("transformers", "torch")
COMPILED = ("*.so", "*.so.*", "*.a", "*.pyc", "bin")

Made = tuple[SourceSettings, Callable[[], tuple[int, int]]]
"""A source, and what counts its records and bytes with a peer."""


def warc(shared: Path, to: Path) -> Made:
    filters_pages.write(shared, to, PAGES)

    def count() -> tuple[int, int]:
        records = size = 0
        for path in sorted(to.glob("*.warc.gz")):
            with path.open("rb") as file:
                for record in ArchiveIterator(file):
                    records += record.rec_type == "response"
                    size += len(record.content_stream().read())
        return records, size

    return WarcSource(kind="warc", paths=f"{to}/*.warc.gz"), count


def html(shared: Path, to: Path) -> Made:
    with tarfile.open(shared / "html" / "wcxb_dev_1497.tar.xz") as tar:
        tar.extractall(to, filter="data")

    def count() -> tuple[int, int]:
        sizes = [path.stat().st_size for path in to.rglob("*.html")]
        return len(sizes), sum(sizes)

    return HtmlSource(kind="html", paths=f"{to}/**/*.html"), count


def jsonl(shared: Path, _: Path) -> Made:
    def count() -> tuple[int, int]:
        records = size = 0
        for path in sorted((shared / "text").glob("*.jsonl.gz")):
            with gzip.open(path) as file:
                for line in file:
                    records, size = records + bool(json.loads(line)["text"].strip()), size + len(line)
        return records, size

    return JsonlSource(kind="jsonl", paths=f"{shared}/text/*.jsonl.gz"), count


def parquet(shared: Path, to: Path) -> Made:
    columns = "{id: 'varchar', text: 'varchar', lang: 'varchar', domain: 'varchar'}"
    files = f"read_json('{shared}/text/*.jsonl.gz', format='newline_delimited', columns={columns})"
    duckdb.sql(f"copy (select * from {files}) to '{to}/texts.parquet' (compression zstd)")

    def count() -> tuple[int, int]:
        with pq.ParquetFile(to / "texts.parquet") as file:
            found = [text for text in file.read(["text"])["text"].to_pylist() if text and text.strip()]
        return len(found), sum(len(text.encode()) for text in found)

    return ParquetSource(kind="parquet", paths=f"{to}/*.parquet"), count


def repository(_: Path, to: Path) -> Made:
    found = [find_spec(name) for name in PACKAGES]
    folders = [Path(str(spec.origin)).parent for spec in found if spec]
    left_out = [f"--exclude={pattern}" for pattern in COMPILED]
    command = ["tar", "-cf", str(to / "packages.tar"), *left_out, "-C", str(folders[0].parent)]
    subprocess.run([*command, *(folder.name for folder in folders)], check=True)

    def count() -> tuple[int, int]:
        with tarfile.open(to / "packages.tar") as tar:
            sizes = [member.size for member in tar if member.isreg()]
        return len(sizes), sum(sizes)

    return RepositorySource(kind="repository", paths=f"{to}/*.tar"), count


def books(folder: Path, _: Path) -> Made:
    def count() -> tuple[int, int]:
        found = sorted(folder.rglob("*.epub"))
        for path in found:
            with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
                for each in archive.infolist():
                    if each.filename.endswith(("html", "htm")):
                        archive.read(each)
        return len(found), sum(path.stat().st_size for path in found)

    return BookSource(kind="books", paths=f"{folder}/**/*.epub"), count


def arxiv(folder: Path, _: Path) -> Made:
    def count() -> tuple[int, int]:
        records = size = 0
        for path in sorted(folder.rglob("*.tar")):
            with tarfile.open(path) as papers:
                for paper in papers:
                    with tarfile.open(fileobj=papers.extractfile(paper)) as archive:
                        records, size = records + bool(archive.getnames()), size + paper.size
        return records, size

    return ArxivSource(kind="arxiv", paths=f"{folder}/**/*.tar"), count


def stackexchange(folder: Path, _: Path) -> Made:
    """An answer is of its question's record."""

    def count() -> tuple[int, int]:
        records = size = 0
        for path in sorted(folder.rglob("*.xml")):
            rows = [element.attrib for _, element in ElementTree.iterparse(path) if element.tag == "row"]
            asked = {row["Id"] for row in rows if row["PostTypeId"] == "1"}
            answers = sum(row["PostTypeId"] == "2" and row["ParentId"] in asked for row in rows)
            records, size = records + len(rows) - answers, size + path.stat().st_size
        return records, size

    return StackExchangeSource(kind="stackexchange", paths=f"{folder}/**/*.xml"), count


KINDS = {"warc": warc, "html": html, "jsonl": jsonl, "parquet": parquet, "repository": repository}
OF_A_FOLDER = {"books": books, "arxiv": arxiv, "stackexchange": stackexchange}


def spent() -> float:
    """CPU seconds of this process and its children."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def measure(kind: str, shared: Path, to: Path) -> None:
    settings, count = (KINDS | OF_A_FOLDER)[kind](shared, to)
    before = spent()
    records, size = count()
    peer = spent() - before
    read = reader(kind, settings, Extract(extractor="resiliparse", metadata="stated"))
    told, documents = Counter[str](), 0
    before = spent()
    try:
        for shard in read.shards(None)[0]:
            found = read.read(shard)
            documents += found.documents.num_rows
            told["in"] += found.ledger["in"]
            for outcome in ("dropped", "quarantined"):
                told.update(found.ledger[outcome])
        ours = spent() - before
    finally:
        read.close()
    seen = told.pop("in")
    print(f"{kind}: {size / 1e6:,.0f} MB; records {seen:,}, the peer's {records:,}; documents {documents:,}", end="; ")
    print(f"{size / 1e6 / ours:,.0f} MB/s, the peer counts at {size / 1e6 / peer:,.0f}")
    print("   ", dict(told.most_common()), flush=True)


def main(shared: str, *kinds: str) -> None:
    for kind in kinds or KINDS:
        with TemporaryDirectory(prefix="sluice-sources-") as folder:
            started = time.monotonic()
            measure(kind, Path(shared).resolve(), Path(folder))
            print(f"    {time.monotonic() - started:.0f} s by the clock", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
