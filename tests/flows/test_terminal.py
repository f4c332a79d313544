"""How values are shown in tables."""

from __future__ import annotations

import math

import pytest

from data_specs.amounts import decimal
from data_specs.groups import named
from flows.terminal import cell, lineage, percent, rounded, rows


def test_a_small_number_is_not_shown_as_none() -> None:
    shown = {
        0.0: "0.000",
        0.0004: "0.0004",
        -0.00012345: "-0.00012",
        0.0006: "0.001",
        2.71828: "2.718",
        math.inf: "inf",
    }
    assert {value: cell(value) for value in shown} == shown
    assert [cell(math.nan), cell(1234567), cell(None)] == ["nan", "1,234,567", ""]


def test_with_fewer_decimals_a_small_number_is_not_shown_as_none_either() -> None:
    shown = {0.0: "0.00", 0.00347: "0.0035", 0.0051: "0.01", 1.5: "1.50", -0.00347: "-0.0035", 12.346: "12.35"}
    assert {value: decimal(value, 2) for value in shown} == shown


def test_a_share_looks_like_none_or_all_only_where_it_is() -> None:
    shown = {0.0: "0.0 %", 1e-6: "<0.1 %", 0.0004: "<0.1 %", 0.0006: "0.1 %", 0.12345: "12.3 %"}
    shown |= {0.9994: "99.9 %", 0.99951: ">99.9 %", 1 - 1e-6: ">99.9 %", 1.0: "100.0 %", 1 - 1e-13: "100.0 %"}
    assert {share: percent(share) for share in shown} == shown
    assert [percent(1e-5, 2), percent(1 - 1e-5, 2)] == ["<0.01 %", ">99.99 %"]


def test_tokens_of_rows_of_which_an_objective_predicts_some_are_not_called_targets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    use = {
        "run": "a",
        "steps": [{"step": 1, "tokens": 9}],
        "tokens": 9,
        "augmented": {},
        "to_come": 0,
        "held_out": False,
    }
    verdict = {"kept": True, "reason": None, "because": "it passes every rule, in en", "fails": [], "passes": 0}
    for predicted, said in ((True, "9 targets"), (False, "9 tokens read")):
        found = {"id": "0a", "source": "web", "url": "http://a.org/", "file": "a", "verdict": verdict}
        lineage(found | {"runs": [use | {"predicted": predicted}]})
        assert f"trained on at steps 1: {said}" in capsys.readouterr().out


def test_no_value_and_a_value_that_is_called_none_are_groups_of_two_names() -> None:
    values = [None, "none", "'none'", "''none''", "'none", "", "zh"]
    assert len({named(value) for value in values}) == len(values)
    assert [named(None), named("none"), named("zh")] == ["none", "'none'", "zh"]


def test_an_empty_text_of_an_answer_is_not_shown_as_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    rows(["reason", "count"], iter([[None, 1], ["", 2]]))
    none, empty = (line for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert "''" in empty
    assert "''" not in none


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (12_345, "12.3K"),
        (99_999, "100K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (4_567_000_000, "4.57B"),
        (5 * 10**12, "5.00T"),
    ],
)
def test_a_rounded_count_keeps_three_digits_and_its_unit(count: int, shown: str) -> None:
    assert rounded(count) == shown
