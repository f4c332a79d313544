"""The numbers of a list's items, as browsers show them (HTML, 4.4.5 and 4.4.8)."""

from __future__ import annotations

import re
from typing import Any

_INTEGER = re.compile(r"[ \t\n\f\r]*([+-]?[0-9]{1,9})(?![0-9])")


class Numbering:
    """Counts the items of one list, which begin where `start` says, else at 1; of a `reversed` one at their number."""

    def __init__(self, element: Any) -> None:
        """`element`: a `ul`, `ol` or `menu` of lxml."""
        self._step = 0
        """From an item to the next; 0 of a list without numbers."""
        if element.tag == "ol":
            self._step = 1 if element.get("reversed") is None else -1
            first = 1 if self._step > 0 else sum(1 for _ in element.iterchildren("li"))
            self._next = _integer(element.get("start"), first)

    def of(self, item: Any) -> int | None:
        """The number of the next item; None in a list without numbers."""
        if not self._step:
            return None
        number = _integer(item.get("value"), self._next)
        self._next = number + self._step
        return number


def _integer(text: str | None, default: int) -> int:
    found = _INTEGER.match(text or "")
    return int(found[1]) if found else default
