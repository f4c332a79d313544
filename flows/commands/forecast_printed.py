"""What `sluice plan` prints of a forecast: tables of stages, refusals and pins, and lines for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_specs.amounts import decimal
from flows.commands.forecast import CHANGED, COST
from flows.terminal import Notes, console, line, pairs, percent, table


def show(found: Mapping[str, Any]) -> None:
    """Print a forecast."""
    _stages(found)
    if found["admission"]:
        _admission(found["admission"])
    _duplicates(found["duplicates"])
    if "budget" in found:
        _budget(found["budget"], found["duplicates"]["threshold"])
    for note in found["unmatched"]:
        console().print(line(note, None), soft_wrap=True)
    for stop in found["certain_stops"]:
        console().print(f"This run would stop: {stop}")
    _pins(found["pins"])
    _training(found["training"])


def drawn(values: Sequence[float]) -> str:
    """Values from 0 on as a line of bars, the largest a full one."""
    most = max(values) or 1.0
    return "".join(" ▁▂▃▄▅▆▇█"[round(value / most * 8)] for value in values)


def _stages(found: Mapping[str, Any]) -> None:
    """A row for each stage, and one for what all of them are expected to take."""
    expected = found["expected"]
    unknown = expected["unknown"]
    grid = table("stage", "state", "to do", "of", "core-hours", "bytes", "because", title=f"Plan of {found['spec']}")
    notes = Notes()
    for stage in found["stages"]:
        cost = _cost(stage.get(COST), stage.get("expected_bytes"), "unknown" if stage["name"] in unknown else "")
        to_do, of = (f"{stage[key]:,}" if stage[key] else "" for key in ("to_do", "shards"))
        because = "; ".join(filter(None, [stage.get("because"), *stage.get("gone", [])]))
        grid.add_row(stage["name"], stage["state"], to_do, of, *cost, notes.cell(stage["name"], because))
    grid.add_section()
    if any(COST in stage for stage in found["stages"]) or not unknown:
        more = f"and what is unknown: {', '.join(unknown[:3])}{', ...' if unknown[3:] else ''}" if unknown else ""
        grid.add_row("expected", "", "", "", *_cost(expected["core_hours"], expected["bytes"]), more)
    else:
        grid.add_row("expected", "", "", "", "unknown", "unknown", "")
    console().print(grid)
    notes.show()
    console().print(
        "to do, of: shards; core-hours: hours of worker processes by the clock, one core each; as the same steps last "
        "took"
    )


def _cost(hours: float | None, size: int | None, missing: str = "") -> tuple[str, str]:
    """Cells of core-hours and bytes."""
    return missing if hours is None else decimal(hours, 4), missing if size is None else f"{size:,}"


def _admission(refusals: Sequence[Mapping[str, Any]]) -> None:
    grid = table("source", "reason", "by its", "refused", "of", "where", title="Admission, before extraction")
    for each in refusals:
        counts = (f"{each['refused']:,}", f"{each['records']:,}") if "refused" in each else ("", "")
        grid.add_row(each["source"], each["reason"], each["by"], *counts, each["refuse"])
    console().print(grid)


def _duplicates(known: Mapping[str, Any]) -> None:
    """Which pairs are found, and which sources of code are compared without their symbols."""
    shares = dict(known["curve"])
    at, above = known["threshold"], min(each for each in shares if each > known["threshold"])
    console().print(
        f"Duplicates: pairs found by {known['bands']} bands of {known['rows']}, from similarity 0 to 1: "
        f"{drawn([*shares.values()])}; {percent(1 - shares[at])} of those right at {at:g} are missed, "
        f"{percent(1 - shares[above])} of those at {above:g}"
    )
    if known["code_without_symbols"]:
        console().print(
            f"Duplicates: of the code of {', '.join(known['code_without_symbols'])} symbols do not count: files that "
            "differ in `+` and `-` alone are copies. `stages.duplicates.symbols: \"kind = 'code'\"` tells them apart "
            '(texts are compared anew), "false" leaves it at that'
        )


def _budget(found: dict[str, Any], threshold: float) -> None:
    if "unknown" in found:
        console().print(f"Budget: what thresholds would leave is not known: {found['unknown']}")
        return
    from flows.commands import budget  # which takes the views, and half a second of them

    budget.show(found, threshold)


def _pins(found: Sequence[Mapping[str, Any]]) -> None:
    grid = table("pin", "sha256", "age in days", "run", "note", title="Pins")
    notes = Notes()
    for pin in found:
        remarks = (pin.get(key, "") for key in (*(f"{what}_since_changed" for what in CHANGED), "moved", "without"))
        note = notes.cell(pin["name"], "; ".join(filter(None, remarks)))
        grid.add_row(pin["name"], pin.get("sha256", "")[:12], decimal(pin["age_days"], 2), pin["run"], note)
    if found:
        console().print(grid)
    notes.show()


def _training(found: Mapping[str, Any]) -> None:
    """What is known of the training, a line each; the learning rate as a curve, and its peak."""
    names = {"positions": "positions (steps x batch)", "tokens": "tokens (targets among them)"}
    lines = {names.get(name, name.replace("_", " ")): value for name, value in found.items()}
    lines["memory of a worker"] = _memory(lines.pop("memory"))
    if epochs := lines.pop("epochs", None):
        lines["epochs"] = ", ".join(f"{name} {decimal(count, 2)}" for name, count in epochs.items())
    lines["tokens per parameter"] = decimal(found["tokens_per_parameter"], 2)
    rates = [rate for _, rate in found["learning_rate"]]
    lines["learning rate"] = f"{drawn(rates)} {max(rates):.3g}"
    pairs(((name, f"{each:,}" if isinstance(each, int) else each) for name, each in lines.items()), "Training")


def _memory(needs: Mapping[str, Any]) -> str:
    sizes = (f"{decimal(needs[key] / 2**30, 2)} GiB" for key in ("total", "device"))
    sure = f"; of a folder's model to {needs['sure']}" if "sure" in needs else ""
    fits = "fits" if needs["fits"] else "does NOT fit"
    return f"{' of '.join(sizes)} (weights, states and a micro-batch{sure}): {fits}"
