"""Numbers as people read them."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from data_specs.amounts import decimal, digits, plural

NUMBERS = st.floats(-2, 2).filter(lambda value: not 0 < abs(value) < 1e-9)


def test_one_is_not_many() -> None:
    shown = [plural(count, "file") for count in (0, 1, 2, 1000)]
    assert shown == ["0 files", "1 file", "2 files", "1,000 files"]
    assert [plural(count, "copy", "copies") for count in (1, 2)] == ["1 copy", "2 copies"]


def test_a_number_that_is_not_one_is_not_shown_as_one() -> None:
    shown = {
        1.0: "1.000",
        0.9994: "0.999",
        0.9997: "0.9997",
        0.999996: "0.999996",
        1.0004: "1.0004",
        1 - 1e-12: "1.000",
    }
    assert {value: decimal(value) for value in shown} == shown
    assert [decimal(math.nan), decimal(math.inf)] == ["nan", "inf"]


def test_a_number_beside_its_limit_is_not_shown_as_the_limit() -> None:
    assert [decimal(value, 4, 0.8) for value in (0.8, 0.79998, 0.7999)] == ["0.8000", "0.79998", "0.7999"]
    assert [digits(value, 3, 4) for value in (3.9, 3.998, 4, 3.9999996)] == ["3.9", "3.998", "4", "3.9999996"]
    assert digits(100 * (0.1 + 1e-12), 5, 10) == "10.0000000001"


@given(value=NUMBERS, bound=NUMBERS)
def test_no_bound_is_shown_that_is_not_reached(value: float, bound: float) -> None:
    for each in (0.0, 1.0, bound):
        assert float(decimal(value, 2, bound)) != each or abs(value - each) < 1e-9
    assert float(digits(value, 3, bound)) != bound or value == bound
