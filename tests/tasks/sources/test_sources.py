"""Sources: WARC records however files are cut or broken, listings near and far, fingerprints, and text."""

from __future__ import annotations

import gzip
import http.server
import io
import os
import random
import re
import threading
import time
import tracemalloc
import unicodedata
import zlib
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from data_specs.extract import Extract
from data_specs.sources import JsonlSource, WarcSource
from tasks.engine.reading import LedgerError
from tasks.extraction import http as web
from tasks.sources import Part, Read, Reader, SourceError, reader
from tasks.sources.archive import Fault, Record, records
from tasks.sources.base import Records
from tasks.sources.text import normalise

LIMIT = 2**24
PAGE = "<!doctype html><html><head><title>Sluices</title></head><body><article><p>{}</p></article></body></html>"
COUNTS = {
    "aut-example": 299,
    "dolma-0000": 22,
    "dolma-0001": 15,
    "pywb-iana": 48,
    "ukwa-wpmain": 70,
    "resiliparse-clueweb-quirk": 29,
    "resiliparse-warcfile": 16,
    "whirlwind": 1,
}
"""Responses in the shared WARC files, as their list of sources states."""


def words(number: int, seed: int = 0) -> str:
    return " ".join(
        random.Random(seed).choices("gravel gold water box river stone wash channel riffle".split(), k=number)
    )


