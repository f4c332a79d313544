"""Admission: what refusing pages by the language of their raw text saves, and what it costs in good ones.

`python -m benchmarks.admission [FILE ...]`: WARC files, or archives (.tar.xz) of HTML pages; by default the demo's
crawl. They are read twice, without refusing anything and with EXPRESSION, which refuses pages that are surely neither
English nor Chinese; CPU seconds are those of this process and of its extracting child. Good is a document whose text,
as extracted, is in one of the two with a probability above .65, which is the demo's rule. Of these 99 % should stay:
99.8 do of 1,898 ordinary web pages, 99.2 of the demo's 1,912, of which some are in another language but for their first
lines. The first SHOWN that do not are named, with what their raw and their extracted text were taken for.
"""

from __future__ import annotations

import resource
import sys
import tarfile
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from data_specs.extract import Extract
from data_specs.sources import HtmlSource, WarcSource
from tasks.filters.language import Language
from tasks.sources import reader

EXPRESSION = "raw_language not in ('zh', 'en') and raw_language_score > 0.9"
FLOOR = 0.99
SHOWN = 10


class Reading:
    """What reading sources came to."""

    def __init__(self) -> None:
        self.records = self.documents = self.refused = 0
        self.seconds = 0.0
        self.good: dict[bytes, tuple[str, str]] = {}
        """Id of good documents; their address, or file, and the language of their text."""
        self.why: dict[str, str] = {}
        """Address, or file, of a refused page, and what its raw text was taken for."""

    def add(self, source: Any, language: Language) -> None:
        """Read a source."""
        before = _cpu()
        reads = [source.read(shard) for shard in source.shards(None)[0]]
        source.close()
        self.seconds += _cpu() - before
        for read in reads:
            self.records += read.ledger["in"]
            self.documents += read.documents.num_rows
            told = read.documents.select(["id", "url", "file"])
            for name, column in zip(
                Language.writes.names, language(read.documents.select(["text"])).columns, strict=True
            ):
                told = told.append_column(name, column)
            known = pc.is_in(told["language"], pa.array(["zh", "en"]))
            good = pc.and_(known, pc.fill_null(pc.greater(told["language_score"], 0.65), False))
            for row in told.filter(good).to_pylist():
                self.good[row["id"]] = row["url"] or row["file"], f"{row['language']} {row['language_score']:.2f}"
            for row in read.refused.filter(pc.equal(read.refused["reason"], "foreign_page")).to_pylist():
                self.refused += 1
                self.why[row["url"] or row["file"]] = f"{row['raw_language']} {row['raw_language_score']:.2f}"


def _cpu() -> float:
    """CPU seconds of this process and of children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def sources(files: list[str], folder: Path, refuse: dict[str, str]) -> list[Any]:
    """A reader for each file."""
    found: list[Any] = []
    for number, file in enumerate(files):
        if not file.endswith(".tar.xz"):
            found.append(reader("web", WarcSource(kind="warc", paths=file, refuse=refuse), Extract()))
            continue
        pages = folder / str(number)
        if not pages.exists():
            with tarfile.open(file) as tar:
                tar.extractall(pages, (each for each in tar if each.name.endswith((".html", ".htm"))), filter="data")
        settings = HtmlSource(kind="html", paths=f"{pages}/**/*.htm*", groups=1, refuse=refuse)
        found.append(reader("web", settings, Extract()))
    return found


def main(*files: str) -> int:
    """Read twice and compare; returns 1 where fewer good documents stay than should."""
    language = Language(stages.Language())
    language.setup()
    off, on = Reading(), Reading()
    with TemporaryDirectory(prefix="sluice-") as folder:
        for reading, refuse in ((off, {}), (on, {"foreign_page": EXPRESSION})):
            for source in sources([*files] or sorted(glob("demo/crawl/*.warc.gz")), Path(folder), refuse):
                reading.add(source, language)
    lost = [told for key, told in off.good.items() if key not in on.good]
    print(f"{off.records:,} records, {off.documents:,} documents of which {len(off.good):,} are good")
    print(f"off: {off.seconds:.1f} CPU s; on: {on.seconds:.1f} CPU s, {1 - on.seconds / off.seconds:.1%} less")
    print(f"refused: {on.refused:,}, {on.refused / off.records:.1%} of the records, as {EXPRESSION}")
    print(f"good ones that are refused: {len(lost)}, {len(lost) / max(1, len(off.good)):.2%}")
    for name, extracted in sorted(lost)[:SHOWN]:
        print(f"    raw {on.why.get(name, 'unknown')}, extracted {extracted}: {name}")
    return int(len(lost) > (1 - FLOOR) * len(off.good))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
