"""What commands print for a person. Crawled text is hostile here too: it is never taken for markup, and no control
character of it reaches the terminal but as an escape."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column
from rich.text import Text

from data_specs.amounts import decimal, plural
from data_specs.redaction import escaped
from flows import word_diff
from flows.fitted_table import FittedTable

_WIDTH = 120
"""Characters of a line of a table where no terminal says how many."""
_WIDE = 2000
"""The same where a row is one line: of what is piped on, such as the answer of a query."""
_NOTE = 160
"""Characters of a note inside a table, at most; longer ones stand below it."""
_SIDE_BY_SIDE = 8
"""Columns of a table, at most; rows with more are printed one below the other."""
_NOISE = 1e-9
"""What a sum of shares may be off."""
_ROOMY = 100
"""Characters of a line in which a table of `_MANY` columns keeps its room beside cells."""
_MANY = 7
"""See `_ROOMY`."""
STEPS = 20
"""Steps of a training that are named for one document, at most."""
LONGEST = 1000
"""Rows that are printed, at most."""


def console(wide: bool = False) -> Console:
    """Standard output as it is now."""
    width = None if sys.stdout.isatty() else _WIDE if wide else _WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def line(value: Any, longest: int | None = 200) -> str:
    """A value in one line, cut at `longest` characters; empty for None."""
    if value is None:
        return ""
    text = " ".join(str(value).split())
    return escaped(text if longest is None or len(text) <= longest else text[:longest] + " ...")


def cell(value: Any) -> str:
    """A value in a table: thousands' separators, or decimals as of `decimal`; empty for None."""
    if isinstance(value, float):
        return decimal(value)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else escaped(str(value))


def percent(share: float, decimals: int = 1) -> str:
    """A share as `12.3 %`: one that is not none, or not all, never looks as if it were."""
    least = 10.0**-decimals
    shown = f"{100 * share:.{decimals}f}"
    if float(shown) == 0 and share > _NOISE:
        return f"<{least:.{decimals}f} %"
    if float(shown) == 100 and share < 1 - _NOISE:
        return f">{100 - least:.{decimals}f} %"
    return f"{shown} %"


def rounded(count: int) -> str:
    """A count for a table of many: `9,999`, `12.3K`, `4.57B`, with the units in which a spec says sizes."""
    value, unit = float(count), ""
    for larger in "KMBT":
        if count < 10_000 or value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:#.3g}".rstrip(".") + unit if unit else f"{count:,}"


def table(*columns: str, title: str | None = None) -> FittedTable:
    """An empty table, of which a narrow terminal folds the cells, between words where these have room, and cuts
    nothing; as wide as its title. One of many
    columns has no room beside its cells there."""
    width = min(cell_len(title or "") + 2, console().width)
    padding = int(console().width >= _ROOMY or len(columns) < _MANY)
    shown = (Column(escaped(name), overflow="fold") for name in columns)
    return FittedTable(*shown, title=title, min_width=width, padding=(0, padding))


class Notes:
    """Notes to the rows of a table; those too long for a cell are said below it."""

    def __init__(self) -> None:
        self.long: list[str] = []

    def cell(self, name: str, note: Any) -> str:
        """What stands in the row of `name`."""
        text = line(note, None)
        if len(text) <= _NOTE:
            return text
        self.long.append(f"{escaped(name)}: {text}")
        return "(below)"

    def show(self) -> None:
        """Print the long ones."""
        for text in self.long:
            console().print(text)


def pairs(values: Iterable[tuple[str, Any]], title: str | None = None) -> None:
    """Print names and values, one pair a line."""
    grid = table("", "", title=title)
    grid.show_header = False
    for name, value in values:
        grid.add_row(escaped(name), line(value))
    console(wide=True).print(grid)


def rows(columns: Sequence[str], found: Iterator[Sequence[Any]]) -> None:
    """Print rows, of many only the first, and how many there are."""
    shown, grid = list(islice(found, LONGEST)), table(*columns)
    for row in shown:
        grid.add_row(*("''" if value == "" else line(value) for value in row))  # no value is shown by nothing
    if len(columns) <= _SIDE_BY_SIDE and grid.has_room(console(wide=True).width):
        console(wide=True).print(grid)
    else:
        for number, row in enumerate(shown, 1):
            pairs(zip(columns, row, strict=True), f"row {number:,}")
    count = plural(len(shown), "row")
    more = next(found, None) is not None
    console().print(f"the first {count}; `--json` gives all, a `limit` fewer" if more else count)


