"""CSV and TSV: the rows that pandas and DuckDB find, and of hostile files every row with its line and its reason."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_specs.extract import Extract
from data_specs.sources import CsvSource, JsonlSource
from tasks.engine.reading import Read
from tasks.sources import Reader, csv_records, reader
from tasks.sources.jsonl import lines
from tests.commands import told
from tests.tasks.sources.test_own_columns import read_all
from tests.whole import go

PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
WORDS = ("gold", "河流", 'said "so"', "a, b", "", "two\nlines", "three\r\nmore\n", '"', "\t", "é", "x" * 300)


def of(path: Path, **more: Any) -> Reader:
    return reader("web", CsvSource(kind="csv", paths=str(path), **more), Extract())


def read(path: Path, data: bytes, **more: Any) -> Read:
    path.write_bytes(data)
    return read_all(of(path, **more))


def refused(path: Path, **more: Any) -> list[tuple[str, int | None]]:
    """Reason of each record that is no document, and its line; of a text without characters none is known."""
    source = of(path, **more)
    rows = [row for shard in source.shards(None)[0] for row in source.read(shard).refused.to_pylist()]
    return [(row["reason"], json.loads(row["measures"] or "{}").get("line")) for row in rows]


def table(rng: random.Random, rows: int) -> list[list[str]]:
    fields = ("".join(rng.choices(WORDS, k=rng.randint(0, 4))) for _ in range(2 * rows))
    return [[str(number), f"t{number} {next(fields)}", next(fields)] for number in range(rows)]


def written(rows: Sequence[Sequence[str]], **dialect: Any) -> str:
    file = io.StringIO()
    csv.writer(file, **dialect).writerows([["number", "text", "note"], *rows])
    return file.getvalue()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", "\t", "|", "、"])
def test_rows_are_those_of_pandas_and_of_duckdb(seed: int, end: str, delimiter: str, tmp_path: Path) -> None:
    rng = random.Random(seed)
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    text = written(table(rng, 50), lineterminator=end, delimiter=delimiter, quoting=quoting)
    path = tmp_path / "a.csv"
    template = "{{ number }}<{{ text }}>{{ note }}<END>"
    found = read(path, text.encode(), delimiter=delimiter, template=template, columns={"number": "int"})
    assert found.ledger["in"] == 50 == found.documents.num_rows
    frame = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False, sep=delimiter, engine="python")
    expected = [f"{row.number}<{row.text}>{row.note}<END>" for row in frame.itertuples()]
    wanted = read_all(of_texts(tmp_path / "texts.jsonl", expected)).documents["text"].to_pylist()
    assert found.documents["text"].to_pylist() == wanted
    if len(delimiter.encode()) == 1:
        options = f"delim='{delimiter}', header=true, all_varchar=true, quote='\"', escape='\"', auto_detect=false"
        columns = "columns={number: 'VARCHAR', text: 'VARCHAR', note: 'VARCHAR'}"
        asked = f"select number::int, text from read_csv('{path}', {options}, {columns}) order by 1"
        numbers, texts = zip(*duckdb.sql(asked).fetchall(), strict=True)
        assert found.documents["number"].to_pylist() == [*numbers]
        assert [*texts] == [row.text for row in frame.itertuples()]


def of_texts(path: Path, texts: Sequence[str]) -> Reader:
    """Documents of texts as they are, for what normalising makes of them."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return reader("web", JsonlSource(kind="jsonl", paths=str(path)), Extract())