def archive(pages: list[bytes | str], compressed: bool = True) -> bytes:
    """A WARC by warcio: a warcinfo, then request, response and revisit for each page (HTTP bodies, or whole blocks)."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=compressed)
    writer.write_record(writer.create_warcinfo_record("test.warc.gz", {"software": "warcio"}))
    for number, page in enumerate(pages):
        url = f"http://example.org/{number}"
        head = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
        asked = StatusAndHeaders("GET / HTTP/1.1", [("Host", "example.org")], is_http_request=True)
        dated = {"WARC-Date": f"2021-03-{1 + number % 28:02}T00:00:00Z"}
        writer.write_record(writer.create_warc_record(url, "request", http_headers=asked))
        if isinstance(page, str):
            page = PAGE.format(page).encode()
            body, headers = io.BytesIO(page), head
        else:
            body, headers = io.BytesIO(page), None
        record = writer.create_warc_record(
            url,
            "response",
            payload=body,
            http_headers=headers,
            warc_headers_dict=dated,
            length=len(page) if not headers else None,
        )
        writer.write_record(record)
        writer.write_record(writer.create_revisit_record(url, "sha1:AAAA", url, "2020-01-01T00:00:00Z"))
    return out.getvalue()


def found(data: bytes, start: int = 0, end: int | None = None) -> list[Record | Fault]:
    return list(records(io.BytesIO(data), start, len(data) if end is None else end, LIMIT))


def essence(items: list[Record | Fault]) -> list[Any]:
    return [item.reason if isinstance(item, Fault) else (item.offset, item.url, item.block) for item in items]


def members(data: bytes) -> list[tuple[int, int]]:
    """Start and end of every gzip member, by zlib alone."""
    places, start = [], 0
    while start < len(data):
        stream = zlib.decompressobj(31)
        stream.decompress(data[start:])
        end = len(data) - len(stream.unused_data)
        places.append((start, end))
        start = end
    return places


def oracle(path: Path) -> list[tuple[str, bytes, str | None]]:
    """(url, payload as stored, status) of every response, read by warcio; of what is not HTTP, the block."""
    with path.open("rb") as file:
        return [
            (
                record.rec_headers["WARC-Target-URI"],
                record.raw_stream.read(),
                record.http_headers and record.http_headers.get_statuscode(),
            )
            for record in ArchiveIterator(file)
            if record.rec_type == "response"
        ]


def warc(path: Path | str, **settings: Any) -> Reader:
    return reader("web", WarcSource(kind="warc", paths=str(path), **settings), Extract())


def read_all(source: Reader) -> list[Read]:
    shards, _ = source.shards(None)
    try:
        return [source.read(shard) for shard in shards]
    finally:
        source.close()


# -- WARC --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTS)
def test_every_response_of_real_archives_is_found_as_warcio_finds_it(shared: Path, name: str) -> None:
    path = shared / "warc" / f"{name}.warc.gz"
    ours = [item for item in found(path.read_bytes()) if isinstance(item, Fault) or item.kind == "response"]
    theirs = oracle(path)
    assert len(ours) == len(theirs) == COUNTS[name]
    for record, (url, payload, status) in zip(ours, theirs, strict=True):
        assert isinstance(record, Record)
        assert record.url == url.strip("<>")
        response = web.parse(record.block)
        assert (str(response.status) if response else None) == status
        assert (response.payload if response else record.block) == payload


def test_a_truncated_real_archive_is_one_quarantined_record(shared: Path) -> None:
    (read,) = read_all(warc(shared / "warc" / "resiliparse-clipped.warc.gz"))
    assert read.ledger == {
        **{"in": 1, "dropped": {}, "quarantined": {"truncated": 1}},
        "files": {"resiliparse-clipped.warc.gz": {"truncated": 1}},
    }


@pytest.mark.parametrize("name", ["pywb-iana", "resiliparse-clueweb-quirk", "aut-example"])
def test_any_split_of_a_real_archive_gives_the_records_of_the_whole(shared: Path, name: str) -> None:
    data = (shared / "warc" / f"{name}.warc.gz").read_bytes()
    whole = essence(found(data))
    draw = random.Random(name)
    for pieces in (2, 3, 17):
        bounds = [0, *sorted(draw.sample(range(1, len(data)), pieces - 1)), len(data)]
        parts = [essence(found(data, start, end)) for start, end in pairwise(bounds)]
        assert list(chain.from_iterable(parts)) == whole


@pytest.fixture(scope="module")
def nested() -> bytes:
    """An archive with a broken member, and with archives inside pages, stored so that their members show through."""
    inner = archive([words(50, seed) for seed in range(3)])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/warc\r\n\r\n"
    pages = [words(300, 1), head + inner, words(200, 2), head + inner + inner, words(100, 3), words(90, 4)]
    packed = [gzip.compress(archive([page], compressed=False), 0) for page in pages]
    packed[4] = packed[4][:10] + b"\xff" + packed[4][11:]
    return b"".join(packed)


@pytest.mark.slow
def test_any_split_gives_the_records_of_the_whole_with_archives_inside_and_a_broken_member(nested: bytes) -> None:
    whole = essence(found(nested))
    assert [item if isinstance(item, str) else "page" for item in whole] == [*["page"] * 4, "unreadable", "page"]
    assert nested.count(b"\x1f\x8b\x08") == 6 + 3 * 10  # the inner members do show
    for cut in range(1, len(nested), 7):
        assert essence(found(nested, 0, cut)) + essence(found(nested, cut)) == whole


def test_a_cut_anywhere_keeps_every_record_before_it() -> None:
    data = archive([words(60, seed) for seed in range(4)])
    whole, places = found(data), members(data)
    for cut in random.Random(5).sample(range(1, len(data)), 150):
        items = found(data[:cut])
        complete = [item for item in whole if isinstance(item, Record) and item.offset + item.span <= cut]
        assert essence(items)[: len(complete)] == essence(complete)
        assert essence(items)[len(complete) :] == ([] if any(cut == end for _, end in places) else ["truncated"])


def test_a_broken_member_costs_itself_alone() -> None:
    data = archive([words(60, seed) for seed in range(5)])
    whole = essence(found(data))
    for number, item in enumerate(whole):
        damaged = bytearray(data)
        damaged[item[0] + 200] ^= 0x55
        assert essence(found(bytes(damaged))) == [*whole[:number], "unreadable", *whole[number + 1 :]]


def test_plain_and_singly_compressed_archives_give_the_same_pages() -> None:
    pages: list[bytes | str] = [words(60, seed) for seed in range(5)]
    plain = archive(pages, compressed=False)
    blocks = [item.block for item in found(archive(pages)) if isinstance(item, Record)]
    for data in (plain, gzip.compress(plain)):
        items = found(data)
        assert [item.block for item in items if isinstance(item, Record)] == blocks
        assert len({(item.offset, item.index) for item in items if isinstance(item, Record)}) == len(blocks)
    broken = plain.replace(b"Content-Length: ", b"Content-Length: x", 5)
    assert essence(found(broken))[:5] == ["no_length"] * 5
    assert [item.block for item in found(broken) if isinstance(item, Record)] == blocks[1:]
    assert essence(found(plain[: len(plain) - 700]))[-1] == "truncated"


@pytest.mark.parametrize(
    "data", [b"garbage" * 99, gzip.compress(b"not a WARC" * 99), b"\x1f\x8b\x08", b"WARC/1.0 what\r\n\r\nx"]
)
def test_what_is_no_archive_is_one_quarantined_record_and_the_run_goes_on(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.warc.gz").write_bytes(data)
    (tmp_path / "b.warc.gz").write_bytes(archive([words(80)]))
    first, second = read_all(warc(tmp_path / "*.warc.gz"))
    assert first.ledger["in"] == sum(first.ledger["quarantined"].values()) == 1
    assert second.documents.num_rows == 1


def test_ids_and_values_do_not_depend_on_how_an_archive_is_cut(tmp_path: Path) -> None:
    (tmp_path / "crawl.warc.gz").write_bytes(archive([words(80, seed) for seed in range(8)]))
    (whole,) = read_all(warc(tmp_path / "*.warc.gz"))
    cut = read_all(warc(tmp_path / "crawl.warc.gz", shard=1500))
    rows = [row for read in cut for row in read.documents.to_pylist()]
    assert len(cut) > 3
    assert rows == whole.documents.to_pylist()
    assert len({row["id"] for row in rows}) == 8
    assert {row["date"] for row in rows} == {None}
    assert rows[0]["file"] == "crawl.warc.gz"
    assert (rows[0]["title"], rows[0]["url"], rows[0]["kind"]) == ("Sluices", "http://example.org/0", "html")


def test_shards_keep_name_and_digest_when_a_file_is_added_and_data_moves(tmp_path: Path) -> None:
    for number in (1, 3):
        data = archive([str(number)] * number)
        for folder in ("here", "there"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{number}.warc.gz").write_bytes(data)
    (tmp_path / "there" / "2.warc.gz").write_bytes(b"new")
    before, _ = warc(tmp_path / "here" / "*.warc.gz").shards(None)
    after, _ = warc(tmp_path / "there" / "*.warc.gz").shards(None)
    assert len(after) == 3
    assert {(s.name, s.digest) for s in before} < {(s.name, s.digest) for s in after}
    assert not any("/" in shard.name for shard in after)


# -- listings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": "nowhere/*.warc.gz"}, r"source web: nowhere/\*\.warc\.gz matches no file in .*; correct `paths`"),
        ({"paths": "."}, r"source web: \. matches no file in .*; it is a folder: write \./\*\*"),
        ({"paths": "*.gz", "match": "b"}, r"source web: none of the 1 file of \*\.gz matches 'b'; correct `match`"),
        ({"paths": "*.gz", "match": "("}, r"source web: match: '\(': missing \)"),
        ({"paths": "nofs://x/*"}, r"source web: nofs://x/\* cannot be read: Protocol not known: nofs.*"),
        ({"paths": "x/", "listing": "missing.gz"}, r"source web: missing\.gz cannot be read: it does not exist"),
        ({"paths": "[b]/*"}, r".* matches no file in .*; a path of this name is there: write \[\[\]b\]/\*"),
        ({"paths": "{a,b}.gz"}, r".* matches no file in .*; braces choose nothing: write a list of patterns"),
        ({"paths": "x/", "listing": "a.gz"}, r"source web: a\.gz lists no file; correct `listing`"),
    ],
)
def test_what_cannot_be_listed_is_said_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.gz").write_bytes(b"")
    Path("[b]").mkdir()
    source = reader("web", WarcSource(kind="warc", **settings), Extract())
    with pytest.raises(SourceError, match=f"^{message}"):
        source.shards(None)


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server of static files with ranges, as object stores have them; it notes what was asked for."""

    asked: list[tuple[str, str | None]] = []

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range")))
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked or not path.is_file():
            return super().do_GET()
        data, (first, last) = path.read_bytes(), map(int, asked.groups())
        body = data[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(body)
        return None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "served"
    root.mkdir()
    Ranges.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Ranges(*args, directory=str(root))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}", root
        served.shutdown()
        thread.join()


