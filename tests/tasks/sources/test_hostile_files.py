"""Files that anyone may have made: bombs in every compression, members in each other, records without HTTP."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from warcio.warcwriter import WARCWriter

from data_specs.extract import Extract
from data_specs.sources import JsonlSource, WarcSource
from tasks.sources import Read, Reader, compression, jsonl, reader
from tasks.sources.archive import Record
from tests.tasks.sources.test_sources import PAGE, archive, essence, found, read_all, warc, words

MIB = 2**20
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
PAGES: list[bytes | str] = [words(90, seed) for seed in range(12)]


def lines(path: Path, **settings: Any) -> Reader:
    return reader("web", JsonlSource(kind="jsonl", paths=str(path), **settings), Extract())


def counted(reads: list[Read]) -> dict[str, int]:
    return dict(sum((Counter(read.ledger["quarantined"]) for read in reads), Counter()))


def texts(reads: list[Read]) -> list[str]:
    return [text for read in reads for text in read.documents["text"].to_pylist()]


def repeated(suffix: str, piece: bytes, times: int) -> bytes:
    """A file of a piece many times over, by a compressor that is fed piece by piece."""
    makers: dict[str, Callable[[], Any]] = {
        "gz": lambda: zlib.compressobj(9, wbits=31),
        "zst": lambda: zstandard.ZstdCompressor(level=3).compressobj(),
        "bz2": bz2.BZ2Compressor,
        "xz": lambda: lzma.LZMACompressor(preset=0),
    }
    stream = makers[suffix]()
    return b"".join(stream.compress(piece) for _ in range(times)) + stream.flush()


# -- bombs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("shape", ["endless line", "endless spaces", "lines", "string"])
def test_lines_that_expand_without_end_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, shape: str
) -> None:
    monkeypatch.setattr(compression, "ALLOWANCE", MIB)
    piece = {"endless line": bytes(MIB), "endless spaces": b" " * MIB, "string": b"x" * MIB}.get(shape)
    piece = piece or (b'{"text": "' + b"lead " * 2000 + b'"}\n') * (MIB // 10_000)
    data = PACK[suffix](b'{"text": "gold"}\n' + b'{"text": "' * (shape == "string"))
    data += repeated(suffix, piece, 8)
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(data)
    reads = read_all(lines(tmp_path / "*", longest=MIB // 4))
    assert texts(reads)[0] == "gold"
    assert len(data) > 7 * MIB // compression.RATIO or counted(reads) == {"bomb": 1}


def test_a_few_bytes_of_bzip2_that_become_gigabytes_cost_no_more_than_the_allowance(tmp_path: Path) -> None:
    data = repeated("bz2", bytes(MIB), 48) * 20
    assert len(data) < 2000
    (tmp_path / "a.jsonl.bz2").write_bytes(data)
    tracemalloc.start()
    (read,) = read_all(lines(tmp_path / "*"))
    assert tracemalloc.get_traced_memory()[1] < 256 * MIB
    tracemalloc.stop()
    assert read.ledger["files"] == {"a.jsonl.bz2": {"bomb": 1}}


def test_a_record_that_expands_without_end_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "ALLOWANCE", MIB)
    head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a/\r\nContent-Length: %d\r\n\r\n" % (2**24)
    for suffix in ("gz", "zst"):
        plain = archive(PAGES[:2], compressed=False)
        whole = [item for item in found(plain) if isinstance(item, Record)]
        packed = [PACK[suffix](plain[item.offset : item.offset + item.span]) for item in whole]
        bomb = PACK[suffix](head + bytes(2**24))
        (tmp_path / f"a.warc.{suffix}").write_bytes(packed[0] + bomb + packed[1])
        reads = read_all(warc(tmp_path / f"a.warc.{suffix}"))
        assert counted(reads) == {"bomb": 1}
        assert texts(reads) == PAGES[:2]


def test_members_that_lie_in_each_other_are_decompressed_a_few_times_at_most() -> None:
    """Each is stored, and runs on over all that follow it; its end is no end."""
    record = archive(PAGES[:1])
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 99999999\r\n\r\n"
    number, size = 1000, 10 + 5 + len(head)
    piled = b""
    for place in range(number):
        rest = min(65535, (number - place) * size - 15)
        stored = struct.pack("<BHH", 0, rest, rest ^ 0xFFFF)
        piled += b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + stored + head
    begun = time.process_time()
    items = essence(found(piled + record))
    assert time.process_time() - begun < 10
    assert set(items[:-1]) == {"unreadable"}
    assert items[-1][1] == "http://example.org/0"


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [b"WARC/", b"WARC/1.0\n", b"WARC/1.0\r\n\r\n", b"WARC/1.0\nContent-Length: 9999999999\n\n"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_beginnings_of_records_by_the_thousand_cost_no_more_than_their_bytes(part: bytes, packed: bool) -> None:
    data = b"\n" + (part + b"\n") * (MIB // 2 // len(part)) + archive(PAGES[:1], compressed=False)
    begun = time.process_time()
    items = essence(found(gzip.compress(data, 1) if packed else data))
    assert time.process_time() - begun < 30
    assert packed or items[-1][1] == "http://example.org/0"


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_odd_json_costs_its_own_record_alone(tmp_path: Path) -> None:
    digits, deep = "9" * 5000, "[" * 10**5 + "]" * 10**5
    good = [
        *(f'{{"text": "gold 0", "n": {digits}}}', f'{{"n": -{digits}.5e9, "text": "gold 1", "o": NaN}}'),
        *('{"text": "gold 2", "s": "\\ud800"}', f'{{"text": "gold 3", "deep": {"[" * 900}1{"]" * 900}}}'),
    ]
    bad = ["[" * 100_000, '{"a":' * 100_000, f'{{"text": "gold", "deep": {deep}}}', digits]
    other = [f'{{"text": {digits}}}', '{"text": NaN}', '{"text": {"text": "gold"}}']
    (tmp_path / "a.jsonl").write_text("\n".join([*good, *bad, *other, '{"text": "gold 4"}']))
    (read,) = read_all(lines(tmp_path / "*"))
    assert read.documents["text"].to_pylist() == [f"gold {number}" for number in range(5)]
    assert read.ledger["dropped"] == {"no_text": 3}
    assert read.ledger["quarantined"] == {"not_json": 4}


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \n"])
def test_blank_lines_by_the_million_cost_no_more_than_their_bytes(tmp_path: Path, blank: bytes) -> None:
    data = b'{"text": "gold"}\n' + blank * 2**23 + b' {"text": "silver"}'
    (tmp_path / "a.jsonl").write_bytes(data)
    begun = time.process_time()
    (read,) = read_all(lines(tmp_path / "*"))
    assert time.process_time() - begun < 1
    rows = read.documents.to_pylist()
    assert [data[row["offset"] : row["offset"] + row["length"]] for row in rows] == [
        *(b'{"text": "gold"}', b' {"text": "silver"}')
    ]


@pytest.mark.parametrize("part", ["{}", "[]", '{"a":1}', "1.5", '"a"', "-1", "[[1],[2]]"])
def test_a_large_line_of_many_parts_is_read_without_making_them(tmp_path: Path, part: str) -> None:
    row = {"text": "gold, and gravel", "url": "http://a/"}
    body = json.dumps(row)[:-1] + ', "parts": [' + f"{part}," * (6 * MIB // (len(part) + 1)) + "1]}"
    wrong = body[:-1] + "]"
    (tmp_path / "a.jsonl").write_text(f"{body}\n{wrong}\n{body}\n")
    source = lines(tmp_path / "*")
    tracemalloc.start()
    (read,) = read_all(source)
    assert tracemalloc.get_traced_memory()[1] < 160 * MIB
    tracemalloc.stop()
    assert [(row["text"], row["url"]) for row in read.documents.to_pylist()] == [tuple(row.values())] * 2
    assert read.ledger["quarantined"] == {"not_json": 1}


def test_a_large_line_is_read_in_both_ways_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*({"text": "a, b", "url": u, "x": [1, {"text": "no"}]} for u in ("http://a/", None)), {"x": 1}, [1], 5]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"text": 1, "a": [,]}\n')
    before = read_all(lines(tmp_path / "*"))[0]
    monkeypatch.setattr(jsonl, "_LARGE", 0)
    monkeypatch.setattr(jsonl, "_PARTS", -1)
    after = read_all(lines(tmp_path / "*"))[0]
    assert after.documents.equals(before.documents)
    assert after.ledger == before.ledger


# -- windows, zstd, xz -------------------------------------------------------------------------------------------------


def far_looking(data: bytes, log: int = 28) -> bytes:
    """As `zstd --long` writes a stream."""
    parameters = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(data) + stream.flush()


def test_a_window_above_what_is_allowed_is_named_and_read_where_the_source_allows_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(far_looking(b'{"text": "gold"}\n'))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(b'{"text": "gold"}\n'))
    assert counted(read_all(lines(tmp_path / "*.zst"))) == {"window": 1}
    assert texts(read_all(lines(tmp_path / "*", window=2**28))) == ["gold", "gold"]
    assert counted(read_all(lines(tmp_path / "*.xz", window=2**20))) == {"window": 1}
    (tmp_path / "c.warc.zst").write_bytes(far_looking(archive(PAGES[:2], compressed=False)))
    assert counted(read_all(warc(tmp_path / "*.warc.zst"))) == {"window": 1}
    assert texts(read_all(warc(tmp_path / "*.warc.zst", window=2**28))) == PAGES[:2]


def test_the_window_is_in_the_fingerprint_where_it_is_not_the_default() -> None:
    def fingerprint(**settings: Any) -> str:
        return reader("web", WarcSource(kind="warc", paths="a", **settings), Extract()).fingerprint

    assert fingerprint() == fingerprint(window=2**27) != fingerprint(window=2**28)


def records_of(plain: bytes, pack: Callable[[bytes], bytes]) -> bytes:
    """A WARC compressed record by record."""
    data, start = b"", 0
    while start < len(plain):
        following = plain.find(b"WARC/1.0\r\n", start + 1)
        end = following if following > 0 else len(plain)
        data, start = data + pack(plain[start:end]), end
    return data


def with_dictionary(plain: bytes, packed: bool) -> bytes:
    """A .warc.zst as IIPC describes it: the dictionary in a skippable frame, then a frame for each record."""
    samples = [plain[at : at + 400] for at in range(0, len(plain), 400)]
    found = zstandard.train_dictionary(4000, samples)
    held = zstandard.compress(found.as_bytes()) if packed else found.as_bytes()
    frame = b"\x5d\x2a\x4d\x18" + struct.pack("<I", len(held)) + held
    return frame + records_of(plain, zstandard.ZstdCompressor(dict_data=found, write_checksum=True).compress)


@pytest.mark.parametrize("dictionary", ["none", "plain", "packed"])
def test_archives_of_zstd_frames_are_read_in_ranges_and_again(tmp_path: Path, dictionary: str) -> None:
    plain = archive(PAGES, compressed=False)
    data = records_of(plain, zstandard.ZstdCompressor(write_checksum=True).compress)
    if dictionary != "none":
        data = with_dictionary(plain, dictionary == "packed")
    (tmp_path / "a.warc.zst").write_bytes(data)
    whole = read_all(warc(tmp_path / "*"))
    assert texts(whole) == PAGES
    source = warc(tmp_path / "*", shard=1500)
    cut = read_all(source)
    assert len(cut) > 3
    assert [row for read in cut for row in read.documents.to_pylist()] == whole[0].documents.to_pylist()
    assert len({row["offset"] for row in whole[0].documents.to_pylist()}) == len(PAGES)
    assert all(row["text"] in source.reread(row).decode() for row in whole[0].documents.to_pylist())
    hurt = bytearray(data)
    hurt[whole[0].documents["offset"][5].as_py() + 40] ^= 0x55
    (tmp_path / "a.warc.zst").write_bytes(hurt)
    assert texts(read_all(warc(tmp_path / "*"))) == [*PAGES[:5], *PAGES[6:]]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("named", [True, False])
def test_an_archive_compressed_as_a_whole_is_read_whatever_the_compression(
    tmp_path: Path, suffix: str, named: bool
) -> None:
    data = PACK[suffix](archive(PAGES, compressed=False))
    path = tmp_path / f"a.warc{'.' + suffix if named else ''}"
    path.write_bytes(data)
    source = warc(path)
    (read,) = read_all(source)
    assert read.documents["text"].to_pylist() == PAGES
    assert all(row["text"] in source.reread(row).decode() for row in read.documents.to_pylist())
    path.write_bytes(data[: len(data) // 2])
    (read,) = read_all(source)
    assert read.ledger["quarantined"] == {"truncated": 1}
    path.write_bytes(PACK[suffix](b""))
    assert read_all(source)[0].ledger["quarantined"] == {"empty_file": 1}


@pytest.mark.parametrize("damage", [b"abc", b"", b"\x37\xa4\x30\xec" + bytes(300), "tables", "entropy"])
def test_a_damaged_dictionary_costs_the_frames_that_need_it(tmp_path: Path, damage: bytes | str) -> None:
    plain = archive(PAGES, compressed=False)
    samples = [plain[at : at + 400] for at in range(0, len(plain), 400)]
    found = zstandard.train_dictionary(4000, samples)
    held = bytearray(found.as_bytes())
    if isinstance(damage, bytes):
        held = bytearray(damage)
    else:
        at = 8 if damage == "tables" else 40
        held[at : at + 20] = bytes(20)
    start = plain.index(b"WARC/1.0", 1)
    frames = zstandard.compress(plain[start:]) + zstandard.ZstdCompressor(dict_data=found).compress(plain[start:])
    (tmp_path / "a.warc.zst").write_bytes(b"\x5d\x2a\x4d\x18" + struct.pack("<I", len(held)) + held + frames)
    (read,) = read_all(warc(tmp_path / "*"))
    assert read.documents["text"].to_pylist()[: len(PAGES)] == PAGES


# -- records without HTTP ----------------------------------------------------------------------------------------------


def typed(kind: str, media: str, body: bytes, compressed: bool = True) -> bytes:
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=compressed)
    url = "file:///a.html"
    writer.write_record(
        writer.create_warc_record(url, kind, payload=io.BytesIO(body), length=len(body), warc_content_type=media)
    )
    return out.getvalue()


def test_pages_in_resource_records_are_read_and_every_record_of_another_type_is_counted(tmp_path: Path) -> None:
    page = PAGE.format(words(80)).encode()
    chinese = page.replace(b"</p>", " 中文网页</p>".encode("gbk"))
    others = [("conversion", b"x"), ("continuation", page), ("later", page), ("metadata", page), ("request", page)]
    parts = [
        *(typed("resource", "text/html", page), typed("resource", "text/html; charset=gbk", chinese)),
        *(typed("resource", "image/png", b"\x89PNG"), typed("resource", "text/html", b" ")),
        *(typed(kind, "text/html", body) for kind, body in [*others, ("revisit", b"")]),
        archive(PAGES[:1]),
    ]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(parts))
    source = warc(tmp_path / "*")
    (read,) = read_all(source)
    assert read.ledger == {
        **{"in": 8, "dropped": {"empty": 1, "not_html": 1, "not_page": 3}, "quarantined": {}},
    }
    rows = read.documents.to_pylist()
    assert [row["url"] for row in rows] == ["file:///a.html", "file:///a.html", "http://example.org/0"]
    assert rows[0]["text"] == words(80)
    assert "中文网页" in rows[1]["text"]
    assert source.reread(rows[0]) == page


@pytest.mark.parametrize("refuse", [{}, {"none": "url = 'x'"}], ids=["", "refusing"])
@pytest.mark.parametrize("suffix", PACK)
def test_of_a_member_with_a_flipped_bit_no_document_is_kept_as_nothing_vouches_for_any(
    tmp_path: Path, suffix: str, refuse: dict[str, str]
) -> None:
    rows = [json.dumps({"text": words(60, seed)}) + "\n" for seed in range(300)]
    pack = zstandard.ZstdCompressor(write_checksum=True).compress if suffix == "zst" else PACK[suffix]
    members = [pack("".join(each).encode()) for each in (rows[:100], rows[100:])]
    sound = texts(read_all(lines(written(tmp_path / f"sound.jsonl.{suffix}", b"".join(members)))))
    assert len(sound) == 300
    for number, place in enumerate((0.3, 0.5, 0.9)):
        second = bytearray(members[1])
        second[int(place * len(second))] ^= 16
        path = written(tmp_path / f"{number}.jsonl.{suffix}", members[0] + bytes(second))
        reads = read_all(lines(path, refuse=refuse))
        assert texts(reads) == sound[:100]
        assert counted(reads)["unreadable"] >= 1


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