@given(
    rows=st.lists(st.lists(st.text("ab\",\n\r 河'", max_size=6), min_size=3, max_size=3), max_size=8),
    form=st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_pythons_writer_wrote_is_what_is_read(
    rows: list[list[str]], form: tuple[str, int], tmp_path: Path
) -> None:
    end, quoting = form
    rows = [["x", f"{a}.", b] for a, b, _ in rows]
    source = of(tmp_path / "a.csv", columns={"note": "string"})
    (tmp_path / "a.csv").write_text(written(rows, lineterminator=end, quoting=quoting), newline="")
    documents = read_all(source).documents
    assert documents["note"].to_pylist() == [note or None for _, _, note in rows]
    data = (tmp_path / "a.csv").read_bytes()
    for row in documents.to_pylist():
        stored = source.reread(row)
        assert stored == data[row["offset"] : row["offset"] + row["length"]]
        assert next(csv.reader([stored.decode()]))[2] == (row["note"] or "")


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "big5"])
def test_encodings_byte_order_marks_and_compressions(suffix: str, encoding: str, tmp_path: Path) -> None:
    text = written([["1", "河流", 'a "quoted"\nnote'], ["2", "|山谷|", ""]], quoting=csv.QUOTE_ALL)
    more: Any = {"encoding": encoding} if encoding in ("gb18030", "big5") else {}
    path = tmp_path / f"a.csv{suffix}"
    found = read(path, PACKED[suffix](text.encode(encoding)), columns={"number": "int", "note": "string"}, **more)
    assert found.documents["text"].to_pylist() == ["河流", "|山谷|"]
    assert found.documents["number"].to_pylist() == [1, 2]
    assert found.documents["note"].to_pylist() == ['a "quoted"\nnote', None]
    source = of(path, columns={"number": "int", "note": "string"}, **more)
    lines = [source.reread(row).decode() for row in found.documents.to_pylist()]
    assert [next(csv.reader([line]))[1] for line in lines] == ["河流", "|山谷|"]


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "mac_roman"])
def test_lines_may_end_with_a_carriage_return_alone(suffix: str, encoding: str, tmp_path: Path) -> None:
    texts = ["café", "two\rlines", 'a "quoted", one'] if encoding == "mac_roman" else ["河流", "两\n行", "一"]
    rows = [[str(n), text, ""] for n, text in enumerate(texts)]
    data = written(rows, lineterminator="\r", quoting=csv.QUOTE_ALL) + "9,one,too,many\r"
    more: Any = {"encoding": encoding} if encoding in ("gb18030", "mac_roman") else {}
    path = tmp_path / f"a.csv{suffix}"
    found = read(path, PACKED[suffix](data.encode(encoding)), columns={"number": "int"}, **more)
    assert found.documents["text"].to_pylist() == [text.replace("\r", "\n") for text in texts]
    assert found.documents["number"].to_pylist() == [0, 1, 2]
    assert refused(path, **more) == [("wrong_fields", 6)]
    source = of(path, columns={"number": "int"}, **more)
    lines = [source.reread(row).decode() for row in found.documents.to_pylist()]
    assert [next(csv.reader(io.StringIO(line, newline="")))[1] for line in lines] == found.documents["text"].to_pylist()


