"""Columns that a source has of its own: from JSON lines and Parquet, in rules, channels and queries."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs.extract import Extract
from data_specs.load import SpecError
from data_specs.sources import ArrowSource, JsonlSource, ParquetSource
from flows.run import Run
from tasks.engine import job
from tasks.engine.gates import GateError
from tasks.engine.reading import Read
from tasks.sources import reader
from tests import small, whole
from tests.commands import told

ROWS: list[dict[str, Any]] = [
    {"text": "one", "score": 0.5, "lang": "en", "votes": 3, "checked": True},
    {"text": "two", "score": 1, "lang": 7, "votes": 2.0, "checked": 1},
    {"text": "three", "score": "0.5", "lang": "z\ud800h", "votes": 2.5, "checked": "yes"},
    {"text": "four", "score": None, "votes": 2**70},
]
TYPES = {"score": "float", "lang": "string", "votes": "int", "checked": "bool"}
WANTED = {
    "score": [0.5, 1.0, None, None],
    "lang": ["en", None, "zh", None],
    "votes": [3, 2, None, None],
    "checked": [True, None, None, None],
}


def read_all(source: Any) -> Read:
    """All shards of a source as one."""
    reads = [source.read(shard) for shard in source.shards(None)[0]]
    total: Counter[str] = Counter()
    groups: dict[str, Counter[str]] = {"dropped": Counter(), "quarantined": Counter()}
    for read in reads:
        total.update({name: read.ledger.get(name, 0) for name in ("in", "lost")})
        for name, counts in groups.items():
            counts.update(read.ledger[name])
    ledger = {**total, **{name: dict(counts) for name, counts in groups.items()}}
    return Read(pa.concat_tables([read.documents for read in reads]), ledger)


def test_values_of_json_lines_keep_their_types_and_others_are_null(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    settings = JsonlSource(kind="jsonl", paths=str(path), columns=TYPES)
    documents = read_all(reader("web", settings, Extract())).documents
    assert documents.select([*TYPES]).to_pydict() == WANTED
    assert [str(documents.schema.field(name).type) for name in TYPES] == ["double", "string", "int64", "bool"]


@pytest.mark.parametrize("other", ["1", "NaN"])  # of which orjson reads one, and Python's json both
def test_a_number_beyond_64_bits_is_none_and_never_another_number(tmp_path: Path, other: str) -> None:
    numbers = [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**305, 10**400]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "one", "n": {number}, "f": {number}, "o": {other}}}\n' for number in numbers))
    settings = JsonlSource(kind="jsonl", paths=str(path), columns={"n": "int", "f": "float"})
    documents = read_all(reader("web", settings, Extract())).documents
    assert documents["n"].to_pylist() == [2**63 - 1, None, -(2**63), None, None, None, None]
    assert documents["f"].to_pylist() == [*map(float, numbers[:-1]), None]


def test_a_parquet_page_of_another_checksum_than_was_recorded_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"some words of number {number}" for number in range(1000)]})
    pq.write_table(table, path, row_group_size=500, compression="none", use_dictionary=False, write_page_checksum=True)
    data = path.read_bytes()
    place = data.index(b"number 700")
    path.write_bytes(data[:place] + b"f" + data[place + 1 :])
    read = read_all(reader("web", ParquetSource(kind="parquet", paths=str(path)), Extract()))
    assert read.documents["text"].to_pylist() == table["text"].to_pylist()[:500]
    assert read.ledger["quarantined"] == {"unreadable": 1}


def test_parquet_types_that_say_the_same_are_read_as_what_a_column_is_to_be(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array([b"one", b"two", b"\xff"], pa.binary()),
            "score": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal128(5, 2)),
            "day": pa.array([date(2026, 11, 29), None, None]),
            "lang": pa.array([b"en", b"\xff", None], pa.large_binary()),
            "when": pa.array([1, 2, 3], pa.timestamp("ns")),
            "hour": pa.array([time(12, 30), None, None], pa.time32("s")),
            "parts": pa.array([["a"], ["b"], ["c"]]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    own: Any = {"score": "float", "day": "string", "lang": "string", "when": "string", "hour": "string"}
    own |= {"parts": "string"}
    read = read_all(reader("web", ParquetSource(kind="parquet", paths=str(tmp_path / "*"), columns=own), Extract()))
    assert read.documents.select(["text", *own]).to_pydict() == {
        "text": ["one", "two"],
        "score": [1.5, None],
        "day": ["2026-11-29", None],
        "lang": ["en", None],
        "when": ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000002"],
        "hour": ["12:30:00.000", None],
        "parts": [None, None],
    }
    assert read.ledger["dropped"] == {"no_text": 1}
    source = reader("web", ParquetSource(kind="parquet", paths=str(tmp_path / "*")), Extract())
    assert [source.reread(row) for row in read.documents.to_pylist()] == [b"one", b"two"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_rows_of_a_file_that_has_none_of_the_columns_are_counted(tmp_path: Path, kind: str) -> None:
    table = pa.table({"content": [f"words of {number}" for number in range(2000)]})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "a.parquet")
    else:
        with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
            writer.write_table(table)
    settings: Any = ParquetSource if kind == "parquet" else ArrowSource
    found = read_all(reader("web", settings(kind=kind, paths=str(tmp_path / "*")), Extract()))
    assert found.ledger == {"in": 2000, "lost": 0, "dropped": {"no_text": 2000}, "quarantined": {}}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_decimals_are_whole_numbers_where_they_are_and_what_is_in_a_struct_is_read_alike(
    tmp_path: Path, kind: str
) -> None:
    whole = pa.array([Decimal(7), Decimal(-(2**60) - 1), Decimal(2**63)], pa.decimal128(20, 0))
    part = pa.array([Decimal("2.00"), Decimal("2.50"), None], pa.decimal128(5, 2))
    hidden = pa.StructArray.from_arrays(
        [whole, part, pa.array([date(2026, 11, 29)] * 3), pa.array([b"en", b"\xff", b"zh"], pa.binary())],
        ["whole", "part", "day", "lang"],
        mask=pa.array([False, False, True]),
    )
    table = pa.table({"text": ["one", "two", "three"], "whole": whole, "part": part, "meta": hidden})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "a.parquet")
    else:
        with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
            writer.write_table(table)
    own: Any = {"whole": "int", "part": "int", "n": "int", "share": "float", "day": "string", "lang": "string"}
    keys = {"n": "meta.whole", "share": "meta.part", "day": "meta.day", "lang": "meta.lang"}
    settings: Any = ParquetSource if kind == "parquet" else ArrowSource
    made = settings(kind=kind, paths=str(tmp_path / "*"), columns=own, keys=keys)
    found = read_all(reader("web", made, Extract()))
    assert found.documents.select([*own]).to_pydict() == {
        "whole": [7, -(2**60) - 1, None],  # the last is beyond 64 bits
        "part": [2, None, None],
        "n": [7, -(2**60) - 1, None],
        "share": [2.0, 2.5, None],
        "day": ["2026-11-29", "2026-11-29", None],
        "lang": ["en", None, None],
    }


def test_of_a_parquet_file_with_text_that_is_no_utf8_the_other_rows_are_read(tmp_path: Path) -> None:
    offsets, values = b"".join(n.to_bytes(4, "little") for n in (0, 3, 6, 9)), b"one\xff\xfe\xfdtwo"
    text = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(values)])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": text, "url": ["a", "b", "c"]}), path)
    read = read_all(reader("web", ParquetSource(kind="parquet", paths=str(path)), Extract()))
    assert read.documents.select(["text", "url"]).to_pydict() == {"text": ["one", "two"], "url": ["a", "c"]}
    assert read.ledger["dropped"] == {"no_text": 1}


def test_a_source_without_columns_of_its_own_has_the_fingerprint_that_it_had() -> None:
    plain, own = (JsonlSource(kind="jsonl", paths="x", columns=each) for each in ({}, {"score": "float"}))
    before, after = (reader("web", each, Extract()) for each in (plain, own))
    assert "columns" not in before.hashed_settings()
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("shard", [2**26, 1500])
def test_parquet_is_read_row_by_row_however_it_is_cut(tmp_path: Path, shard: int) -> None:
    texts = [f"text {number} " + "word " * (number % 7) if number % 5 else None for number in range(600)]
    table = pa.table({"content": texts, "link": [f"https://example.org/{n}" for n in range(600)], "n": range(600)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=64)
    paths, columns = str(tmp_path / "*.parquet"), {"n": "int", "absent": "string"}
    settings = ParquetSource(kind="parquet", paths=paths, text="content", url="link", columns=columns, shard=shard)
    source = reader("web", settings, Extract())
    assert (len(source.shards(None)[0]) > 1) == (shard == 1500)
    read = read_all(source)
    rows = [row for row in table.to_pylist() if row["content"]]
    assert read.ledger == {"in": 600, "lost": 0, "dropped": {"no_text": 120}, "quarantined": {}}
    assert read.documents["text"].to_pylist() == [row["content"].strip() for row in rows]
    assert read.documents["url"].to_pylist() == [row["link"] for row in rows]
    assert read.documents["n"].to_pylist() == read.documents["offset"].to_pylist() == [row["n"] for row in rows]
    assert read.documents["absent"].null_count == len(rows)
    assert source.reread(read.documents.slice(77, 1).to_pylist()[0]).decode() == rows[77]["content"]
    whole_file = ParquetSource(kind="parquet", paths=paths, text="content", url="link", columns=columns)
    assert read_all(reader("web", whole_file, Extract())).documents["id"] == read.documents["id"]


def test_a_row_and_a_line_that_are_too_long_are_counted_out(tmp_path: Path) -> None:
    texts = ["a" * 99, "é" * 50, "a" * 100]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{text[11:]}"}}\n' for text in [*texts, "a" * 101]))
    rows = ParquetSource(kind="parquet", paths=str(tmp_path / "*.parquet"), longest=99)
    lines = JsonlSource(kind="jsonl", paths=str(tmp_path / "*.jsonl"), longest=101)
    for settings, ledger in (
        (rows, {"in": 3, "lost": 0, "dropped": {"too_large": 2}, "quarantined": {}}),
        (lines, {"in": 4, "lost": 0, "dropped": {"too_large": 1}, "quarantined": {}}),
    ):
        source = reader("web", settings, Extract())
        assert read_all(source).ledger == ledger
        assert "longest" in source.hashed_settings()
    plain = reader("web", ParquetSource(kind="parquet", paths="x"), Extract())
    assert "longest" not in plain.hashed_settings()


def test_a_file_that_is_no_parquet_is_one_quarantined_record(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    read = read_all(reader("web", ParquetSource(kind="parquet", paths=str(tmp_path / "*")), Extract()))
    assert read.ledger["quarantined"] == {"unreadable": 1}
    assert read.ledger["lost"] == 108


def test_rules_channels_gates_and_queries_see_a_column_and_other_sources_are_not_read_anew(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=40)
    before = whole.go(spec, until="documents")
    files = list((tmp_path / "web").iterdir())
    lines = [
        json.loads(line) | {"score": n / 40}
        for n, line in enumerate(gzip.decompress(files[0].read_bytes()).splitlines())
    ]
    files[0].write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    text = spec.read_text().replace('web/*.jsonl.gz"}', 'web/*.jsonl.gz", columns: {score: float}}')
    text = text.replace("rules:\n", 'rules:\n  - dull: "score < 0.5"\n')
    spec.write_text(text.replace("channels:\n", 'channels:\n  best: "score > 0.9"\n'))
    run = whole.go(spec, until="verdict")
    code = {name: reader.fingerprint for name, reader in run.pipeline.readers.items()}["code"]
    assert code == before.pipeline.readers["code"].fingerprint
    assert next(stage for stage in run.record["stages"] if stage["name"] == "documents")["jobs"] == 1
    [*found] = run.pipeline.files(("source", "score", "reason", "channel"))
    rows = [row for _, each in found for row in job.read(run.store, each, None).to_pylist()]
    web = [row for row in rows if row["source"] == "web"]
    assert sorted(row["score"] for row in web) == [n / 40 for n in range(40)]
    assert all((row["reason"] == "dull") == (row["score"] < 0.5) for row in web)
    assert {row["channel"] for row in web if row["score"] > 0.9} == {"best"}
    assert {row["score"] for row in rows if row["source"] == "code"} == {None}
    sql = "select source, count(*), count(score), max(score) from corpus group by 1 order by 1"
    assert told("query", spec, sql)["rows"] == [["code", 24, 0, None], ["web", 40, 40, 0.975]]
    assert "no document" not in run.record["stages"][0]["note"]
    gate = "stages.signals.where=score >= 0.5"
    whole.go(spec, [gate], until="signals")
    sql = "select count(*), min(score) from corpus where words is not null"
    assert told("query", spec, sql, "--set", gate)["rows"] == [[20, 0.5]]


def test_records_that_call_their_text_otherwise_are_said_to_do_so(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=20)
    spec.write_text(spec.read_text().replace('web/*.jsonl.gz"}', 'web/*.jsonl.gz", text: content}'))
    with pytest.raises(GateError, match=r"20 no_text.*; see whether they call their text content, else say how"):
        whole.go(spec, until="documents")


def test_lines_that_are_no_json_are_explained(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=20)
    next((tmp_path / "web").iterdir()).write_bytes(gzip.compress(b'[{"text": "a"}, {"text": "b"}]'))
    with pytest.raises(GateError, match=r"1 not_json.*; not_json is a line that is not one JSON object in UTF-8; mend"):
        whole.go(spec, until="documents")


def test_a_column_that_no_document_has_a_value_in_is_said(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=2, documents=20)
    wrong = 'web/*.jsonl.gz", url: link, columns: {scoer: float, size: int}}'
    spec.write_text(spec.read_text().replace('web/*.jsonl.gz"}', wrong))
    for _ in range(2):
        note = whole.go(spec, until="documents").record["stages"][0]["note"]
        assert note.count("no document of source web has") == 3
        assert "source web has scoer: see whether its records call it so, and whether it is float" in note
    spec.write_text(spec.read_text().replace("url: link", "url: url").replace("size: int", "url_: string"))
    note = whole.go(spec, until="documents").record["stages"][0]["note"]
    assert note.count("no document of source web has") == 2


@pytest.mark.parametrize(
    ("columns", "mistake"),
    [
        ("{score: double}", "sources.a.columns.score is `double`, but should be"),
        ("{url: string}", "sources.a.columns.url: every document has a column of this name"),
        ("{title: string}", "name; call it otherwise, `columns: {a_title: string}, keys: {a_title: title}`"),
        ("{text: string}", "every document has a column of this name; `text` of the source says what it is read from"),
        (
            "{score: float}, keys: {scor: id}",
            "sources.a: keys.scor is of no column of `columns`; did you mean `score`?",
        ),
        ("{position: int}", "sources.a.columns.position: every document has a column of this name"),
        ("{host: string}", "sources.a.columns.host: every record has a column of this name"),
        ("{score: int}", "sources.b.columns.score is float, but int in sources.a"),
        (
            "{words: int}",
            "sources.a.columns.words: stage signals writes a column of this name; call it otherwise, "
            "`columns: {a_words: int}, keys: {a_words: words}`",
        ),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, columns: str, mistake: str) -> None:
    spec = tmp_path / "spec.yaml"
    a, b = f"{{kind: jsonl, paths: x, columns: {columns}}}", "{kind: parquet, paths: y, columns: {score: float}}"
    spec.write_text(f"name: x\nsources:\n  a: {a}\n  b: {b}\nchannels: {{all: 'true'}}\n")
    with pytest.raises(SpecError) as caught:
        Run.of(str(spec), str(tmp_path / "store"))
    assert mistake in str(caught.value)
