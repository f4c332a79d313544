"""What commands print for a person. Crawled text is hostile here too: it is never taken for markup, and no control
character of it reaches the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Column, Table

_WIDE = 2000
"""Columns where no terminal cuts the lines."""
_SIDE_BY_SIDE = 8
"""Columns of a table, at most; rows with more are printed one below the other."""
_NARROW = 12
"""Characters that a column of a table needs, at least."""
_LONGEST = 1000
"""Rows that are printed, at most."""


def console() -> Console:
    """Standard output as it is now."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)


def line(value: Any, longest: int = 200) -> str:
    """A value in one line, cut at `longest` characters; empty for None."""
    if value is None:
        return ""
    text = " ".join(str(value).split())
    return clean(text if len(text) <= longest else text[:longest] + " ...")


def cell(value: Any) -> str:
    """A value in a table: thousands' separators or three decimals; empty for None."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def clean(text: str) -> str:
    """The text with every control character but newline and tab replaced."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table, of which a narrow terminal folds the cells and cuts nothing."""
    return Table(*(Column(clean(name), overflow="fold") for name in columns), title=title)


def pairs(values: Iterable[tuple[str, Any]], title: str | None = None) -> None:
    """Print names and values, one pair a line."""
    grid = table("", "", title=title)
    grid.show_header = False
    for name, value in values:
        grid.add_row(clean(name), line(value))
    console().print(grid)


def rows(columns: Sequence[str], found: Iterator[Sequence[Any]]) -> None:
    """Print rows, of many only the first, and how many there are."""
    shown = list(islice(found, _LONGEST))
    if len(columns) > min(_SIDE_BY_SIDE, console().width // _NARROW):
        for number, row in enumerate(shown, 1):
            pairs(zip(columns, row, strict=True), f"row {number:,}")
    else:
        grid = table(*columns)
        for row in shown:
            grid.add_row(*(line(value) for value in row))
        console().print(grid)
    count = f"{len(shown):,} {'row' if len(shown) == 1 else 'rows'}"
    more = next(found, None) is not None
    console().print(f"the first {count}; `--json` gives all, a `limit` fewer" if more else count)


def document(found: dict[str, Any]) -> None:
    """Print one document, its text last."""
    pairs((name, value) for name, value in found.items() if name != "text")
    console().print(clean(found["text"]), soft_wrap=True)
