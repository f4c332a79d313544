"""The numbers of a list's items, as browsers show them (HTML, 4.4.5, 4.4.8 and 15.3.7): also letters and Roman ones."""

from __future__ import annotations

import re
from typing import Any

_INTEGER = re.compile(r"[ \t\n\f\r]*([+-]?[0-9]{1,9})(?![0-9])")

_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


class Numbering:
    """Counts the items of one list, which begin where `start` says, else at 1; of a `reversed` one at their number."""

    def __init__(self, element: Any) -> None:
        """`element`: a `ul`, `ol` or `menu` of lxml."""
        self._step = 0
        """From an item to the next; 0 of a list without numbers."""
        self._type = element.get("type")
        if element.tag == "ol":
            self._step = 1 if element.get("reversed") is None else -1
            first = 1 if self._step > 0 else sum(1 for _ in element.iterchildren("li"))
            self._next = _integer(element.get("start"), first)

    def of(self, item: Any) -> str | None:
        """The number of the next item; None in a list without numbers."""
        if not self._step:
            return None
        number = _integer(item.get("value"), self._next)
        self._next = number + self._step
        match item.get("type") or self._type:
            case "a":
                return _letters(number).lower()
            case "A":
                return _letters(number)
            case "i":
                return _roman(number).lower()
            case "I":
                return _roman(number)
        return str(number)


def _letters(number: int) -> str:
    """1 is A, 26 Z, 27 AA; what is below 1 has no letter."""
    if number < 1:
        return str(number)
    found = ""
    while number:
        number, letter = divmod(number - 1, 26)
        found = chr(ord("A") + letter) + found
    return found


def _roman(number: int) -> str:
    """From 1 to 3,999, beyond which there are none."""
    if not 1 <= number <= 3999:
        return str(number)
    found = ""
    for size, sign in _ROMAN:
        count, number = divmod(number, size)
        found += sign * count
    return found


def _integer(text: str | None, default: int) -> int:
    found = _INTEGER.match(text or "")
    return int(found[1]) if found else default
