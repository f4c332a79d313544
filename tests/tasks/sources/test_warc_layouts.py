"""WARC files of other layouts, and files that are none: read where they can be, else counted under a name."""

from __future__ import annotations

import bz2
import gzip
import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator
from warcio.cli import main as warcio

from tasks.sources import Read
from tasks.sources.archive import Fault, Record
from tasks.sources.members import Input
from tests.tasks.sources.test_sources import COUNTS, archive, essence, found, members, oracle, read_all, warc, words

ARC = (
    b"filedesc://old.arc 0.0.0.0 20080430204825 text/plain 73\n1 0 InternetArchive\n"
    b"URL IP-address Archive-date Content-type Archive-length\n\n"
    b"http://example.org/ 192.0.2.1 20080430204826 text/html 53\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>gold\n"
)
PAGES: list[bytes | str] = [words(90, seed) for seed in range(40)]


def texts(reads: list[Read]) -> list[str]:
    return [text for read in reads for text in read.documents["text"].to_pylist()]


def counted(reads: list[Read]) -> dict[str, int]:
    return dict(sum((Counter(read.ledger["quarantined"]) for read in reads), Counter()))


def unmeasured(block: bytes) -> bytes:
    """A WARC without the Content-Length of its response records."""
    heads = re.compile(
        rb"(WARC/1\.0\r\n(?:[^\r\n]+\r\n)*?WARC-Type: response\r\n(?:[^\r\n]+\r\n)*?)Content-Length: \d+\r\n"
    )
    return heads.sub(rb"\1", block)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ARC, "arc"),
        (gzip.compress(ARC), "arc"),
        (b"".join(gzip.compress(part) for part in (ARC[:150], ARC[150:])) * 30, "arc"),
        (b"", "empty_file"),
        (gzip.compress(b""), "empty_file"),
        (b"\x28\xb5\x2f\xfd", "unreadable"),
    ],
)
def test_a_file_that_is_no_warc_is_one_record_under_its_name(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.gz").write_bytes(data)
    (tmp_path / "b.warc.gz").write_bytes(gzip.compress(b"") + archive(PAGES[:1]))
    reads = read_all(warc(tmp_path / "*.gz", shard=1000))
    assert counted(reads) == {reason: 1}
    assert sum(read.ledger["in"] for read in reads) == 2
    assert texts(reads) == PAGES[:1]


def test_a_real_arc_is_named_and_warcio_makes_a_warc_of_it(shared: Path, tmp_path: Path) -> None:
    arc = shared / "warc" / "aut-example.arc.gz"
    assert counted(read_all(warc(arc, shard=arc.stat().st_size // 5))) == {"arc": 1}
    warcio(["recompress", str(arc), str(tmp_path / "new.warc.gz")])
    records = found((tmp_path / "new.warc.gz").read_bytes())
    assert len(records) == COUNTS["aut-example"]
    for record, (url, payload, _) in zip(records, oracle(tmp_path / "new.warc.gz"), strict=True):
        assert isinstance(record, Record)
        assert (record.url, record.block[-len(payload) :] if payload else b"") == (url, payload)


def test_records_that_do_not_tell_their_length_are_named_and_cost_themselves_alone() -> None:
    data = archive(PAGES[:5])
    parts = [gzip.decompress(data[start:end]) for start, end in members(data)]
    hurt = next(number for number, part in enumerate(parts) if b"/2\r\n" in part and b"response\r\n" in part)
    parts[hurt] = unmeasured(parts[hurt])
    one = [b"page", b"page", "no_length", b"page", b"page"]
    for data in (b"".join(parts), b"".join(map(gzip.compress, parts))):
        assert [item if isinstance(item, str) else b"page" for item in essence(found(data))] == one
    every = [unmeasured(part) for part in parts]
    for data in (b"".join(every), b"".join(map(gzip.compress, every))):
        assert essence(found(data)) == ["no_length"] * 5


def dressed(data: bytes, name: Callable[[bytes], bytes]) -> bytes:
    """A plain WARC with the names in its records' headers written otherwise."""
    head = re.compile(rb"WARC/1\.0\r\n.*?\r\n\r\n", re.DOTALL)
    return head.sub(lambda found: re.sub(rb"(?m)^[\w-]+(?=:)", lambda field: name(field[0]), found[0]), data)


@pytest.mark.parametrize("name", [bytes.lower, bytes.upper, bytes.title, bytes.swapcase])
def test_names_in_headers_are_read_whatever_their_case_as_warcio_reads_them(tmp_path: Path, name: Any) -> None:
    plain = archive(PAGES[:5], compressed=False)
    whole = found(plain)
    other = dressed(plain, name)
    assert other != plain
    (tmp_path / "other.warc").write_bytes(other)
    assert [url for url, *_ in oracle(tmp_path / "other.warc")] == [f"http://example.org/{n}" for n in range(5)]
    assert found(other) == whole
    parts = [other[item.offset : item.offset + item.span] for item in whole if isinstance(item, Record)]
    for data in (gzip.compress(other), b"".join(map(gzip.compress, parts))):
        assert [(item.url, item.date, item.block) if isinstance(item, Record) else item for item in found(data)] == [
            (item.url, item.date, item.block) for item in whole if isinstance(item, Record)
        ]


def test_records_without_a_type_are_counted_and_cost_themselves_alone() -> None:
    data = archive(PAGES[:5])
    parts = [gzip.decompress(data[start:end]) for start, end in members(data)]
    untyped = [number for number, part in enumerate(parts) if b"/2\r\n" in part]  # request, response, revisit
    for number in untyped:
        parts[number] = re.sub(rb"WARC-Type: \w+\r\n", b"", parts[number])
    expected = [b"page", b"page", *["no_type"] * 3, b"page", b"page"]
    for data in (b"".join(parts), gzip.compress(b"".join(parts)), b"".join(map(gzip.compress, parts))):
        assert [item if isinstance(item, str) else b"page" for item in essence(found(data))] == expected


@pytest.mark.parametrize("name", ["wet", "wat"])
def test_a_real_file_of_what_others_extracted_is_named(shared: Path, tmp_path: Path, name: str) -> None:
    data = (shared / "warc" / f"whirlwind.warc.{name}.gz").read_bytes()
    kinds = [record.rec_type for record in ArchiveIterator(io.BytesIO(data))]
    assert set(kinds) < {"warcinfo", "conversion", "metadata"}
    (tmp_path / "crawl.warc.gz").write_bytes(data + archive(PAGES[:2]) * (name == "wat"))
    (tmp_path / "many.warc.gz").write_bytes(data * 20)
    reads = read_all(warc(tmp_path / "*.gz", shard=len(data)))
    assert len(reads) > 20
    assert counted(reads) == {"no_pages": 2 - (name == "wat" and len(kinds) < 8)}


@pytest.mark.parametrize("size", [1, 7, 100, 1000, 65_280])
def test_an_archive_compressed_in_blocks_is_read_whole_wherever_they_begin(tmp_path: Path, size: int) -> None:
    plain = archive(PAGES[: 1 + size // 50], compressed=False)
    data = b"".join(gzip.compress(plain[at : at + size], 1) for at in range(0, len(plain), size)) + gzip.compress(b"")
    whole = [item.block for item in found(plain) if isinstance(item, Record)]
    items = found(data)
    assert [item.block if isinstance(item, Record) else item for item in items] == whole
    for cut in (1, len(data) // 3, len(data) - 30):
        assert essence(found(data, 0, cut)) + essence(found(data, cut)) == essence(items)
    (tmp_path / "blocks.warc.gz").write_bytes(data)
    source = warc(tmp_path / "blocks.warc.gz")
    (read,) = read_all(source)
    assert read.documents["text"].to_pylist() == PAGES[: len(whole)]
    assert all(row["text"] in source.reread(row).decode() for row in read.documents.to_pylist())


def test_a_broken_block_keeps_the_records_before_it_and_the_archive_after_it() -> None:
    first, second = archive(PAGES[:9], compressed=False), archive(PAGES[9:12])
    blocks = [bytearray(gzip.compress(first[at : at + 500])) for at in range(0, len(first), 500)]
    blocks[10][-6] ^= 1
    complete = [item for item in found(first) if isinstance(item, Record) and item.offset + item.span <= 5000]
    expected = [*(item.block for item in complete), "unreadable"]
    expected += [item.block for item in found(second) if isinstance(item, Record)]
    items = found(b"".join(blocks) + second)
    assert [item.reason if isinstance(item, Fault) else item.block for item in items] == expected
    assert len(complete) > 1


@pytest.mark.parametrize("padding", [b"\n", b"\0" * 100_000, b"\r\n\r\n", b"\xef\xbb\xbf"])
def test_padding_before_and_after_records_and_members_is_no_record(padding: bytes) -> None:
    for data in (archive(PAGES[:3]), archive(PAGES[:3], compressed=False)):
        blocks = [item.block for item in found(data) if isinstance(item, Record)]
        for padded in (data + padding, padding + data, data + padding + data):
            items = found(padded)
            assert [item.block if isinstance(item, Record) else item for item in items] == blocks * padded.count(
                data[:100]
            )
            for cut in range(1, len(padded), 977):
                if data.startswith(b"\x1f"):
                    assert essence(found(padded, 0, cut)) + essence(found(padded, cut)) == essence(items)


@pytest.mark.parametrize("before", [b"", b"\r\n", b"WARC/"])
def test_a_compressed_archive_inside_a_plain_one_is_a_part_of_its_record_however_that_is_cut(
    before: bytes,
) -> None:
    inside = b"HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\n\r\n" + archive(PAGES[:9])
    plain = before + archive([PAGES[9], inside, PAGES[10]], compressed=False)
    for cut in range(1, len(plain), 977):  # as a plain file is that is named as a compressed one
        assert essence(found(plain, 0, cut)) + essence(found(plain, cut)) == essence(found(plain))


def test_what_is_no_record_in_a_plain_archive_is_counted_once() -> None:
    plain = archive(PAGES[:4], compressed=False)
    starts = [item.offset for item in found(plain) if isinstance(item, Record)]
    bad = plain.replace(b"WARC/1.0", b"WARC/one", plain[: starts[2]].count(b"WARC/1.0") + 1)
    good = plain[: starts[2]] + bad[starts[2] :]
    assert [item if isinstance(item, str) else b"" for item in essence(found(good))] == [b"", b"", "unreadable", b""]
    garbage = plain[: starts[2]] + b"garbage\r\n\r\n" + plain[starts[2] :]
    assert [item if isinstance(item, str) else b"" for item in essence(found(garbage))] == [
        *(b"", b"", "unreadable", b"", b"")
    ]


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """A WARC as `gzip crawl.warc` leaves it: one stream."""
    path = tmp_path / "single.warc.gz"
    noise = [b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + bytes(range(256)) * 99] * 9
    path.write_bytes(gzip.compress(archive([*PAGES, *noise], compressed=False), 1))
    return path


def test_an_archive_compressed_as_one_stream_is_read_by_its_first_range(single: Path) -> None:
    (whole,) = read_all(warc(single))
    assert whole.ledger == {"in": 49, "dropped": {"not_html": 9}, "quarantined": {}}
    assert whole.documents["text"].to_pylist() == PAGES
    cut = read_all(warc(single, shard=3000))
    assert [read.ledger["in"] for read in cut] == [49, *[0] * (len(cut) - 1)]
    assert len(cut) > 3
    assert cut[0].documents.equals(whole.documents)
    assert len(set(whole.documents["id"].to_pylist())) == 40


def test_pages_of_every_layout_are_read_again(single: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.warc").write_bytes(archive(PAGES, compressed=False))
    (tmp_path / "many.warc.gz").write_bytes(archive(PAGES))
    for path in (single, tmp_path / "plain.warc", tmp_path / "many.warc.gz"):
        source = warc(path)
        (read,) = read_all(source)
        payloads = [source.reread(row) for row in read.documents.to_pylist()]
        assert [str(page) in payload.decode() for page, payload in zip(PAGES, payloads, strict=True)] == [True] * 40


class Told(io.BytesIO):
    """A file that notes up to where it was read."""

    furthest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.furthest = max(self.furthest, self.tell())
        return data


def test_a_range_without_a_member_is_not_sought_beyond_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"WARC/1.0\r\n" + b"\r\n" + bytes(10), 0) + b"\0" * 5_000_000
    file: Any = Told(data)
    assert Input(file).member(1_000_000, 1_500_000) is None
    assert 1_500_000 <= file.furthest < 2_100_000


def test_records_go_on_from_one_stream_of_bzip2_to_the_next() -> None:
    whole = archive(PAGES[:6], compressed=False)
    streams = [bz2.compress(whole[start : start + 1500]) for start in range(0, len(whole), 1500)]
    plain, cut = (
        [(item.url, item.block) for item in found(data) if isinstance(item, Record)]
        for data in (whole, b"".join(streams))
    )
    assert cut == plain
    assert len(plain) == 6


def test_revisits_are_counted_where_the_source_asks_for_it(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(archive(PAGES[:3]))
    for path, pages, visits in ((tmp_path / "a.warc.gz", 3, 3), (shared / "warc" / "pywb-iana.warc.gz", 48, 123)):
        [without], [asked] = (read_all(warc(path, revisits=each)) for each in (False, True))
        assert (without.ledger["in"], asked.ledger["in"]) == (pages, pages + visits)
        assert asked.ledger["dropped"]["revisit"] == visits
        assert asked.documents.equals(without.documents)
        seen = [row for row in asked.refused.to_pylist() if row["reason"] == "revisit"]
        assert all(row["url"] for row in seen)
