"""The population stability index, by hand, and against samples of one distribution."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tasks.engine import drift


def test_it_is_the_sum_over_bins_of_differences_times_logarithms_of_ratios() -> None:
    expected, actual = {"a": 500_000, "b": 500_000}, {"a": 800_000, "b": 200_000}
    by_hand = (0.8 - 0.5) * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert drift.index(expected, actual) == pytest.approx(by_hand, rel=1e-4)
    assert drift.index(actual, expected) == pytest.approx(by_hand, rel=1e-4)
    assert drift.index(expected, expected) == 0


def test_a_bin_that_is_empty_on_one_side_has_a_finite_part() -> None:
    assert 1 < drift.index({"a": 1000, "b": 1000}, {"a": 1000}) < 10


def test_rare_names_count_as_one_and_neighbouring_bins_of_numbers_are_put_together() -> None:
    rare = {f"rare{n}": 1 for n in range(50)}
    moved = {f"other{n}": 1 for n in range(50)}
    assert drift.index({"en": 10_000} | rare, {"en": 10_000} | moved) < 1e-9
    one, other = {"-2": 1, "-1": 1, "0": 998}, {"-2": 2, "-1": 0, "0": 998}
    assert drift.index(one, other, numbers=True) == 0


def test_samples_of_one_distribution_stay_below_chance_and_others_do_not() -> None:
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(np.ones(12))

    def sample(count: int, shares: np.ndarray) -> dict[str, int]:
        return Counter(map(str, rng.choice(12, count, p=shares).tolist()))

    above = 0
    for _ in range(300):
        one, other = sample(2000, shares), sample(500, shares)
        above += drift.index(one, other) > drift.chance(one, other)
    assert above <= 3
    one, other = sample(2000, shares), sample(500, shares[::-1])
    assert drift.index(one, other) > drift.chance(one, other)
    assert drift.chance({"a": 5}, {"a": 5}) == math.inf