def test_a_crawl_is_read_over_http_by_its_list_of_paths(server: tuple[str, Path]) -> None:
    url, root = server
    names = [f"crawl-data/CC-MAIN-2024-22/segments/{number}/warc/CC-{number}.warc.gz" for number in (3, 1, 2)]
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(archive([words(70, number)]))
    listing = root / "crawl-data/CC-MAIN-2024-22/warc.paths.gz"
    listing.write_bytes(gzip.compress("\n".join(names).encode() + b"\n"))
    listed = f"{url}/crawl-data/CC-MAIN-2024-22/warc.paths.gz"
    source = reader("cc", WarcSource(kind="warc", paths=url, listing=listed, match="/[23]/", count=1), Extract())
    (read,) = read_all(source)
    (row,) = read.documents.to_pylist()
    assert row["file"] == names[2]
    assert row["text"] == words(70, 2)
    payload = source.reread(row)
    assert payload == PAGE.format(words(70, 2)).encode()
    assert not any("/1/" in path or "/3/" in path for path, _ in Ranges.asked)
    with pytest.raises(SourceError, match=r"nothing-here.* cannot be read|matches no file"):
        reader("cc", WarcSource(kind="warc", paths=f"{url}/nothing-here.warc.gz"), Extract()).shards(None)


def test_of_a_large_file_far_away_only_the_range_is_read(server: tuple[str, Path]) -> None:
    url, root = server
    noise = random.Random(3)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
    (root / "big.warc.gz").write_bytes(archive([head + noise.randbytes(10**6) for _ in range(24)]))
    source = reader("cc", WarcSource(kind="warc", paths=f"{url}/big.warc.gz", shard=2**20), Extract())
    shards, _ = source.shards(None)
    Ranges.asked = []
    read = source.read(shards[12])
    bounds = [tuple(map(int, asked.removeprefix("bytes=").split("-"))) for _, asked in Ranges.asked if asked]
    assert len(bounds) > 1
    assert all(last < 2**16 for first, last in bounds if first == 0)  # whether the file is a compressed one
    assert min(first for first, _ in bounds if first) > 8 * 2**20
    assert max(last for _, last in bounds) < 22 * 2**20
    assert read.ledger == {"in": 1, "dropped": {"not_html": 1}, "quarantined": {}}


