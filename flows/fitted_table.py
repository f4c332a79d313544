"""Tables for narrow terminals: lines end between words, as long as there is room for these; what has none is folded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

_VALUE = 64
"""Cells of a value, at most: a SHA-256 in hexadecimal. What is longer is a text, as Chinese without spaces."""


class FittedTable(Table):
    """A table whose columns all have the same padding, none where values need its room, and cells that are strings."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines, words = self._longest(str.splitlines), self._longest(str.split)
        if sum(words) > self._room(options.max_width):
            self.padding = 0
        room = self._room(options.max_width)
        if sum(lines) > room:
            words = shared(words, room)
            more = shared([line - word for line, word in zip(lines, words, strict=True)], room - sum(words))
            for column, word, added in zip(self.columns, words, more, strict=True):
                column.width = max(1, word + added)
        yield from super().__rich_console__(console, options)

    def has_room(self, width: int) -> bool:
        """Whether no value has to be folded in a line of so many characters."""
        return sum(min(longest, _VALUE) for longest in self._longest(str.split)) <= self._room(width)

    def _longest(self, parts: Callable[[str], list[str]]) -> list[int]:
        """Per column the characters of the longest part of a cell."""
        cells = ([str(column.header) if self.show_header else "", *map(str, column.cells)] for column in self.columns)
        return [max((cell_len(part) for cell in column for part in parts(cell)), default=0) for column in cells]

    def _room(self, width: int) -> int:
        """Characters of a line that are left for cells."""
        _, right, _, left = self.padding
        return width - 1 - len(self.columns) * (1 + left + right)


def shared(wanted: Sequence[int], room: int) -> list[int]:
    """Widths that have room together: those of which most is wanted have less, all as much."""
    given, order = [0] * len(wanted), sorted(range(len(wanted)), key=wanted.__getitem__)
    for number, place in enumerate(order):
        given[place] = min(wanted[place], max(0, room) // (len(order) - number))
        room -= given[place]
    return given
