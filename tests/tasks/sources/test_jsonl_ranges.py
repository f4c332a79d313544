"""Plain JSON lines cut into byte ranges: the same documents as without, whatever the ranges."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_specs.extract import Extract
from data_specs.sources import JsonlSource
from tasks.sources import Reader, jsonl, reader
from tests.tasks.sources.test_sources import read_all

LINES = st.one_of(
    st.sampled_from([b"", b"   ", b"\r", b"[1]", b'{"text"', b'{"text": " "}', b'{"no": 1}', b"\xff", b"x" * 70]),
    st.text(max_size=60).map(lambda text: json.dumps({"text": f"gold {text}"}).encode()),
    st.text(max_size=9).map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode(errors="replace")),
)


def lines(path: Path, shard: int = 2**40, longest: int = 2**24) -> Reader:
    return reader("web", JsonlSource(kind="jsonl", paths=str(path), shard=shard, longest=longest), Extract())


def outcome(source: Reader) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All documents in order, and the ledgers added up."""
    reads = read_all(source)
    ledger: dict[str, Any] = {"in": sum(read.ledger["in"] for read in reads)}
    for group in ("dropped", "quarantined"):
        ledger[group] = sum((Counter(read.ledger[group]) for read in reads), Counter())
    return [row for read in reads for row in read.documents.to_pylist()], ledger


