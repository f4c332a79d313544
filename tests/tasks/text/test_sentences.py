"""Where sentences end, against sentences that were told apart by hand."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.sentences import sentences


@pytest.mark.parametrize(
    "wanted",
    [
        ["Dr. Smith came on the 3rd of May.", "He paid $3.50 for it!", "(Why?)", "Nobody knows…"],
        ["The U.S. Army left.", '"It is over."', "Then J. R. Tolkien, e.g. his letters, was read."],
        ["See fig. 3 and No. 5 of vol. 2.", "It costs 5 a.m. calls"],
        ["春天来了。", "他说：“我们走吧！”", "大家……都笑了！！", "好吗？"],
        ["Wait... what?", "Yes."],
        ["No mark at all"],
    ],
    ids=lambda wanted: wanted[0][:12],
)
def test_sentences_are_told_apart_as_readers_do(wanted: list[str]) -> None:
    for between in ("", " ", "  ") if not wanted[0].isascii() else (" ", "  "):
        line = between.join(wanted)
        assert [line[start:end] for start, end in sentences(line)] == wanted


@given(st.text(alphabet='ab.A !?。”"\t…U', max_size=40))
def test_sentences_hold_all_but_the_space_between_them(line: str) -> None:
    places = list(sentences(line))
    found = [line[start:end] for start, end in places]
    assert "".join(found).replace(" ", "").replace("\t", "") == line.replace(" ", "").replace("\t", "")
    assert all(each and each == each.strip() for each in found)
    assert places == sorted(places)


def test_a_line_of_nothing_but_initials_costs_no_square_of_its_length() -> None:
    started = time.process_time()
    assert len(list(sentences("A. " * 100_000))) == 1
    assert time.process_time() - started < 20
