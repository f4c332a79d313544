"""Chats and threads: texts that a template makes of several fields."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data_specs.extract import Extract
from data_specs.sources import ArrowSource, JsonlSource, ParquetSource
from tasks.sources import reader
from tests.whole import go

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
HOSTILE = "{{ 7 * 7 }}{% for x in range(10**9) %}"
ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Hello?"}, {"role": "bot", "content": HOSTILE}], "link": "http://x/1"},
    {"messages": [], "link": None},
    {"messages": None, "link": "http://x/3"},
    {"messages": [{"role": "user", "content": "x" * 3000}], "link": None},
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_template_makes_a_text_of_several_fields(tmp_path: Path, kind: str) -> None:
    settings: JsonlSource | ParquetSource
    if kind == "jsonl":
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {"messages": 5}]))
        settings = JsonlSource(kind="jsonl", paths=f"{tmp_path}/*", template=CHAT, url="link", longest=2000)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
        settings = ParquetSource(kind="parquet", paths=f"{tmp_path}/*", template=CHAT, url="link", longest=2000)
    found = reader("chats", settings, Extract())
    reads = [found.read(shard) for shard in found.shards(None)[0]]
    rows = [row for read in reads for row in read.documents.to_pylist()]
    assert [(row["text"], row["url"]) for row in rows] == [(f"user: Hello?\nbot: {HOSTILE}", "http://x/1")]
    dropped = {
        reason: sum(read.ledger["dropped"].get(reason, 0) for read in reads) for reason in ("no_text", "too_large")
    }
    assert dropped == {"no_text": 3 if kind == "jsonl" else 2, "too_large": 1}
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in rows)


def test_a_template_prints_all_digits_of_a_whole_number(tmp_path: Path) -> None:
    numbers = [2**63, -(2**64), 123456789012345678901234567890, 7]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {number}, "x": 1.5}}\n' for number in numbers))
    settings = JsonlSource(kind="jsonl", paths=f"{tmp_path}/*", template="{{ id }}, {{ x }}")
    found = reader("numbers", settings, Extract())
    texts = [text for shard in found.shards(None)[0] for text in found.read(shard).documents["text"].to_pylist()]
    assert texts == [f"{number}, 1.5" for number in numbers]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_template_prints_the_shortest_digits_of_floats_of_32_and_16_bits(tmp_path: Path, kind: str) -> None:
    texts = ["0.1", "3.4e+38", "1e-45", "-16777216.0", "0.3333333"]
    score = pa.array([float(text) for text in texts], pa.float32())
    nested = pa.struct({"half": pa.float16(), "many": pa.list_(pa.float32()), "full": pa.float64()})
    rows = [{"half": np.float16(0.1), "many": [float(text), None], "full": 0.1} for text in texts]
    table = pa.table({"score": score, "of": pa.array(rows, nested), "none": pa.nulls(5, pa.float32())})
    settings: ParquetSource | ArrowSource
    template = "{{ score }} {{ of.half }} {{ of.many }} {{ of.full }}{{ none }} {{ of.many | tojson }}"
    if kind == "parquet":
        pq.write_table(table, tmp_path / "a.parquet")
        settings = ParquetSource(kind="parquet", paths=f"{tmp_path}/*", template=template)
    else:
        with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
            file.write_table(table)
        settings = ArrowSource(kind="arrow", paths=f"{tmp_path}/*", template=template)
    found = reader("scores", settings, Extract())
    read = [row for shard in found.shards(None)[0] for row in found.read(shard).documents.to_pylist()]
    assert [row["text"] for row in read] == [f"{t} 0.1 [{t}, None] 0.1 [{t}, null]" for t in texts]
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in read)


def test_a_record_as_a_whole_and_fields_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a b": "one", "c": {"d": "two"}}\n{"c": 3}\n')
    template = "{{ row['a b'] }} {{ c.d }}{{ none }}"
    found = reader("x", JsonlSource(kind="jsonl", paths=f"{tmp_path}/*", template=template), Extract())
    rows = [row for shard in found.shards(None)[0] for row in found.read(shard).documents.to_pylist()]
    assert [row["text"] for row in rows] == ["one two"]


def test_a_field_is_meant_whatever_else_python_or_the_language_knows_by_its_name(tmp_path: Path) -> None:
    thread = {"items": ["a", "b"], "update": "noon", "copy": {"values": 5}}
    rows = [{"thread": thread, "range": "1-2", "namespace": "talk"}, {"thread": {"get": "got"}}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = (
        "{% for item in thread.items %}{{ item }}{% endfor %} {{ thread.update }} {{ thread.copy.values }} {{ range }} "
        "{{ namespace }} {{ thread.get }}.{{ dict }}"
    )
    found = reader("x", JsonlSource(kind="jsonl", paths=f"{tmp_path}/*", template=template), Extract())
    [read] = [found.read(shard) for shard in found.shards(None)[0] if shard.parts]
    assert [row["text"] for row in read.documents.to_pylist()] == ["ab noon 5 1-2 talk ."]
    assert read.ledger["dropped"] == {"no_text": 1}  # of the other `items` is what Python knows by it
    assert read.ledger["lacking"] == ["dict", "get"]
    template = "{% for name, value in thread.items() %}{{ name }}: {{ value }}{% endfor %}{{ range }}{{ thread.copy }}"
    found = reader("x", JsonlSource(kind="jsonl", paths=f"{tmp_path}/*", template=template), Extract())
    texts = [text for shard in found.shards(None)[0] for text in found.read(shard).documents["text"].to_pylist()]
    assert texts == ["get: got"]


def test_a_template_reaches_nothing_but_its_record_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    for template in ("{{ text.__class__.__mro__ }}", "{% include 'x' %}{{ text }}", "{{ range(10**9) | list }}"):
        found = reader("x", JsonlSource(kind="jsonl", paths=f"{tmp_path}/*", template=template), Extract())
        [shard] = [shard for shard in found.shards(None)[0] if shard.parts]
        assert found.read(shard).ledger["dropped"] == {"no_text": 1}
    with pytest.raises(ValidationError, match="the template has no field of a record; one stands in two braces"):
        JsonlSource(kind="jsonl", paths="x", template="{title}: {text}")
    with pytest.raises(ValidationError, match="line 1 of the template"):
        JsonlSource(kind="jsonl", paths="x", template="{% for %}")
    plain = reader("x", JsonlSource(kind="jsonl", paths="x"), Extract())
    assert "template" not in plain.hashed_settings()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_name_that_no_record_has_is_said_by_the_run(tmp_path: Path, kind: str) -> None:
    messages = [{"role": "user", "content": "Where does the river go, and who washes gold there?"}]
    rows = [{"messages": messages, "title": "One"}, {"messages": messages * 2, "title": None}] * 40
    for number in range(2):
        if kind == "jsonl":
            (tmp_path / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{number}.parquet")
    template = (
        "{{ title }}{{ subject }}{% for m in messages %}{{ m.role }}: {{ m.contnet }}{{ m.content }}\\n{% endfor %}"
    )
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: chats\nstore: {tmp_path}/store\nchannels: {{all: 'true'}}\n"
        f"sources: {{chats: {{kind: {kind}, paths: '{tmp_path}/*.{kind}', template: \"{template}\"}}}}\n"
    )
    [result] = go(spec, until="documents").execution.results
    assert result.note == "; ".join(
        f"no record of source chats has the {name} that its template prints: see how they call it"
        for name in ("contnet", "subject")
    )
    assert go(spec, until="documents").execution.results[0].note == result.note
    right = template.replace("contnet", "role").replace("subject", "title")
    spec.write_text(spec.read_text().replace(template, right))
    assert go(spec, until="documents").execution.results[0].note == ""
