"""Layouts of Hugging Face and datatrove: values within `metadata`, and Arrow files of `datasets`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs.extract import Extract
from data_specs.sources import ArrowSource, JsonlSource, ParquetSource
from tasks.sources import Reader, reader

ROWS: list[dict[str, Any]] = [
    {"text": "one", "id": "a", "metadata": {"url": "http://x/1", "language_score": 0.5, "dump": {"name": "D", "n": 1}}},
    {"text": "two", "id": "b", "metadata": {"url": None, "language_score": 1.0, "dump": {"name": "E", "n": 2}}},
    {"text": None, "id": "c", "metadata": {"url": "http://x/3", "language_score": 0.1, "dump": None}},
    {"text": "four", "id": "d", "metadata": None},
]
OWN = {"id_given": "string", "score": "float", "dump": "string", "n": "int"}
KEYS = {"id_given": "id", "score": "metadata.language_score", "dump": "metadata.dump.name", "n": "metadata.dump.n"}
SETTINGS = {"url": "metadata.url", "columns": OWN, "keys": KEYS}
FOUND = [
    ("one", "http://x/1", "a", 0.5, "D", 1),
    ("two", None, "b", 1.0, "E", 2),
    ("four", None, "d", None, None, None),
]


def table() -> pa.Table:
    return pa.Table.from_pylist(ROWS)


def stream(path: Path, rows: pa.Table, file: bool = False) -> None:
    """As `save_to_disk` writes, batches of two rows; or the same as a file of Arrow's IPC."""
    made = pa.ipc.new_file if file else pa.ipc.new_stream
    with made(str(path), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=2)


def source(folder: Path, kind: str, **more: Any) -> Reader:
    if kind == "jsonl":
        (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        return reader("hub", JsonlSource(kind="jsonl", paths=str(folder / "*"), **SETTINGS, **more), Extract())
    if kind == "parquet":
        pq.write_table(table(), folder / "a.parquet", row_group_size=3)
        return reader("hub", ParquetSource(kind="parquet", paths=str(folder / "*"), **SETTINGS, **more), Extract())
    stream(folder / "data-00000-of-00001.arrow", table(), kind == "arrow file")
    return reader("hub", ArrowSource(kind="arrow", paths=str(folder / "*"), **SETTINGS, **more), Extract())


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "arrow file"])
def test_values_within_others_are_read_by_their_path(tmp_path: Path, kind: str) -> None:
    found = source(tmp_path, kind)
    reads = [found.read(shard) for shard in found.shards(None)[0]]
    rows = [row for read in reads for row in read.documents.to_pylist()]
    assert [tuple(row[name] for name in ("text", "url", *OWN)) for row in rows] == FOUND
    assert sum(read.ledger["dropped"].get("no_text", 0) for read in reads) == 1
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in rows)


def test_large_lines_are_picked_from_by_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.sources.jsonl._LARGE", 10)
    monkeypatch.setattr("tasks.sources.jsonl._PARTS", 1)
    found = source(tmp_path, "jsonl")
    rows = [row for shard in found.shards(None)[0] for row in found.read(shard).documents.to_pylist()]
    assert [tuple(row[name] for name in ("text", "url", *OWN)) for row in rows] == FOUND


def test_a_key_that_is_written_with_dots_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "a.b": 1, "a": {"b": 2}}\n{"text": "y", "a": {"b": 3}}\n')
    settings = JsonlSource(kind="jsonl", paths=str(tmp_path / "*"), columns={"n": "int"}, keys={"n": "a.b"})
    found = reader("hub", settings, Extract())
    rows = [row for shard in found.shards(None)[0] for row in found.read(shard).documents.to_pylist()]
    assert [row["n"] for row in rows] == [1, 3]


def test_what_is_no_arrow_file_or_breaks_off_is_quarantined(tmp_path: Path) -> None:
    stream(tmp_path / "whole.arrow", table())
    data = (tmp_path / "whole.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(data[: len(data) * 3 // 4])
    (tmp_path / "none.arrow").write_bytes(b"x" * 100)
    found = reader("hub", ArrowSource(kind="arrow", paths=str(tmp_path / "*"), **SETTINGS), Extract())
    reads = [found.read(shard) for shard in found.shards(None)[0]]
    reasons = {key: value for read in reads for key, value in read.ledger.get("files", {}).items()}
    assert reasons == {"cut.arrow": {"truncated": 1}, "none.arrow": {"unreadable": 1}}
    assert sum(read.documents.num_rows for read in reads) == 3 + 2


def test_a_source_without_paths_has_the_fingerprint_that_it_had() -> None:
    found = reader("hub", ParquetSource(kind="parquet", paths="x"), Extract())
    assert "keys" not in found.hashed_settings()
