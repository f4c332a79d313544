"""How values are shown in tables."""

from __future__ import annotations

import math

from flows.terminal import cell


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
