"""A bit flipped in a compressed file of any kind: a document that is kept is the true one, or is absent and counted.

Inflating tells damage late or not at all, and the checksum stands at a member's end, so what was read of a member
before may be wrong.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from data_specs.extract import Extract
from data_specs.sources import JsonlSource, RepositorySource
from tasks.sources import Reader, reader
from tests.tasks.sources import dumps, test_arc, test_mediawiki, test_sources, test_stackexchange, test_wet

Case = tuple[str, bytes, Callable[[Path], Reader]]

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
RANDOM = random.Random(5)
WORDS = [
    f"{one}{other}" for one in ("gra", "go", "wa", "ri", "sto") for other in ("vel", "ld", "ter", "ver", "ne", "sh")
]
TEXTS = [" ".join(RANDOM.choices(WORDS, k=80)) for _ in range(400)]


def wiki(number: int) -> list[bytes]:
    pages = [dumps.page(f"River {place}", text) for place, text in enumerate(TEXTS[:number])]
    return [part.encode() for part in (dumps.HEAD, *pages, "</mediawiki>\n")]


def posts() -> bytes:
    asked = [dumps.post(n, 1, f"<p>{text}</p>", Title=f"T {n}") for n, text in enumerate(TEXTS[:150], 1)]
    told = [dumps.post(1000 + n, 2, f"<p>{text}</p>", ParentId=n, Score=1) for n, text in enumerate(TEXTS[150:300], 1)]
    return "".join(['<?xml version="1.0"?>\n<posts>\n', *asked, *told, "</posts>\n"]).encode()


def arc() -> bytes:
    found = [test_arc.FILE]
    for number, text in enumerate(TEXTS[:60]):
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + test_sources.PAGE.format(text).encode()
        found.append(b"http://a.org/%d 192.0.2.1 20080430204826 text/html %d\n%s\n" % (number, len(block), block))
    return b"".join(found)


def jsonl(path: Path) -> Reader:
    return reader("web", JsonlSource(kind="jsonl", paths=str(path)), Extract())


def repository(path: Path) -> Reader:
    return reader("code", RepositorySource(kind="repository", paths=str(path)), Extract())


def code() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number, text in enumerate(TEXTS[:60]):
            lines = [f"    {word} = {word} + 1" for word in text.split()]
            data = "\n".join([f"def wash_{number}(gravel):", *lines, ""]).encode()
            member = tarfile.TarInfo(f"river/wash_{number}.py")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def lines() -> bytes:
    return "".join(f'{{"text": "{text}"}}\n' for text in TEXTS).encode()


def pieces() -> bytes:
    head, *pages, end = wiki(400)
    return b"".join(map(bz2.compress, [head, *(b"".join(pages[at : at + 100]) for at in range(0, 400, 100)), end]))


CASES: dict[str, Callable[[], Case]] = {
    **{f"jsonl {kind}": lambda kind=kind: (f"a.jsonl.{kind}", PACK[kind](lines()), jsonl) for kind in PACK},
    **{
        f"mediawiki {kind}": lambda kind=kind: (f"a.xml.{kind}", PACK[kind](b"".join(wiki(400))), test_mediawiki.source)
        for kind in PACK
    },
    "mediawiki in pieces": lambda: ("a.xml.bz2", pieces(), test_mediawiki.source),
    **{
        f"stackexchange {kind}": lambda kind=kind: (f"P.xml.{kind}", PACK[kind](posts()), test_stackexchange.source)
        for kind in PACK
    },
    **{
        f"wet {kind}": lambda kind=kind: (f"a.wet.{kind}", PACK[kind](test_wet.wet(TEXTS, False)), test_wet.source)
        for kind in PACK
    },
    **{f"repository {kind}": lambda kind=kind: (f"a.tar.{kind}", PACK[kind](code()), repository) for kind in PACK},
    "wet, a member a record": lambda: ("a.wet.gz", test_wet.wet(TEXTS), test_wet.source),
    "warc": lambda: ("a.warc.gz", PACK["gz"](test_sources.archive([*TEXTS[:60]], False)), test_sources.warc),
    "arc": lambda: ("a.arc.gz", PACK["gz"](arc()), test_arc.source),
}


@pytest.mark.parametrize("name", CASES)
def test_a_kept_document_is_the_true_one_or_is_absent_and_counted(tmp_path: Path, name: str) -> None:
    file, data, source = CASES[name]()
    true, counts = documents(tmp_path / file, data, source)
    assert len(true) in (60, 150, 400)
    assert not counts
    rng, flips = random.Random(name), 3 if "arc" in name else 6
    places = [rng.randrange(len(data)) for _ in range(flips)] + [len(data) - rng.randrange(9, 60) for _ in range(flips)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        kept, counts = documents(tmp_path / file, bytes(damaged), source)
        assert not [row for each, row in kept.items() if true.get(each) != row], f"byte {place}"
        assert len(kept) == len(true) or counts


def documents(path: Path, data: bytes, source: Callable[[Path], Reader]) -> tuple[dict[bytes, Any], Counter[str]]:
    """Address or id -> text of the documents of a file, and how many records are quarantined for which reason."""
    path.write_bytes(data)
    reads = test_sources.read_all(source(path))
    counts = sum((Counter(read.ledger["quarantined"]) for read in reads), Counter[str]())
    columns = ("id", "url", "title", "text")
    return {row["id"]: row for read in reads for row in read.documents.select(columns).to_pylist()}, counts


@pytest.mark.parametrize("kind", PACK)
def test_of_posts_that_break_off_none_is_kept_as_its_answers_may_be_missing(tmp_path: Path, kind: str) -> None:
    data = PACK[kind](posts())
    kept, counts = documents(tmp_path / f"Posts.xml.{kind}", data[: len(data) - 200], test_stackexchange.source)
    assert not kept
    assert set(counts) == {"truncated"}


def test_of_a_file_that_breaks_off_what_is_before_is_kept(tmp_path: Path) -> None:
    for kind in ("gz", "xz"):
        data = PACK[kind](b"".join(wiki(400)))
        kept, counts = documents(tmp_path / f"a.xml.{kind}", data[: len(data) // 2], test_mediawiki.source)
        assert 100 < len(kept) < 300
        assert counts == {"truncated": 1}