@pytest.mark.parametrize("data", ["text,n\r\r\na,1\r\r\n", '"te\rxt",text\nx,a\n', "text,n\na\rb,1\na,2\n", "text\ra"])
def test_carriage_returns_end_lines_where_the_first_line_ends_with_one_alone(data: str, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", data.encode()).documents["text"].to_pylist() == ["a"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["number", "上一", "号"])
@pytest.mark.parametrize("text", ["a river", "河水流过砾石，冬天整个村庄都能听见它的一种声音。"])
def test_utf_16_is_known_without_a_mark(encoding: str, name: str, text: str, tmp_path: Path) -> None:
    data = f"{name},text\r\n" + "".join(f"{n},{text} {n}\r\n" for n in range(3))
    found = read(tmp_path / "a.csv", data.encode(encoding), columns={"n": "int"}, keys={"n": name})
    assert found.documents["text"].to_pylist() == [f"{text} {n}" for n in range(3)]
    assert found.documents["n"].to_pylist() == [0, 1, 2]
    assert read(tmp_path / "a.csv", b"text,n\r\ngold \0 dust,1\r\n").documents.num_rows == 1


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_first_line_that_says_what_parts_fields_is_no_header(
    first: str, end: str, encoding: str, tmp_path: Path
) -> None:
    path, rows = tmp_path / "a.csv", ["text;n", '"gold; dust";1', "one", "sep=;;2", ""]
    data = end.join([first, *rows]).encode(encoding)
    found = read(path, data, columns={"n": "int"})
    assert found.documents.select(["text", "n"]).to_pylist() == [{"text": "gold; dust", "n": 1}]
    assert refused(path) == [("wrong_fields", 4), ("wrong_fields", 5)]
    assert of(path).reread(found.documents.to_pylist()[0]) == b'"gold; dust";1'
    data = end.join([first, *rows[:2]]).replace(";", "\t").encode(encoding)
    assert read(path, data, delimiter="\t").documents["text"].to_pylist() == ["gold\t dust"]
    assert (
        read(path, f"{first}{end}gold,3{end}".encode(encoding), delimiter=",", header=("text", "n")).ledger["in"] == 1
    )


@pytest.mark.parametrize("name", ["a.tsv", "a.TSV.gz", "a.tab"])
def test_of_tsv_fields_are_told_apart_by_tabs_and_quotes_may_be_characters(name: str, tmp_path: Path) -> None:
    pack = gzip.compress if name.endswith("gz") else bytes
    data = pack(b'text\turl\n"so" he said\thttps://a.org/\n"an open one\t\n')
    found = read(tmp_path / name, data, quote="")
    assert found.documents["text"].to_pylist() == ['"so" he said', '"an open one']
    assert found.documents["url"].to_pylist() == ["https://a.org/", None]


def test_a_row_of_tabs_is_no_blank_line(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tsv", b"text\turl\n\n \r\n\t\ngold\t\n")
    assert found.ledger == {"in": 2, "dropped": {"no_text": 1}, "quarantined": {}, "lost": 0}


def test_values_have_the_types_that_are_asked_for_and_others_are_null(tmp_path: Path) -> None:
    rows = [("3", "0.5", "true"), ("3.0", "1e3", "FALSE"), ("3.5", "nan", "yes"), ("", "", ""), (" 7 ", "１", "1")]
    rows += [("9" * 30, "1_0", "t"), ("-9223372036854775808", "-.5", "True")]
    text = "votes,score,checked,text\n" + "".join(f"{','.join(row)},gold\n" for row in rows)
    types = {"votes": "int", "score": "float", "checked": "bool"}
    found = read(tmp_path / "a.csv", text.encode(), columns=types).documents
    assert found["votes"].to_pylist() == [3, 3, None, None, 7, None, -(2**63)]
    assert found["score"].to_pylist() == [0.5, 1000.0, None, None, None, None, -0.5]
    assert found["checked"].to_pylist() == [True, False, None, None, None, None, True]


def test_rows_that_are_none_are_counted_by_reason_and_line_and_cost_themselves_alone(tmp_path: Path) -> None:
    data = (
        b"text,url\n"  # 1
        b"gold 1,\n"
        b"\n"
        b"only one field\n"  # 4
        b"one,two,three\n"
        b'"a\nb",two,three\n'  # 6
        b'gold 2,"so"\n'  # 8
        b'"an open one, without an end\n'  # 9: closed by the quote that opens the next
        b'"gold 3",\n'
        b'"gold\n4","x" y\n'  # 11, 12: the rest of what is no row is read as rows
        b"\xff\xfe not UTF-8,\n"  # 13
        b",no text\n"
        b'gold 5,"and an open one\n'  # 15
        b"gold 6,\n"
        b"gold 7,\n"
    )
    path = tmp_path / "a.csv"
    found = read(path, data)
    assert found.documents["text"].to_pylist() == [f"gold {number}" for number in (1, 2, 3, 6, 7)]
    assert refused(path) == [
        ("wrong_fields", 4),
        ("wrong_fields", 5),
        ("wrong_fields", 6),
        ("not_csv", 9),
        ("not_csv", 11),
        ("not_csv", 12),
        ("not_csv", 13),
        ("no_text", 14),
        ("unclosed_quote", 15),
    ]


def test_a_row_above_the_limit_is_dropped_whole_and_a_quote_that_nothing_closes_costs_its_line(tmp_path: Path) -> None:
    large = '"' + 'line, with ""quotes""\n' * 40 + '"'
    data = f"text,url\ngold 1,\n{large},\n{'x' * 900},\n,{large}\ngold 2,\n"
    path = tmp_path / "a.csv"
    for suffix, pack in PACKED.items():
        path = tmp_path / f"a.csv{suffix}"
        found = read(path, pack((data + '"open\n' + "gold 3,\n" * 300).encode()), longest=500)
        assert found.documents["text"].to_pylist() == ["gold 1", "gold 2", *["gold 3"] * 300]
        reasons = [("too_large", 3), ("too_large", 44), ("too_large", 45), ("unclosed_quote", 87)]
        assert refused(path, longest=500) == reasons
        path.unlink()


OPEN = ('a","', '","a","', '"a","', 'a","\n"b","')


@pytest.mark.parametrize("line", [*OPEN, '"', '""', '"""', '"x', '","', 'a,""b', '"\n""\n', '"a"b\n"'])
@pytest.mark.parametrize("end", ["", '"\n'])
def test_quotes_of_any_kind_take_time_of_the_file(line: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    seconds = []
    for size in (2**15, 2**17):
        path.write_text("text\n" + f"{line}\n" * (size // len(line)) + end)
        began = time.process_time()
        read_all(of(path))
        seconds.append(time.process_time() - began)
    assert seconds[1] < 12 * seconds[0]


def test_a_quote_that_nothing_closes_takes_memory_of_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,url\n"gold,\n' + b"without a text\n" * 2**16 + b'"' + b'""' * 2**18)
    source = of(path, longest=2**16)
    [shard] = source.shards(None)[0]
    tracemalloc.start()
    try:
        found = source.read(shard)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.ledger["dropped"] == {"too_large": 1}
    assert peak < 2**23


def test_quotes_that_nothing_closes_open_a_file_twice_at_most(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,url\n" + 'a","\n' * 3000)
    opened = []

    def open_at(start: int) -> Any:
        opened.append(start)
        return lines(str(path), start)

    found = [*csv_records.rows(open_at, csv_records.Dialect(",", '"'), 100)]
    assert [row.reason for row in found] == ["", *["unclosed_quote"] * 3000]
    assert len(opened) == 2


@pytest.mark.parametrize("encoding", ["utf-7", "unicode_escape", "utf-16"])
def test_halves_of_characters_cost_their_row_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    bad = "\ud800".encode("utf-16", "surrogatepass")[2:] if encoding == "utf-16" else b"+2AA-\\ud800"
    data = "text\ngold ".encode(encoding) + bad + "\nsilver\n".encode(encoding).removeprefix(b"\xff\xfe")
    found = read(tmp_path / "a.csv", data, encoding=encoding)
    assert found.documents["text"].to_pylist() == ["silver"]
    assert found.ledger["quarantined"] == {"not_csv": 1}


def test_a_row_that_repeats_the_names_that_were_given_is_no_document(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", b'"text", url\ngold,\ntext,url\n', header=("text", "url"))
    assert found.documents["text"].to_pylist() == ["gold", "text"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.text('ab",\n\r \t', max_size=60), longest=st.integers(10, 80), quote=st.sampled_from(['"', "", "a"]))
def test_every_byte_is_of_a_record_or_blank_and_pieces_of_any_size_give_the_same(
    data: str, longest: int, quote: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,url\n{data}", newline="")

    def outcome() -> tuple[Any, ...]:
        found = read_all(of(path, longest=longest, quote=quote))
        return found.documents.to_pylist(), found.ledger, refused(path, longest=longest, quote=quote)

    whole = outcome()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(csv_records, "_PIECE", 1)
        assert outcome() == whole
    dialect = csv_records.Dialect(",", quote)
    stored, place, blank = path.read_bytes(), 0, b" \r\n"
    for row in csv_records.rows(lambda start: lines(str(path), start), dialect, longest):
        assert not stored[place : row.offset].strip(blank)
        assert row.line == 1 + stored[: row.offset].count(b"\n")
        place = row.offset + row.length
    assert not stored[place:].strip(blank)


def test_a_file_that_breaks_off_keeps_what_came_before_and_one_that_is_compressed_once_more_is_none(
    tmp_path: Path,
) -> None:
    data = gzip.compress(("text,n\n" + "".join(f"{random.random()},{n}\n" for n in range(9_000))).encode())
    found = read(tmp_path / "a.csv.gz", data[: len(data) // 2])
    assert found.ledger["quarantined"] == {"truncated": 1}
    assert found.documents.num_rows > 1_000
    assert read(tmp_path / "a.csv.gz", gzip.compress(data)).ledger["quarantined"] == {"unreadable": 1}
    assert read(tmp_path / "b.csv", b"").ledger["in"] == 0


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"delimiter": ",,"}, "one character"),
        ({"delimiter": ""}, "one character"),
        ({"delimiter": "\n"}, "no line end"),
        ({"delimiter": '"'}, "the same character"),
        ({"quote": ","}, "the same character"),
        ({"encoding": "utf-9"}, "utf-9"),
        ({"encoding": "rot13"}, "rot13"),
        ({"encoding": "idna"}, "idna"),
        ({"encoding": "punycode"}, "punycode"),
    ],
)
def test_settings_that_tell_nothing_apart_are_refused(given: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        CsvSource(kind="csv", paths="a.csv", **given)


def test_files_without_a_header_are_read_by_names_and_of_columns_of_one_name_the_first_is(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", b"3,Title,Body\n", header=("label", "title", "text"), columns={"label": "int"})
    assert found.documents.select(["text", "label"]).to_pylist() == [{"text": "Body", "label": 3}]
    assert read(tmp_path / "b.csv", b"text,text\none,two\n").documents["text"].to_pylist() == ["one"]


def test_a_run_reads_csv_and_its_rules_see_the_columns(tmp_path: Path) -> None:
    rows = "".join(f'"Text number {n}, of\nsome lines.",{n}\n' for n in range(40))
    (tmp_path / "a.csv").write_text(f"body,votes\n{rows}")
    spec = tmp_path / "spec.yaml"
    source = f"{{kind: csv, paths: {tmp_path}/*.csv, text: body, columns: {{votes: int}}}}"
    spec.write_text(
        f"name: x\nstore: {tmp_path}/store\nsources: {{web: {source}}}\n"
        'rules: [{few: "votes < 10"}]\nchannels: {all: "true"}\n'
    )
    go(spec, until="verdict")
    assert told("query", spec, "select count(*) from corpus where reason = 'few'")["rows"] == [[10]]