@pytest.mark.slow
@given(data=st.lists(LINES, max_size=30).map(b"\n".join), ended=st.booleans(), shard=st.integers(1, 400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_of_any_size_give_the_documents_of_the_whole(
    tmp_path: Path, data: bytes, ended: bool, shard: int
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data + b"\n" * ended)
    whole, cut = lines(path, longest=64), lines(path, shard, longest=64)
    assert outcome(cut) == outcome(whole)
    assert len(cut.shards(None)[0]) == max(1, -(-path.stat().st_size // shard))
    for row in outcome(cut)[0]:
        assert cut.reread(row) == data[row["offset"] : row["offset"] + row["length"]]


def test_lines_are_read_as_python_writes_them(tmp_path: Path) -> None:
    odd = [math.nan, -math.inf, 10**400, {"deep": [1e300 * 10]}, "\ud83d", "\udc00\ud800"]
    rows = [{"text": f"gold {place}", "url": "http://a/", "score": value} for place, value in enumerate(odd)]
    rows += [{"text": "cut emoji \ud83d here", "url": "http://a/\ud83d"}]
    written = [json.dumps(row) for row in rows]
    wrong = ['{"text": "gold", "score": nan}', '{"text": 1e999', "[" * 10**5, '{"text": "a\\ud83"}', "9" * 5000]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*written, '{"text": "gold 1e999", "score": 1e999}', *wrong]))
    source = lines(path)
    documents, ledger = outcome(source)
    assert [row["text"] for row in documents] == [
        *(row["text"] for row in rows[:-1]), "cut emoji  here", "gold 1e999",
    ]  # fmt: skip
    assert [row["url"] for row in documents] == [*["http://a/"] * 7, None]
    assert ledger == {"in": 13, "dropped": {}, "quarantined": {"not_json": 5}}
    assert [source.reread(row).decode() for row in documents[:-1]] == written


def test_only_large_plain_files_are_cut_and_the_others_are_grouped(tmp_path: Path) -> None:
    body = b"".join(b'{"text": "gold %d"}\n' % number for number in range(1000))
    for name in ("large.jsonl", "small.jsonl", "packed.jsonl.gz", "LOUD.JSONL.GZ"):
        packed = gzip.compress(body, 0) if name.lower().endswith(".gz") else body
        (tmp_path / name).write_bytes(packed[:200] if name == "small.jsonl" else packed)
    source = lines(tmp_path / "*", 4000)
    shards, groups = source.shards(None)
    cut = [shard for shard in shards if shard.parts[0].key == "large.jsonl"]
    assert [(part.start, part.end) for shard in cut for part in shard.parts] == [
        (len(body) * number // len(cut), len(body) * (number + 1) // len(cut)) for number in range(len(cut))
    ]
    assert len(cut) == -(-len(body) // 4000)
    assert groups >= 4
    assert sorted(part.key for shard in shards for part in shard.parts if shard not in cut) == [
        "LOUD.JSONL.GZ", "packed.jsonl.gz", "small.jsonl",
    ]  # fmt: skip
    assert len({shard.name for shard in shards}) == len(shards)
    rows, ledger = outcome(source)
    assert ledger["in"] == 3011
    assert len({row["id"] for row in rows}) == len(rows) == 3010


PACKED: dict[str, Callable[[bytes], bytes]] = {
    **{"gz": gzip.compress, "zst": zstandard.compress, "zstd": zstandard.compress},
    **{"bz2": bz2.compress, "xz": lzma.compress, "GZ": gzip.compress},
}


@pytest.mark.parametrize("suffix", PACKED)
def test_compressed_files_are_read_in_members_with_padding_and_up_to_their_damage(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": f"gold {random.Random(number).randbytes(200).hex()}"} for number in range(400)]
    written = [json.dumps(row).encode() + b"\n" for row in rows]
    path = tmp_path / f"a.jsonl.{suffix}"
    pack = PACKED[suffix]
    halves = pack(b"".join(written[:150])), pack(b"".join(written[150:]))
    for body in (b"".join(halves), halves[0] + b"\0\0" + halves[1] + b"\n", b"".join(halves) + b"\0" * 5000):
        path.write_bytes(body)
        source = lines(path, 1000)
        documents, ledger = outcome(source)
        assert [row["text"] for row in documents] == [row["text"] for row in rows]
        assert ledger == {"in": 400, "dropped": {}, "quarantined": {}}
        assert source.reread(documents[-1]) == written[-1].rstrip()
    hurt = halves[0] + b"\x93" + halves[1]
    for body, reason in ((halves[0] + halves[1][:-9], "truncated"), (hurt, "unreadable")):
        path.write_bytes(body)
        documents, ledger = outcome(lines(path))
        assert ledger["quarantined"][reason] == 1
        assert [row["text"] for row in documents] == [row["text"] for row in rows[: len(documents)]]
        assert len(documents) >= 150


def test_a_file_that_is_not_what_its_name_says_is_one_record_and_named(tmp_path: Path) -> None:
    body = b'{"text": "gold"}\n' * 50
    wrong = {"plain.json.gz": body, "named.jsonl": gzip.compress(body)}
    for suffix, pack in PACKED.items():
        wrong[f"twice.{suffix}.json.{suffix}"] = pack(pack(body))
        wrong[f"inside.{suffix}.json.gz"] = gzip.compress(pack(body))
    for name, data in {**wrong, "right.jsonl": body, "lines.jsonl": b"{}}\n" * 3 + body}.items():
        (tmp_path / name).write_bytes(data)
    reads = read_all(lines(tmp_path / "*"))
    files = dict(entry for read in reads for entry in read.ledger.get("files", {}).items())
    assert files == {**{name: {"unreadable": 1} for name in wrong}, "lines.jsonl": {"not_json": 3}}
    assert sum(read.ledger["in"] for read in reads) == 100 + 3 + len(wrong)


def test_files_with_quarantined_records_are_named_up_to_a_bound(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}.jsonl").write_bytes(b"no\nno\n")
    reads = read_all(lines(tmp_path / "*"))
    assert sum(read.ledger["quarantined"]["not_json"] for read in reads) == 1000
    assert {len(read.ledger["files"]) for read in reads} == {100}


def test_a_new_file_leaves_the_ranges_of_another_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "gold"}\n' * 500)
    before, _ = lines(tmp_path / "*", 1000).shards(None)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "lead"}\n' * 200)
    after, _ = lines(tmp_path / "*", 1000).shards(None)
    assert {(shard.name, shard.digest) for shard in before} < {(shard.name, shard.digest) for shard in after}


def test_a_line_over_many_ranges_is_read_by_the_one_it_begins_in_and_costs_the_others_no_more_than_their_bytes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n{"text": "' + b"x" * 10**6 + b'"}\n{"text": "last"}\n')
    source = lines(path, 1000)
    reads = [source.read(shard) for shard in source.shards(None)[0]]
    assert [read.documents.num_rows for read in reads if read.ledger["in"]] == [2, 1]
    with path.open("rb") as file:
        file.seek(500_000)
        assert jsonl._pass(file, 1000) == file.tell() - 500_000 == 1000