def refused(found: dict[str, Any]) -> None:
    """Print the records of an address that reading made no document of, and whether it was taken down."""
    _taken_down(found)
    for row in found["refused"]:
        known = ((name, value) for name, value in row.items() if value is not None)
        pairs(known, f"refused in reading: {row['reason']}")


def document(found: dict[str, Any], stages: dict[str, dict[str, Any]]) -> None:
    """Print one document: what was decided and why, its text, then its columns by stage."""
    _taken_down(found)
    for text in _verdict(found["verdict"]):
        console().print(escaped(text), soft_wrap=True)
    _texts(found, found.get("rewriting"))
    for name, made in found.get("augmented", {}).items():
        console().print(f"text `{name}`, which was made of it and has the id {made}:")
        console().print("\n" + escaped(found[name]) + "\n", soft_wrap=True)
    for stage, columns in stages.items():
        pairs(columns.items(), stage)


def blame(found: dict[str, Any]) -> None:
    """Print the documents of a step, the highest loss first."""
    logged = found["logged"]
    channels = {name: loss for name, (loss, _) in (logged["channels"] or {}).items() if loss is not None}
    parts = [f"step {found['step']:,} of {found['run']}: {plural(found['documents'], 'document')}"]
    if logged["loss"] is not None:
        parts.append(
            f"loss {decimal(logged['loss'])} ({', '.join(f'{n} {decimal(loss)}' for n, loss in channels.items())})"
        )
    if logged["reason"]:
        parts.append(f"not taken: {logged['reason']}")
    if logged["left_out"]:
        parts.append(f"its update was left out: {logged['left_out']}")
    console().print(escaped("; ".join(parts)), soft_wrap=True)
    for other in found["others"]:
        why = f"left out: {other['reason']}" if other["reason"] else "taken"
        text = f"another step {found['step']:,}, of row {other['row']:,} on, was {why}; --row {other['row']} shows it"
        console().print(escaped(text), soft_wrap=True)
    how = "those that the step read them with"
    if not found["exact"]:
        how = "the nearest kept (training.checkpoint says which are)"
    weights = f"the weights after step {found['weights_of_step']:,}, {how}"
    console().print(f"losses by {weights}: {decimal(found['loss'])} over all its targets", soft_wrap=True)
    grid = table("loss", "targets", "channel", "document", "text")
    shown = found["shown"]
    for number, row in enumerate(shown):
        if number and len(shown) < found["documents"] and number == len(shown) // 2:
            grid.add_section()
        where = row.get("url") or row.get("read_from") or row["file"]
        made = f"\nits text as {row['augmented']}" if "augmented" in row else ""
        name = f"{line(where)}\n{row.get('id', row['position'])}{made}"
        grid.add_row(cell(row["loss"]), cell(row["tokens"]), escaped(row["channel"]), name, line(row.get("text")))
    console().print(grid)
    if layers := found.get("layers"):
        norms = table(
            "layer", "norm of the gradient", title=f"By those weights; in the log: {cell(logged['grad_norm'])}"
        )
        for name, norm in layers.items():
            norms.add_row(name, cell(norm))
        console().print(norms)


def lineage(found: dict[str, Any]) -> None:
    """Print what became of a document."""
    console().print(escaped(f"{found['id']}  {found['source']}  {found['url'] or found['file']}"), soft_wrap=True)
    _taken_down(found)
    for text in _verdict(found["verdict"]):
        console().print(escaped(text), soft_wrap=True)
    for use in found["runs"]:
        console().print(escaped(f"{use['run']}: {_use(use)}"), soft_wrap=True)
    if not found["runs"]:
        console().print("no training's plan reads it")


def _use(use: dict[str, Any]) -> str:
    """What a training made of a document: held out, or at which steps it was read."""
    began = f"; began with {use['began_with']}, which was trained on it" if "began_with" in use else ""
    if use["held_out"]:
        return f"held out: evaluated on, never trained on{began}"
    steps = [f"{each['step']:,}" for each in use["steps"]]
    some = ", ".join(steps[:STEPS]) + (f", ... ({plural(len(steps), 'step')})" if len(steps) > STEPS else "")
    what = "targets" if use["predicted"] else "tokens read"
    read = f"trained on at steps {some}: {use['tokens']:,} {what}" if steps else "not trained on so far"
    augmented = "".join(f", {count:,} of them as {name}" for name, count in use["augmented"].items())
    to_come = f"; {plural(use['to_come'], 'row')} to come" if use["to_come"] else ""
    return f"{read}{augmented}{to_come}{began}"


