"""The page of a corpus's duplicates, with crawled texts that are hostile."""

from __future__ import annotations

import base64
import re
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest

from flows import duplicates_page
from flows.commands import duplicates
from flows.word_diff import pieces

ONE = "A | table, *bold* and _more_ <script>alert(1)</script> [link](http://a.org) # same\nline 河流 https://b.org/x"
OTHER = "A | table, *bold* and <b>less</b> [link](http://a.org) # same\n\n- line 河山 https://b.org/x"


def test_both_texts_stand_side_by_side_with_what_differs_marked_and_nothing_in_them_is_markup() -> None:
    row = duplicates_page.side_by_side(pieces(ONE, OTHER))
    assert "\n" not in row
    left, right = row.removeprefix("| ").removesuffix(" |").split(" | ")
    for cell, text, mark, other in ((left, ONE, "del", "ins"), (right, OTHER, "ins", "del")):
        assert f"<{mark}>" in cell
        assert f"<{other}>" not in cell
        assert set(re.findall(r"<[^>]*>", cell)) <= {f"<{mark}>", f"</{mark}>", "<br>"}
        shown = unescape(re.sub(r"</?(del|ins)>", "", cell).replace("<br>", "\n"))
        assert re.sub(r"\s+", " ", shown) == re.sub(r"\s+", " ", text)
        assert not re.search(r"[*_\[\]()#|`]", re.sub(r"&#\d+;", "", cell))


def test_a_page_has_sizes_pairs_and_clusters() -> None:
    pair = {"similarity": 0.79, "documents": ["a" * 32, "b" * 32], "difference": pieces(ONE, OTHER)}
    member = {"id": "c" * 32, "url": "http://a.org/[x](y)", "kept": True, "reason": None}
    member |= {"similarity": None, "characters": 9}
    cluster = {"cluster": 1, "documents": 30, "kept": 1, "members": [member]}
    summary = {"clusters": [[2, 5, 10, 5], [1001, 1, 2000, 1]], "removed": [[0.8, 4], [1.0, 2]]}
    page = duplicates_page.page("web", summary, [cluster], [pair], 0.8)
    assert "| 2 | 5 | 10 | 5 |" in page
    assert "| 1,001 and more | 1 | 2,000 | 1 |" in page
    assert "| 0.80 and more | 4 |\n| 1 | 2 |" in page
    assert "0.7900, below" in page
    assert "30 documents, 1 kept; 29 are not shown" in page
    assert "[x](y)" not in page


def test_a_page_shows_what_other_thresholds_would_leave_in_a_picture_and_in_numbers() -> None:
    rows = [
        {"threshold": at, "recall": at, "documents": left, "tokens": 10 * left, "channels": {"zh": [left, 10 * left]}}
        for at, left in ((0.5, 80), (0.8, 90), (0.95, 100))
    ]
    found = {"floor": 0.5, "threshold": 0.8, "rows": rows}
    page = duplicates_page.page("web", {"clusters": [], "removed": []}, [], [], 0.8, found)
    assert "| 0.8 | 80.0 % | 90 | 900 |" in page
    [picture] = re.findall(r"!\[[^]]*\]\(data:image/svg\+xml;base64,([^)]*)\)", page)
    assert "zh 80.0 %" in base64.b64decode(picture).decode()
    assert "Other thresholds" not in duplicates_page.page("web", {"clusters": [], "removed": []}, [], [], 0.8)


def test_a_pair_that_rounds_to_the_threshold_is_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[0.8, "a", "b"]], [[0.79996, "c", "d"]]
    asked = iter(rows)
    monkeypatch.setattr(duplicates, "_rows", lambda *_: next(asked))
    monkeypatch.setattr(duplicates, "_texts", lambda _, names: dict.fromkeys(names, "text"))
    pipeline: Any = SimpleNamespace(spec=SimpleNamespace(duplicates=SimpleNamespace(keeps_pairs=True)))
    found = duplicates.near(pipeline, 0.8, 1)
    duplicates.show_pairs(found, 0.8, 0.5)
    said = capsys.readouterr().out
    assert "0.8000  a" in said
    assert "0.79996 (below)  c" in said


def test_a_similarity_is_not_shown_as_one_or_as_the_threshold_where_it_is_neither(
    capsys: pytest.CaptureFixture[str],
) -> None:
    member = {"id": "c" * 32, "url": "http://a.org/", "kept": False, "reason": "duplicate", "characters": 9}
    members = [member | {"similarity": value} for value in (0.9997, 1.0)]
    cluster = {"cluster": 1, "documents": 2, "kept": 0, "members": members}
    pair = {"similarity": 0.79998, "documents": ["a" * 32, "b" * 32], "difference": pieces(ONE, OTHER)}
    duplicates.show_clusters([cluster])
    duplicates.show_pairs([pair], 0.8, 0.5)
    shown = capsys.readouterr().out
    assert "duplicate 0.9997 " in shown
    assert "duplicate 1.000 " in shown
    assert "0.79998 (below)" in shown
    page = duplicates_page.page("web", {"clusters": [], "removed": []}, [cluster], [pair], 0.8)
    assert "| 0.9997 |" in page
    assert "0.79998, below" in page
