"""Numbers as people read them: with their noun, and never rounded to a bound that they do not reach."""

from __future__ import annotations

_NOISE = 1e-9
"""What a number may be off that is one of its bounds."""


def plural(number: int, what: str, many: str | None = None) -> str:
    """`1 file`, `2 files`; what ends otherwise says how: `2 copies`."""
    return f"{number:,} {what if number == 1 else many or f'{what}s'}"


def decimal(value: float, decimals: int = 3, *bounds: float) -> str:
    """A number with so many decimals; with more where these would show it as one, or as one of `bounds`, and it is
    not; of one that they would show as none the first two digits."""
    if value and abs(value) < 0.5 * 10.0**-decimals:
        return f"{value:.2g}"
    shown = f"{value:.{decimals}f}"
    while any(float(shown) == bound and abs(value - bound) >= _NOISE for bound in (1.0, *bounds)):
        decimals += 1
        shown = f"{value:.{decimals}f}"
    return shown


def digits(value: float, least: int, *bounds: float) -> str:
    """A number with so many digits, and with as many more as tell it from `bounds`."""
    shown = f"{value:.{least}g}"
    while any(float(shown) == bound != value for bound in bounds):
        least += 1
        shown = f"{value:.{least}g}"
    return shown
