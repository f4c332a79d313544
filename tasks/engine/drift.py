"""How far a distribution has moved: the population stability index, and when that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

_LEAST = 0.05
"""Share of the expected values that a bin of numbers has at least: neighbours are put together."""
_RARE = 0.01
"""Names that have less of both sides are counted as one."""
_HALF = 0.5
"""Added to each count, so that a bin without values has a logarithm."""
_QUANTILE = 3.09
"""Standard deviations of the normal distribution's 99.9 %."""


def index(expected: Mapping[str, int], actual: Mapping[str, int], numbers: bool = False) -> float:
    """The population stability index of counts by bin: the sum over bins of (a - e) * ln(a / e), where e and a are the
    bin's shares of the expected and of the actual values.

    It is symmetric, 0 for equal shares; by custom below 0.1 is stable, above 0.25 a shift (N. Siddiqi, Credit Risk
    Scorecards, Wiley 2006; the sum is Jeffreys' divergence, H. Jeffreys, Proc. R. Soc. A 186, 1946). Bins of `numbers`,
    named by whole numbers, are put together until each has a twentieth of the expected values."""
    both = _binned(expected, actual, numbers)
    before, now = (sum(pair[side] + _HALF for pair in both) for side in (0, 1))
    shares = [((e + _HALF) / before, (a + _HALF) / now) for e, a in both]
    return sum((a - e) * math.log(a / e) for e, a in shares)


def chance(expected: Mapping[str, int], actual: Mapping[str, int], numbers: bool = False) -> float:
    """What the index stays below in 999 of 1,000 cases where both are samples of one distribution: (1/n + 1/m) times a
    chi-square of one less than there are bins (B. Yurdakul, J. Naranjo, Statistical properties of the population
    stability index, J. Risk Model Validation 14, 2020), whose quantile is that of Wilson and Hilferty (1931)."""
    before, now = sum(expected.values()), sum(actual.values())
    freedom = len(_binned(expected, actual, numbers)) - 1
    if not (before and now and freedom):
        return math.inf
    spread = 2 / (9 * freedom)
    return (1 / before + 1 / now) * freedom * (1 - spread + _QUANTILE * math.sqrt(spread)) ** 3


def _binned(expected: Mapping[str, int], actual: Mapping[str, int], numbers: bool) -> list[tuple[int, int]]:
    """(expected, actual) of each bin."""
    before, now = max(1, sum(expected.values())), max(1, sum(actual.values()))
    names = sorted(expected.keys() | actual.keys(), key=int if numbers else str)
    pairs = [(expected.get(name, 0), actual.get(name, 0)) for name in names]
    if not numbers:
        rare = [pair for pair in pairs if pair[0] < _RARE * before and pair[1] < _RARE * now]
        common = [pair for pair in pairs if pair not in rare]
        return [*common, *([_total(rare)] if rare else [])]
    found: list[tuple[int, int]] = []
    held: list[tuple[int, int]] = []
    for pair in pairs:
        held.append(pair)
        if _total(held)[0] >= _LEAST * before:
            found.append(_total(held))
            held = []
    if held:
        found[-1:] = [_total([*found[-1:], *held])]
    return found


def _total(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(one for one, _ in pairs), sum(other for _, other in pairs)
