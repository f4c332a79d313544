"""Blocks of a page as a text, or as Markdown with its headings, lists, tables, quotations and code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from tasks.extraction.blocks import CODE, HEADINGS, Block

Format = Literal["text", "markdown"]
_INLINE_CODE = re.compile(f"{CODE}([^{CODE}]*){CODE}?")
_FENCE = re.compile(r"^\s*(`{3,})", re.MULTILINE)


def render(blocks: Sequence[Block], form: Format) -> str:
    """The blocks in a form, in their order."""
    return _markdown(blocks) if form == "markdown" else "\n".join(map(_text, blocks))


def _text(block: Block) -> str:
    """A block as lines: an item has a dash or its number before it, a row its cells up to the last with a text; one
    that stands alone in its row, as in a page's frame, needs no bars."""
    if block.cells is not None:
        filled = [place for place, cell in enumerate(block.cells) if cell]
        text = " | ".join(block.cells[: filled[-1] + 1]).lstrip() if len(filled) > 1 else "".join(block.cells)
    else:
        text = f"{_mark(block.item[1])} {block.text}" if block.item else block.text
    return text if block.kind == "pre" else text.replace(CODE, "")


def _markdown(blocks: Sequence[Block]) -> str:
    found: list[str] = []
    for kind, group in groupby(blocks, _belongs):
        if kind == "table":
            found.append(_table([*group]))
        elif kind == "list":
            found.append("\n".join(_quoted(block, _item(block)) for block in group))
        else:
            found += [_quoted(block, _paragraph(block)) for block in group]
    return "\n\n".join(found)


def _belongs(block: Block) -> str:
    """What is written without blank lines between it."""
    return "table" if block.cells is not None else "list" if block.item else ""


def _paragraph(block: Block) -> str:
    if block.kind == "pre":
        return _fenced(block)
    text = _with_code(block.text)
    if level := HEADINGS.get(block.kind):
        return f"{'#' * level} {text.replace(chr(10), ' ')}"
    return text


def _item(block: Block) -> str:
    depth, number = block.item or (1, None)
    mark = _mark(number)
    indent = " " * (len(mark) + 1)
    lines = _with_code(block.text).split("\n")
    return "\n".join(
        "   " * (depth - 1) + line for line in (f"{mark} {lines[0]}", *(indent + line for line in lines[1:]))
    )


def _mark(number: str | None) -> str:
    return "-" if number is None else f"{number}."


def _fenced(block: Block) -> str:
    longest = max((len(fence) for fence in _FENCE.findall(block.text)), default=2)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{block.language}\n{block.text}\n{fence}"


def _table(rows: Sequence[Block]) -> str:
    """Rows as a table, the first one its head; short ones are filled."""
    width = max(len(row.cells or ()) for row in rows)
    lines = [_row(row.cells or (), width) for row in rows]
    return "\n".join((lines[0], "| " + " | ".join(["---"] * width) + " |", *lines[1:]))


def _row(cells: Iterable[str], width: int) -> str:
    texts = [_with_code(cell).replace("|", "\\|") for cell in cells]
    return "| " + " | ".join([*texts, *[""] * (width - len(texts))]) + " |"


def _quoted(block: Block, text: str) -> str:
    return text if not block.quotes else "\n".join("> " * block.quotes + line for line in text.split("\n"))


def _with_code(text: str) -> str:
    """A text with its inline code between backticks."""
    return _INLINE_CODE.sub(_ticked, text) if CODE in text else text


def _ticked(found: re.Match[str]) -> str:
    code = found[1]
    inner = code.strip()
    if not inner:
        return code
    before, _, after = code.partition(inner)
    return f"{before}`` {inner} ``{after}" if "`" in inner else f"{before}`{inner}`{after}"
