"""Reads mutated records through the readers of sources, and checks what may not depend on what a stranger writes.

    python -m tests.tasks.sources.mutated ORIGIN FIRST END

reads the cases FIRST to END (excluded) of an origin of records (`built` by the tests, a kind of DUMPS, or the path of
the folder of real data), and writes two lines of JSON for each: what it is before it is read, and then what was found.
Memory is that of the whole process at the peak of a case (VmHWM), with the interpreter and all that was imported.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import unicodedata
import zlib
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa

from data_specs.extract import Extract
from data_specs.sources import (
    ArcSource,
    ArrowSource,
    CsvSource,
    JsonlSource,
    MediawikiSource,
    PdfSource,
    SourceSettings,
    StackExchangeSource,
    WarcSource,
    WetSource,
)
from tasks.extraction import pdf
from tasks.extraction.child import Child
from tasks.sources import Read, Reader, archive, reader
from tasks.sources.archive import Record
from tasks.sources.pdf import PdfReader
from tasks.sources.warc import WarcReader
from tests.tasks.sources import dumps, mutations, pdfs, test_arc, test_wet
from tests.tasks.sources.mutations import Page
from tests.tasks.sources.packings import packed
from tests.tasks.sources.test_sources import archive as written
from tests.tasks.sources.test_sources import words

CRASH = 6 * 2**30
"""Bytes of address space, so that a reader without bounds ends and not the machine."""
REAL = ("resiliparse-warcfile", "whirlwind", "aut-example", "dolma-0000", "pywb-iana", "ukwa-wpmain")
LINES = ("labels/weborganizer_dclm_pages", "text/zh_tech_news_lctt", "text/zh_hant_wiki_drcd", "text/en_brown_15genres")
NULL = ("url", "title", "date", "author", "site")
_FEW, _LONGEST = 40, 200_000
"""Records of a real file, and bytes of one, at most."""
_TAG = re.compile("<[^<>]*>")

DUMPS: dict[str, tuple[type[SourceSettings], list[bytes]]] = {
    "mediawiki": (MediawikiSource, dumps.wiki()),
    "stackexchange": (StackExchangeSource, dumps.posts()),
    "arc": (ArcSource, [test_arc.FILE, *test_arc.RECORDS, b"\n"]),
    "pdf": (
        PdfSource,
        pdfs.parts(
            [[f"Line {line} of page {page}, (with) signs." for line in range(9)] for page in range(3)], "A title"
        ),
    ),
    "wet": (WetSource, [*dumps.parted(test_wet.wet(test_wet.TEXTS, compressed=False)), b"\n"]),
    "arrow": (ArrowSource, dumps.arrow(pa.ipc.new_stream)),
    "csv": (CsvSource, dumps.csv()),
    "arrow-file": (ArrowSource, dumps.arrow(pa.ipc.new_file)),
}
"""Kinds of large files: their settings, and the parts that one is put together from. What follows a hyphen tells
files of one kind apart."""


class Stripped(Child):
    """In the place of the extraction, which has a process of its own: what is left of a page without its tags."""

    def _attempt(self, message: bytes) -> dict[str, Any] | None:
        html = pickle.loads(message)["html"]
        answer: dict[str, Any] = orjson.loads(orjson.dumps({"text": _TAG.sub("", html), "title": html[:9000]}))
        return answer


class Here(Child):
    """The extraction of PDF files in this process, whose time and memory are measured; a crash ends it."""

    def _attempt(self, message: bytes) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = orjson.loads(orjson.dumps(pdf.extract(**pickle.loads(message))))
        except Exception:  # as the child answers
            return {"reason": "parser_error"}
        return answer


def records(origin: str) -> tuple[list[bytes], list[bytes]]:
    """Records of WARC with an HTTP response, and lines of JSON."""
    if origin in DUMPS:
        return [], []
    if origin == "built":
        made = written([words(60 + number, number) for number in range(8)], compressed=False)
        parts = dumps.parted(made)
        rows = [{"text": words(50, number), "url": f"http://example.org/{number}", "id": number} for number in range(8)]
        rows += [{"text": "江河的水流过砾石。" * 20, "url": "http://例子/", "tags": ["水", None, 1.5]}]
        return _responses(parts), [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    pages, lines = [], []
    for name in REAL:
        with open(Path(origin) / "warc" / f"{name}.warc.gz", "rb") as file:
            found = archive.records(file, 0, sys.maxsize, _LONGEST)
            places = [(item.offset, item.span) for item in islice(found, _FEW) if isinstance(item, Record)]
            pages += [zlib.decompress(_at(file, *place), 31) for place in places]
    for name in LINES:
        with gzip.open(Path(origin) / f"{name}.jsonl.gz") as file:
            lines += [line.rstrip() for line in islice(file, _FEW) if len(line) < _LONGEST]
    return _responses(pages), lines


def _at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _responses(parts: list[bytes]) -> list[bytes]:
    return [part for part in parts if b"WARC-Type: response" in part[:2000]]


def case(seed: int, origin: str, pages: list[bytes], lines: list[bytes]) -> tuple[str, bytes, str]:
    """The name of a file, its bytes, and what was done to them."""
    rng = random.Random(seed)
    if origin in DUMPS:
        return _dump(rng, origin)
    number, done, made = rng.choice([1, 1, 2, 4]), [], []
    kind = "warc" if rng.random() < 0.6 else "jsonl"
    for _ in range(number):
        if kind == "jsonl":
            line = rng.choice(lines)
            if rng.random() < 0.8:
                line, name = mutations.row(rng, line)
                done.append(name)
            made.append(line + b"\n")
            continue
        page = Page.of(rng.choice(pages))
        for mutation in rng.sample(mutations.PAGE, rng.choice([0, 1, 1, 2, 3])):
            mutation(rng, page)
            done.append(mutation.__name__)
        made.append(page.data())
    data, suffix, how = packed(rng, made)
    return f"{kind}.{suffix}".rstrip("."), data, f"{kind} {suffix or 'plain'} {how}: {', '.join(done) or 'nothing'}"


def _dump(rng: random.Random, kind: str) -> tuple[str, bytes, str]:
    head, *parts, end = DUMPS[kind][1]
    made, done = [], list[str]()
    for part in rng.sample(parts, rng.choice([1, 2, 4])):
        mutation = rng.choice([None, mutations.flipped, _grown, _doubled])
        made.append(mutation(rng, part) if mutation else part)
        done.append(mutation.__name__ if mutation else "nothing")
    if rng.random() < 0.1:
        head = mutations.flipped(rng, head)
    data, suffix, how = packed(rng, [head, *made, end])
    return f"{kind}.xml.{suffix}".rstrip("."), data, f"{kind} {suffix or 'plain'} {how}: {', '.join(done)}"


def _grown(rng: random.Random, part: bytes) -> bytes:
    at, more = rng.randrange(len(part)), mutations.filler(rng)
    more = more if rng.random() < 0.3 else more.replace("<", "&lt;").replace("\0", "")
    return part[:at] + more.encode(errors="ignore") + part[at:]


def _doubled(rng: random.Random, part: bytes) -> bytes:
    """A piece between two tags, many times over."""
    edges = [found.start() for found in re.finditer(rb"[<{\[ ]", part)]
    start, end = sorted(rng.sample(edges, 2))
    return part[:start] + part[start:end] * rng.choice([2, 100, 2000]) + part[end:]


def source(path: Path, shard: int = 2**40) -> Reader:
    if kind := DUMPS.get(path.name.partition(".")[0]):
        sized = {"shard": shard} if "shard" in kind[0].model_fields else {"groups": 1}
        settings = kind[0].model_validate(
            {"kind": path.name.partition(".")[0].partition("-")[0], "paths": str(path), **sized}
        )
        return _stripped(reader("web", settings, Extract()))
    if path.name.startswith("jsonl"):
        return reader("web", JsonlSource(kind="jsonl", paths=str(path), shard=shard), Extract())
    found = reader("web", WarcSource(kind="warc", paths=str(path), shard=shard), Extract())
    return _stripped(found)


def _stripped(found: Reader) -> Reader:
    if isinstance(found, WarcReader):
        found._pages._child = Stripped("", 1, 1, 1)
    if isinstance(found, PdfReader):
        found._child = Here("", 1, 1, 1)
    return found


def read_all(found: Reader) -> list[Read]:
    return [found.read(shard) for shard in found.shards(None)[0]]


def check(found: Reader, read: Read) -> None:
    """What holds of documents whatever they were made of. That the ledger balances, `Read` itself demands."""
    assert read.documents.schema.equals(found.writes)
    read.documents.validate(full=True)
    rows = read.documents.to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["text"]
        assert {name for name, value in row.items() if value is None} <= {*NULL, *found.own}
        for value in (row["text"], row["title"] or ""):
            assert unicodedata.is_normalized("NFC", value)
            assert "\0" not in value
    for row in rows[:1] + rows[-1:]:  # a compressed file is read from its beginning each time
        assert hashlib.sha256(found.reread(row)).hexdigest() == row["payload"]


def peak() -> int:
    """Bytes of resident memory, at the peak since `forget`."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def tried(path: Path, cut: bool) -> dict[str, Any]:
    """What reading a file costs, and `fault`, what is wrong with what was read; `cut`: whether to read it in ranges,
    too."""
    forget()
    begun = time.process_time()
    found = source(path)
    try:
        reads = read_all(found)
        answer = {"cpu": time.process_time() - begun, "peak": peak(), "in": sum(read.ledger["in"] for read in reads)}
        for read in reads:
            check(found, read)
        if cut and path.stat().st_size > 4:
            ranges = read_all(source(path, path.stat().st_size // 4))
            rows = [[row for read in some for row in read.documents.to_pylist()] for some in (reads, ranges)]
            assert rows[0] == rows[1], "other documents in ranges of a quarter"
    except Exception as error:  # whichever it is, it is told with its case
        return {"fault": traceback.format_exc(limit=-3)[-1000:] or repr(error)}
    return {**answer, "fault": ""}


def main(origin: str, first: str, end: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (CRASH, CRASH))
    pages, lines = records(origin)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(int(first), int(end)):
            name, data, done = case(seed, origin, pages, lines)
            path = Path(folder) / name
            path.write_bytes(data)
            del data
            print(json.dumps({"seed": seed, "done": done, "size": path.stat().st_size}), flush=True)
            print(json.dumps(tried(path, cut=seed % 4 == 0)), flush=True)
            path.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
