"""JSON lines and folders: a document or a reason for every line and file, groups that stay, records read again."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard

from data_specs.extract import Extract
from data_specs.sources import FolderSource, JsonlSource
from tasks.sources import SourceError, reader
from tests.tasks.sources.test_sources import read_all

LINES = (
    b'{"text": "one\\u00a0gold", "url": "http://a"}\r\n\n{"text": 5}\n[1]\n{"text"\n'
    b'{"text": " "}\n{"text": "two", "url": 3}'
)


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress)])
def test_every_line_is_a_document_or_counted_out(tmp_path: Path, suffix: str, pack: Any) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(LINES))
    source = reader("lines", JsonlSource(kind="jsonl", paths=str(tmp_path / "*")), Extract())
    (read,) = read_all(source)
    assert read.ledger == {
        **{"in": 6, "dropped": {"no_text": 2}, "quarantined": {"not_json": 2}},
        "files": {f"a.jsonl{suffix}": {"not_json": 2}},
    }
    rows = read.documents.to_pylist()
    assert [(row["text"], row["url"], row["kind"]) for row in rows] == [
        ("one gold", "http://a", "text"),
        ("two", None, "text"),
    ]
    assert [json.loads(source.reread(row))["text"] for row in rows] == ["one\xa0gold", "two"]


def test_files_of_lines_that_break_off_or_lie_are_quarantined_and_the_rest_is_read(tmp_path: Path) -> None:
    row = b'{"text": "%d"}\n'
    noise = random.Random(2).randbytes(40_000).hex().encode()
    packed = gzip.compress(b"".join(row % number for number in range(5)) + b'{"text": "' + noise + b'"}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(packed[:-20_000])
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "c.jsonl.zst").write_bytes(b"no zstd")
    (tmp_path / "d.jsonl").write_bytes(row % 7)
    (tmp_path / "e.jsonl.gz").write_bytes(b"")
    (tmp_path / "f.jsonl.zst").write_bytes(b"")
    (tmp_path / "g.jsonl").write_bytes(b"")
    source = reader("lines", JsonlSource(kind="jsonl", paths=str(tmp_path / "*")), Extract())
    (shard,), groups = source.shards(1)
    read = source.read(shard)
    assert groups == 1
    assert read.ledger["quarantined"] == {"truncated": 3, "unreadable": 2}
    assert read.documents["text"].to_pylist() == ["0", "1", "2", "3", "4", "7"]
    assert len(set(read.documents["id"].to_pylist())) == 6


def test_files_of_a_folder_are_documents_of_their_kind(tmp_path: Path) -> None:
    files = {
        "a.py": b"def f():\n\treturn 1  # caf\xe9\n",
        "b.md": b"# Title\n",
        "sub/c.tex": b"\\section{x}",
        "sub/d.txt": b"% a comment\n\\documentclass{article}\n",
        "e.bin": b"\0\1\2",
        "f.py": b" \n",
        "g.py": b"x" * 2000,
        "h.txt": "Жизнь, как она есть, без прикрас и вымысла".encode("utf-16"),
    }
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    settings = FolderSource(kind="code", paths=(str(tmp_path / "**/*"), str(tmp_path / "*.py")), largest=1000, groups=1)
    source = reader("code", settings, Extract())
    (read,) = read_all(source)
    assert read.ledger == {"in": 8, "dropped": {"empty": 1, "not_text": 1, "too_large": 1}, "quarantined": {}}
    rows = {row["file"]: row for row in read.documents.to_pylist()}
    assert list(rows) == sorted(rows)
    assert {name: row["kind"] for name, row in rows.items()} == {
        "a.py": "code",
        "b.md": "markdown",
        "h.txt": "code",
        "sub/c.tex": "latex",
        "sub/d.txt": "latex",
    }
    assert rows["a.py"]["text"] == "def f():\n\treturn 1  # café"
    assert all(source.reread(row) == files[name] for name, row in rows.items())


def test_a_new_file_changes_one_group_and_the_pinned_number_stays(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    source = reader("notes", FolderSource(kind="text", paths=str(tmp_path / "*.txt")), Extract())
    before, groups = source.shards(None)
    (tmp_path / "new.txt").write_text("new")
    after, same = source.shards(groups)
    assert groups == same == len(before) == 4
    assert len({(s.name, s.digest) for s in after} - {(s.name, s.digest) for s in before}) == 1
    ids = [id_ for shard in after for id_ in source.read(shard).documents["id"].to_pylist()]
    regrouped = [id_ for shard in source.shards(7)[0] for id_ in source.read(shard).documents["id"].to_pylist()]
    assert sorted(ids) == sorted(regrouped)
    assert len(set(ids)) == 41


def test_a_file_that_changed_is_not_read_again_as_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("gold")
    source = reader("notes", FolderSource(kind="text", paths=str(tmp_path / "*")), Extract())
    (read,) = read_all(source)
    (tmp_path / "a.txt").write_text("lead")
    with pytest.raises(SourceError, match=r"source notes: .*a\.txt no longer holds the record"):
        source.reread(read.documents.to_pylist()[0])


@pytest.mark.parametrize(
    "now", [b"", b"lead" * 9, gzip.compress(b'{"text": "gold"}\n{"text": "le'), gzip.compress(b"")]
)
def test_a_compressed_file_that_changed_or_broke_is_not_read_again_as_what_it_was(tmp_path: Path, now: bytes) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "gold"}\n{"text": "silver"}\n'))
    source = reader("lines", JsonlSource(kind="jsonl", paths=str(path)), Extract())
    (read,) = read_all(source)
    path.write_bytes(now)
    with pytest.raises(SourceError, match=r"a\.jsonl\.gz no longer holds the record at byte 17"):
        source.reread(read.documents.to_pylist()[1])