@pytest.mark.parametrize("shard", [2**30, 5000])
def test_plain_lines_far_away_are_read_whole_and_in_ranges(server: tuple[str, Path], shard: int) -> None:
    url, root = server
    (root / "a.jsonl").write_bytes(b"".join(b'{"text": "gold %d"}\n' % number for number in range(2000)))
    source = reader("far", JsonlSource(kind="jsonl", paths=f"{url}/a.jsonl", shard=shard), Extract())
    rows = [row for read in read_all(source) for row in read.documents.to_pylist()]
    assert [row["text"] for row in rows] == [f"gold {number}" for number in range(2000)]
    assert source.reread(rows[1234]) == b'{"text": "gold 1234"}'


def test_a_file_that_its_server_replaces_between_two_ranges_is_an_error_that_names_it(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    path = root / "a.jsonl"
    old, new = (b'{"text": "%s"}\n' % word * 2**19 for word in (b"old", b"new"))
    path.write_bytes(old)
    source = reader("far", JsonlSource(kind="jsonl", paths=f"{url}/a.jsonl", shard=2**30), Extract())
    [shard], _ = source.shards(None)
    served = Ranges.do_GET

    def replaced(self: Any) -> None:
        served(self)
        path.write_bytes(new)
        os.utime(path, (1, 1))

    monkeypatch.setattr(Ranges, "do_GET", replaced)
    with pytest.raises(SourceError, match=r"/a\.jsonl was written to since it was listed"):
        source.read(shard)


def test_archives_in_an_object_store_are_read_like_local_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("crawl")
        for number in range(3):
            fs.pipe(f"crawl/data/{number}.warc.gz", archive([words(70, number)]))
        source = warc("s3://crawl/data/*.warc.gz", match="[12]")
        shards, _ = source.shards(None)
        texts = [read.documents["text"].to_pylist() for read in read_all(source)]
        fs.pipe("crawl/data/2.warc.gz", archive([words(71)]))
        changed, _ = source.shards(None)
    finally:
        server.stop()
    assert texts == [[words(70, 1)], [words(70, 2)]]
    same = [before.digest == after.digest for before, after in zip(shards, changed, strict=True)]
    assert same == [True, False]


# -- balance, fingerprint, text ----------------------------------------------------------------------------------------


def test_a_ledger_that_does_not_add_up_is_an_error() -> None:
    counted = Records("web")
    counted.keep(Part("/x", "x", 0, 1), 0, 1, b"", "text", "gold")
    counted.keep(Part("/x", "x", 0, 1), 1, 1, b"", "text", "\u200b")
    read = counted.read()
    assert read.ledger == {"in": 2, "dropped": {"no_text": 1}, "quarantined": {}}
    with pytest.raises(LedgerError, match="3 records in, 1 document, 1 counted out"):
        Read(read.documents, read.ledger | {"in": 3})


def test_the_fingerprint_holds_what_changes_documents_and_nothing_else() -> None:
    def fingerprint(extract: Extract | None = None, **settings: Any) -> str:
        return reader("web", WarcSource(kind="warc", **{"paths": "a"} | settings), extract or Extract()).fingerprint

    assert fingerprint() == fingerprint(paths="b", license="MIT", count=3, match="x", shard=5, listing="l")
    assert fingerprint() == fingerprint(Extract(wall_seconds=7))
    assert (
        len(
            {
                fingerprint(),
                fingerprint(payload=9),
                fingerprint(Extract(fast=False)),
                fingerprint(Extract(cpu_seconds=1)),
            }
        )
        == 4
    )
    lines = JsonlSource(kind="jsonl", paths="a")
    assert reader("x", lines, Extract()).fingerprint == reader("x", lines, Extract(fast=False)).fingerprint
    assert reader("x", lines, Extract()).fingerprint != reader("y", lines, Extract()).fingerprint


def test_text_is_normalised_as_stated() -> None:
    assert (
        normalise("\ufeffe\u0301\u00a0a\u3000b\u2028c\r\nd\te\x00\x1b[0m\u202e\u200b\u00ad\n ") == "é a b\nc\nd\te[0m"
    )
    assert normalise(" \n\t\n  indented\n\n\nend  \n") == "  indented\n\n\nend"
    family, persian = "👩\u200d👩\u200d👧", "می\u200cخواهم"
    assert normalise(family) == family
    assert normalise(persian) == persian
    assert normalise("pass\u200dword\u200c") == "password"
    assert normalise("a\ud800b\ufffe") == "ab"


@pytest.mark.parametrize(
    "part",
    [" \n", " ", "\r\n", "a\x01", "e" + "\u0301" * 29, "\u200d", "a\u200d", "\ufb2c", "\x85 ", "\u0301\u0f80\u200c"],
)
def test_text_of_one_thing_repeated_costs_time_and_memory_linear_in_it(part: str) -> None:
    text = part * (2**20 // len(part)) + "x"
    start = time.process_time()
    normalise(text)
    assert time.process_time() - start < 2
    tracemalloc.start()
    normalise(text[: 2**16])
    assert tracemalloc.get_traced_memory()[1] < 40 * 2**16
    tracemalloc.stop()


def test_of_the_marks_on_a_character_thirty_are_kept_however_many_there_are() -> None:
    thirty = "e" + "\u093c\u0301" * 15
    assert normalise(f"{thirty} {thirty}") == unicodedata.normalize("NFC", f"{thirty} {thirty}")
    hostile = normalise("e" + "\u093c\u0301" * 1_000_000 + "x" + "\u0344" * 40)  # unbounded, this takes an hour
    assert [len(run) for run in regex.findall(r"\p{M}+", hostile)] == [29, 30]
    assert normalise(hostile) == hostile


@given(
    st.text(alphabet=st.one_of(st.characters(codec=None), st.sampled_from("e\u0301\u0344\u093c\u0903")), max_size=90)
)
@example("\u0344\u0f80\u200c")  # NFC puts the joiner behind another mark
@example("\u2329\u200d")
@example("\u0301" + "\u0f80\u200c" * 99)
def test_normalised_text_is_clean_and_stays_as_it_is(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not {c for c in once if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"}
    assert not {c for c in once if unicodedata.category(c) == "Zs" and c != " "}
    assert not set(once) & set("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2060\ufeff")
