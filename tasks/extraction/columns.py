"""Cells of tables in their columns, where some span several columns or rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MOST = 200
"""Columns that cells span, at most."""


class Cell(NamedTuple):
    text: str
    rows: int = 1
    columns: int = 1
    """How many it spans."""


class Above:
    """The cells of the rows before, as far as they go on in those that follow."""

    def __init__(self, most: int | None = None) -> None:
        """`most`: characters that they may be repeated by, a bar between two with them; beyond that they end."""
        self._cells: dict[int, tuple[int, str]] = {}
        """Column -> rows that a cell above goes on in, and its text."""
        self._left = most

    def in_columns(self, cells: Iterable[Cell]) -> list[str]:
        """The texts of the next row, each in its column: one that spans several stands in the first of these, one that
        spans several rows in each of these."""
        row, below = list[str](), dict[int, tuple[int, str]]()
        for cell in cells:
            self._go_on(row, below)
            for text in (cell.text, *[""] * min(cell.columns - 1, MOST - len(row) - 1)):
                if cell.rows > 1 and len(row) < MOST:
                    below[len(row)] = cell.rows - 1, text
                row.append(text)
        self._go_on(row, below)
        self._cells = below
        return row

    def _go_on(self, row: list[str], below: dict[int, tuple[int, str]]) -> None:
        while (column := len(row)) in self._cells and column < MOST:
            left, text = self._cells.pop(column)
            if self._left is not None:
                self._left -= len(text) + 3
                if self._left < 0:
                    return self._cells.clear()
            row.append(text)
            if left > 1:
                below[column] = left - 1, text
        return None
