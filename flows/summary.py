"""What a run prints at its end: where records went, what was mixed, what was learned, and where things are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from flows.terminal import console, line, pairs, table
from tasks.store import Store


def show(record: dict[str, Any], store: Store) -> None:
    """Print a run's record."""
    stages = table("stage", "state", "shards", "rows", "seconds", "", title=f"Run {record['run']}: {record['status']}")
    for stage in record["stages"]:
        shards = f"{stage['shards']:,}" if stage["shards"] else ""
        row = (stage["name"], stage["state"], shards, f"{stage['rows']:,}", f"{stage['seconds']:.1f}")
        stages.add_row(*row, line(stage.get("note")))
    console().print(stages)
    if "funnel" in record:
        show_funnel(record["funnel"])
    if "plan" in record:
        show_mixture(orjson.loads(store.read(f"{record['plan']}/plan.json")))
    if training := record.get("training"):
        show_training(training)
        where = {
            "checkpoint": _place(store, training["checkpoint"]),
            "exported model": _place(store, training["export"]),
            "artifacts": _place(store, f"runs/records/{record['run']}"),
            "user interface": "`prefect server start`, then http://127.0.0.1:4200",
        }
        pairs(where.items(), "Where things are")


def _place(store: Store, path: str) -> str:
    local = store.local(path)
    if local is None:
        return f"{store.url.rstrip('/')}/{path}"
    return str(local.relative_to(Path.cwd()) if local.is_relative_to(Path.cwd()) else local)


def show_funnel(funnel: dict[str, Any]) -> None:
    """Print where every record went, per source."""
    names = list(funnel["sources"])
    grid = table("", "all", *names, title="Funnel (records)")
    every = [funnel, *(funnel["sources"][name] for name in names)]
    grid.add_row("in", *(f"{counts['in']:,}" for counts in every))
    for group in ("dropped", "quarantined"):
        for reason in funnel[group]:
            cells = [counts[group].get(reason, 0) for counts in every]
            grid.add_row(f"{group}: {reason}", *(f"{cell:,}" if cell else "" for cell in cells))
    if funnel["pending"]:
        grid.add_row("pending", *(f"{counts['pending']:,}" for counts in every))
    grid.add_section()
    grid.add_row("kept", *(f"{counts['kept']:,}" for counts in every))
    for column in grid.columns[1:]:
        column.justify = "right"
    console().print(grid)


def show_mixture(plan: dict[str, Any]) -> None:
    """Print target and realised share, tokens, documents used and epochs per channel."""
    from flows.artifacts import documents_used, mixture

    grid = table("channel", "target", "realised", "tokens", "documents used", "epochs", title="Mixture")
    for name, share in mixture(plan).items():
        usage = plan["usage"][name]
        cells = (f"{share['target']:.1%}", f"{share['realised']:.1%}", f"{plan['channel_tokens'][name]:,}")
        grid.add_row(name, *cells, documents_used(usage), f"{usage['epochs']:.2f}")
    console().print(grid)


def show_training(training: dict[str, Any]) -> None:
    """Print the loss of the first and the last step and on held-out documents per channel, and how many those are."""
    grid = table("channel", "tokens", "first step", "last step", "held out first", "held out last", "evaluated on")
    grid.title = f"Training: {training['steps']:,} steps, {training['tokens']:,} tokens; losses in nats per token"
    for name, channel in training["channels"].items():
        held_out = training["held_out"].get(name, {})
        losses = (channel["first"], channel["last"], held_out.get("first"), held_out.get("last"))
        text = f"{held_out['tokens']:,} tokens of {held_out['documents']:,} documents" if held_out.get("tokens") else ""
        grid.add_row(name, f"{channel['tokens']:,}", *("" if loss is None else f"{loss:.3f}" for loss in losses), text)
    console().print(grid)
