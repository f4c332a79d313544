"""Differences of two texts, word by word, and how they are shown."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import terminal
from flows.word_diff import Piece, pieces, shortened
from tests import whole
from tests.commands import ask, told

TEXTS = st.lists(st.sampled_from(["one", "two", " ", "\n", "\n\n", "河", "流", ",", "Ａ", "A"]), max_size=30).map(
    "".join
)


@given(TEXTS, TEXTS)
def test_the_pieces_are_both_texts(before: str, after: str) -> None:
    found = pieces(before, after)
    assert "".join(piece.text for piece in found if piece.kind != "added") == before
    assert "".join(piece.text for piece in found if piece.kind != "removed") == after
    if before == after:
        assert {piece.kind for piece in found} <= {"equal"}


def test_words_differ_whole_and_characters_of_chinese_alone() -> None:
    assert pieces("The cafÃ© is open", "The café is open") == [
        ("equal", "The "),
        ("removed", "cafÃ©"),
        ("added", "café"),
        ("equal", " is open"),
    ]
    assert pieces("乾隆皇帝", "干隆皇帝") == [("removed", "乾"), ("added", "干"), ("equal", "隆皇帝")]


def test_equal_text_is_shown_around_what_differs_alone() -> None:
    before = "a " * 500 + "here" + " b" * 500 + " there" + " c" * 500
    found = shortened(pieces(before, before.replace("here", "now", 1)))
    assert [piece.kind for piece in found] == ["skipped", "equal", "removed", "added", "equal", "skipped"]
    assert sum(len(piece.text) for piece in found) < 300
    assert shortened([Piece("equal", "short"), Piece("added", "x")]) == [("equal", "short"), ("added", "x")]


def test_of_many_differences_the_first_are_shown_and_the_others_counted() -> None:
    before = "".join(f"word{n} and\n" for n in range(1000))
    found = shortened(pieces(before, before.replace("and", "or")), 10)
    assert sum(piece.kind in ("removed", "added") for piece in found) == 10
    assert found[-1] == ("skipped", "1,990 more differences")


def test_texts_that_have_nothing_in_common_take_no_time() -> None:
    chance = random.Random(1)
    one, other = ("".join(chance.choices("abcdef \n", k=300_000)) for _ in range(2))
    started = time.process_time()
    found = pieces(one, other)
    assert time.process_time() - started < 30
    assert "".join(piece.text for piece in found if piece.kind != "added") == one


def test_what_differs_is_marked_and_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "text": "Full　width\x1b[2J cafÃ©\n\n\n\nend",
        "clean": "Full width\x1b[2J café\n\nend",
        "rewriting": {"from": "text", "to": "clean"},
        "verdict": {"kept": None, "reason": None, "because": "not computed", "fails": [], "passes": 0},
    }
    terminal.document(document, {})
    said = capsys.readouterr().out
    assert "[-\\u3000-]{+·+}" in said
    assert "[-cafÃ©-]{+café+}" in said
    assert "⏎" in said
    assert "\x1b[2J" not in said
    terminal.document(document | {"clean": document["text"]}, {})
    assert "beside `text`, which was extracted: the same" in capsys.readouterr().out


def test_inspect_shows_both_texts_of_a_document_that_was_rewritten(tmp_path: Path) -> None:
    rows = [
        {"text": "The cafÃ© is open.", "url": "http://a/1", "score": 0.5},
        {"text": "As it is.", "url": "http://a/2"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: diff\nstore: {tmp_path}/store\nchannels: {{all: 'true'}}\n"
        "text: clean\nstages: {clean: {kind: normalise}}\n"
        f"sources: {{web: {{kind: jsonl, paths: {tmp_path}/a.jsonl, columns: {{score: float}}}}}}\n"
    )
    whole.go(spec, until="verdict")
    shown = ask("inspect", spec, "http://a/1").stdout
    assert "The [-cafÃ©-]{+café+} is open." in shown
    assert "score" in shown
    assert "The café is open." in shown
    assert "the same" in ask("inspect", spec, "http://a/2").stdout
    found = told("inspect", spec, "http://a/1")
    assert found["rewriting"] == {"from": "text", "to": "clean"}
    assert (found["text"], found["clean"]) == ("The cafÃ© is open.", "The café is open.")
