"""Rows of files that are no sources: CSV is read by the book, as a stray mark would move or swallow texts."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data_specs.document import SpecError
from tasks.text.rows import rows_of


def rows(path: Path, text: str, numbered: bool = False) -> list[object]:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return list(rows_of(str(path), numbered))


def test_csv_is_read_with_its_quotation_marks_and_empty_lines(tmp_path: Path) -> None:
    text = '\ufeffquestion,answer\r\n"Why, and ""how""?\nSay.",no\r\n\r\n多少？,三\r\n'
    expected = [{"question": 'Why, and "how"?\nSay.', "answer": "no"}, {"question": "多少？", "answer": "三"}]
    for name in ("a.csv", "a.csv.gz"):
        assert rows(tmp_path / name, text) == expected
    assert rows(tmp_path / "a.csv", "a,b\nc,d", numbered=True) == [["a", "b"], ["c", "d"]]
    assert rows(tmp_path / "a.csv", "") == rows(tmp_path / "a.csv", "", numbered=True) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url,label\n"https://a,3\nhttps://b,4\n', "unexpected end of data"),  # the rest of the file in one field
        ('url,label\n"https://a"/x,3\n', "expected after"),
        ("text,label\nyes, I would,3\n", r"row 0 has 3 fields, the first line 2: yes, "),
        ("text,label\nyes,3\nno\n", "row 1 has 1 field,"),
        ("text,label,label\nyes,3,4\n", "two columns of the name label"),
    ],
)
def test_csv_that_is_cut_or_badly_quoted_is_refused_by_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        rows(tmp_path / "a.csv", text)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    body = bytearray(gzip.compress(b'{"a": 1}\n' * 500))
    for place in range(10, len(body), 3):
        body[place] ^= 4
        (tmp_path / "a.jsonl.gz").write_bytes(body)
        with pytest.raises(SpecError, match="cannot be read"):
            list(rows_of(str(tmp_path / "a.jsonl.gz"), numbered=False))
        body[place] ^= 4
