"""PDF files, written here by hand, and real ones where they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from data_specs.extract import Extract
from data_specs.sources import PdfSource
from tasks.extraction.pdf import joined
from tasks.sources import Read, reader
from tests.tasks.sources.pdfs import pdf

BODY = [
    "The river carries sand and gravel past the old mill, and on summer mornings",
    "the children wash it for gold. It is heavy, and what is left in the chan-",
    "nels of a sluice box is measured. A well-known box has twelve of them, and a",
    "new one of them is as good as any well-",
    "known one.",
    "Winter ends the work.",
]
TEXT = [
    "The river carries sand and gravel past the old mill, and on summer mornings the children wash it for gold. It is "
    "heavy, and what is left in the channels of a sluice box is measured. A well-known box has twelve of them, and a "
    "new one of them is as good as any well-known one.",
]


def read(folder: Path, files: dict[str, bytes], **settings: Any) -> Read:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    source = reader("papers", PdfSource(kind="pdf", paths=f"{folder}/*", groups=1, **settings), Extract())
    try:
        [shard] = source.shards(None)[0]
        found = source.read(shard)
        rows = found.documents.to_pylist()
        assert all(hashlib.sha256(source.reread(row)).hexdigest() == row["payload"] for row in rows)
    finally:
        source.close()
    return found


def book(pages: int = 6) -> bytes:
    lines = []
    for page in range(1, pages + 1):
        last = f"Winter ends the work of {'abcdefg'[page]}."
        lines.append([f"Gold Washing, chapter {page // 2}", f"{page} of 6", *BODY[:-1], last, f"- {page} -"])
    return pdf(lines, title="Gold (a book)")


def test_a_file_is_a_document_or_counted_out(tmp_path: Path) -> None:
    locked = pdf([BODY]).replace(b"/Root", b"/Encrypt << /Filter /Standard /V 1 /R 2 /O (x) /U (x) /P -4 >> /Root")
    found = read(
        tmp_path,
        {
            "book.pdf": book(),
            "before.pdf": b"junk\n" + book(1),
            "scan.pdf": pdf([[], []], picture=True),
            "blank.pdf": pdf([[]]),
            "text.pdf": b"no pdf",
            "empty.pdf": b"",
            "large.pdf": book() + b"\n" * 20_000,
            "locked.pdf": locked,
            "broken.pdf": b"%PDF-1.4\n" + b"x" * 100,
        },
        largest=20_000,
    )
    rows = {row["file"]: row for row in found.documents.to_pylist()}
    assert rows["book.pdf"]["text"].split("\n") == [
        line for page in "bcdefg" for line in (TEXT[0], f"Winter ends the work of {page}.")
    ]
    assert {name: rows["book.pdf"][name] for name in ("title", "pages", "pages_without_text", "kind")} == {
        "title": "Gold (a book)",
        "pages": 6,
        "pages_without_text": 0,
        "kind": "text",
    }
    assert rows["before.pdf"]["pages"] == 1
    dropped = {"empty": 1, "encrypted": 1, "no_text": 1, "no_text_layer": 1, "not_text": 1, "too_large": 1}
    assert found.ledger["dropped"] == dropped
    assert found.ledger["quarantined"] == {"unreadable": 1}


def test_limits_of_pages_text_and_time_hold(tmp_path: Path) -> None:
    assert read(tmp_path, {"a.pdf": book()}, pages=5).ledger["dropped"] == {"too_large": 1}
    assert read(tmp_path, {"a.pdf": book()}, longest=1000).ledger["dropped"] == {"too_large": 1}
    slow = pdf([["x" * 90] * 5000] * 60)
    assert read(tmp_path, {"a.pdf": slow}, cpu_seconds=0.05).ledger["quarantined"] == {"cpu_limit": 1}


def test_running_titles_and_page_numbers_go_and_what_only_looks_like_them_stays() -> None:
    pages = [["My Title", "1", *BODY[:2], "A. Author 2021 · 7"] for _ in range(5)]
    assert "My Title" not in joined(pages)
    assert "Author" not in joined(pages)
    assert joined([["My Title", *BODY[:2]], ["Another", *BODY[:2]]]).count("Title") == 1
    once = [[f"Part {'abcde'[page]} alone", "12", f"line {'abcde'[page]} of text", "xiv"] for page in range(5)]
    assert joined(once).split("\n") == [line for page in once for line in (page[0], "12", page[2])]


def test_a_page_has_one_number_and_words_and_years_at_its_foot_are_none() -> None:
    for last in ("ill.", "civil", "mix"):
        assert joined([[*BODY[:2], last, "- xiv -"], [*BODY[:2], last]]).count(last) == 2
    page = joined([["12", *BODY[:2], "2012.", "17"], ["MMXX", *BODY[:2], "42", "18"]])
    assert "2012." in page
    assert "42" in page
    assert not {"12", "17", "18"} & set(page.split())


def test_paragraphs_go_on_over_pages_and_chinese_lines_touch() -> None:
    assert joined([BODY[:3], ["new page goes on.", "End."]]).split("\n")[0].endswith("and a new page goes on.")
    chinese = ["河水带着沙子和砾石流过老磨坊，夏天的早晨孩子们", "在那里淘金，到了傍晚才回家吃饭。", "第二段。"]
    assert joined([chinese]) == f"{chinese[0]}{chinese[1]}\n{chinese[2]}"


@pytest.mark.parametrize("line", ["- one", "• two", "3. three", "(a) four"])
def test_points_of_a_list_begin_lines(line: str) -> None:
    assert joined([[BODY[0], line, "x"]]).split("\n")[1] == line
