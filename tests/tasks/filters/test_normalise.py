"""Normalise: what each step changes, and what it leaves."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from data_specs import stages
from tasks.filters.normalise import Normalise

NONE = {"repair": False, "width": False, "blank_lines": False}


def normalised(text: str, **settings: Any) -> str:
    stage = Normalise(stages.Normalise(**(NONE | settings)))
    return stage(pa.table({"text": [text]}))["normalise"][0].as_py()


@pytest.mark.parametrize(
    ("settings", "text", "wanted"),
    [
        ({}, "ｃａｆÃ©　１２\n\n\n\n頭髮", "ｃａｆÃ©　１２\n\n\n\n頭髮"),
        ({"repair": True}, "un cafÃ© à cÃ´tÃ©, &amp; “quoted” ﬁne，好", "un café à côté, &amp; “quoted” ﬁne，好"),
        ({"repair": True}, "x = 'Ã' # the letter", "x = 'Ã' # the letter"),
        ({"width": True}, "ＡＢＣ１２３　和，。（）！？", "ABC123 和，。（）！？"),
        ({"blank_lines": True}, "a\n\n\n\nb\n \n\t\nc\n\nd\ne", "a\n\nb\n\nc\n\nd\ne"),
        ({"chinese": "simplified"}, "乾隆皇帝喝乾淨的水，頭髮發財", "乾隆皇帝喝干净的水，头发发财"),
        ({"chinese": "traditional"}, "头发发财", "頭髮發財"),
    ],
)
def test_a_step_changes_what_it_says_and_nothing_else(settings: dict[str, Any], text: str, wanted: str) -> None:
    assert normalised(text, **settings) == wanted


def test_no_step_is_on_in_a_spec_that_names_no_such_stage_and_the_plain_ones_are_on_in_one_that_does() -> None:
    assert stages.Normalise().model_dump(include=set(NONE) | {"chinese"}) == dict.fromkeys(NONE, True) | {
        "chinese": None
    }


def test_a_text_of_nothing_but_space_is_emptied() -> None:
    found = Normalise(stages.Normalise())(pa.table({"text": ["　", "a", ""]}))
    assert found.to_pydict() == {"normalise": ["", "a", ""], "normalise_emptied": [True, False, False]}


def test_what_the_gate_skips_keeps_its_text() -> None:
    stage = Normalise(stages.Normalise(where="true"))
    made = pa.table([pa.array(["x", None]), pa.array([True, None])], schema=stage.writes)
    filled = stage.filled(made, pa.table({"text": ["a", "b"]}))
    assert filled.to_pydict() == {"normalise": ["x", "b"], "normalise_emptied": [True, False]}