def _taken_down(found: dict[str, Any]) -> None:
    if went := found.get("taken_down"):
        console().print(f"taken down {went['time'].partition('T')[0]}: takedown {went['takedown']} of this store")


def samples(checkpoint: str, prompt: str, texts: Sequence[str]) -> None:
    """Print what a checkpoint goes on with, each behind the prompt."""
    console().print(escaped(checkpoint))
    for text in texts:
        console().print("\n" + escaped(prompt + text), soft_wrap=True)


def _texts(found: dict[str, Any], rewriting: dict[str, str] | None) -> None:
    """Print a document's text; of one that was rewritten that which is trained on, and where it differs."""
    name = rewriting["to"] if rewriting else "text"
    if name != "text":
        console().print(f"\ntext `{name}`, which later stages read and the model is trained on:")
    console().print("\n" + escaped(found[name]) + "\n", soft_wrap=True)
    if rewriting:
        differing = word_diff.pieces(found[rewriting["from"]], found[name])
        count = sum(piece.kind != "equal" for piece in differing)
        about = f"{plural(count, 'piece')} removed or added" if count else "the same"
        console().print(f"beside `{rewriting['from']}`, which was extracted: {about}")
        if count:
            console().print(difference(word_diff.shortened(differing)), end="\n\n", soft_wrap=True)


_STYLES = {"removed": ("[-", "-]", "red"), "added": ("{+", "+}", "green"), "skipped": (" [... ", " ...] ", "dim")}
"""How pieces of a difference are marked, and coloured where there are colours: as `git diff --word-diff`."""
_SPACES = str.maketrans({"\n": "\u23ce\n", "\t": "\u2192\t", " ": "\u00b7", "\u3000": "\\u3000", "\u00a0": "\\xa0"})
"""How space is shown that was removed or added."""


def difference(found: Iterable[word_diff.Piece]) -> Text:
    """Pieces of two texts, marked, and coloured on a terminal."""
    shown = Text()
    for kind, text in found:
        begin, end, style = _STYLES.get(kind, ("", "", ""))
        shown.append(begin + escaped(text.translate(_SPACES) if text.isspace() else text) + end, style)
    return shown


def _verdict(found: dict[str, Any]) -> Iterator[str]:
    """The verdict in lines: each rule that drops the document with the values that met it; all others are a number."""
    kept, reason = found["kept"], found["reason"]
    yield "no verdict" if kept is None else "kept" if kept else f"dropped: {reason}"
    if not any(rule["rule"] == reason for rule in found["fails"]):
        yield f"    {found['because']}"
    if values := found.get("values"):
        yield f"    with {named_values(values)}"
    if other := found.get("duplicate_of"):
        yield f"    {other['id']}, similarity {cell(other['similarity'])}"
    for rule in found["fails"]:
        if rule["rule"] != reason:
            yield f"it also meets {rule['rule']}"
        yield f"    {rule['drop']}" + (f"    (where {rule['where']})" if rule["where"] else "")
        yield f"    with {named_values(rule['values'] | rule['thresholds'])}"
        yield f"    from {rule['origin']}"
    if found["fails"] or found["passes"]:
        others = "other rules" if found["fails"] else "rules"
        yield f"{found['passes']} {others} do not drop it"


def named_values(values: dict[str, Any]) -> str:
    """`name = value` of each, unrounded: which side of a threshold a value is on may stand in its last digit."""
    return ", ".join(f"{name} = {'null' if value is None else line(value)}" for name, value in values.items())


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Says on standard error how many of all are done: on one line of a terminal, elsewhere every tenth part."""
    shown, tenth = sys.stderr.isatty(), -1

    def report(done: int, total: int) -> None:
        nonlocal tenth
        if shown:
            sys.stderr.write(f"\r{done:,} of {total:,} {what}")
        elif total and (now := 10 * done // total) > tenth:
            tenth = now
            sys.stderr.write(f"{done:,} of {total:,} {what}\n")
        sys.stderr.flush()

    try:
        yield report
    finally:
        if shown:
            sys.stderr.write("\n")
