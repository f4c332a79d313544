"""What a run prints at its end: where records went, what was mixed, what was learned, and where things are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_specs.amounts import decimal, plural
from data_specs.redaction import escaped, redacted
from flows.terminal import Notes, cell, console, pairs, percent, table
from tasks.engine.versions import Versions
from tasks.storage.store import Store

if TYPE_CHECKING:
    from flows.run import Run

Rows = list[list[Any]]


def show(record: dict[str, Any], store: Store) -> None:
    """Print a run's record."""
    stages = table(
        "stage", "state", "shards", "rows", "seconds", "note", title=f"Run {record['run']}: {record['status']}"
    )
    notes = Notes()
    for stage in record["stages"]:
        shards = f"{stage['shards']:,}" if stage["shards"] else ""
        if 0 < stage["computed"] < stage["shards"]:
            shards = f"{stage['computed']:,} of {shards}"
        row = (stage["name"], stage["state"], shards, f"{stage['rows']:,}", f"{stage['seconds']:.1f}")
        stages.add_row(*row, notes.cell(stage["name"], stage.get("note")))
    if record["stages"]:
        console().print(stages)
    notes.show()
    if "funnel" in record:
        show_funnel(record["funnel"])
    if "version" in record:
        version = record["version"]
        note = f"{version['note']}; " if "note" in version else ""
        line = f"version {version['version']} of the corpus, {version['state']}: {note}`sluice versions SPEC`"
        console().print(escaped(line), soft_wrap=True)
    if "rebase" in record:
        show_rebase(record["rebase"])
    if "plan" in record:
        _show("Mixture", *mixture(store.json(f"{record['plan']}/plan.json")))
    if training := record.get("training"):
        length = f"{plural(training['steps'], 'step')}, {plural(training['tokens'], 'token')}"
        _show(f"Training: {length}; losses in nats per token", *losses(training))
        where = {
            "checkpoint": place(store, training["checkpoint"]),
            "exported model": place(store, training["export"]),
            "artifacts": place(store, f"runs/records/{record['run']}"),
            "user interface": "`prefect server start`, then http://127.0.0.1:4200",
        }
        pairs(where.items(), "Where things are")


def show_rebase(found: dict[str, dict[str, list[int]]]) -> None:
    """Print what changed sides in a rebase."""
    grid = table("", "documents", "tokens", title="Rebase: documents that change sides")
    for name, change in (("kept", "kept, was dropped as"), ("dropped", "dropped now as")):
        for reason, counted in sorted(found[name].items()):
            grid.add_row(f"{change} {escaped(reason)}", *map(cell, counted))
    console().print(grid if grid.row_count else "Rebase: no document changes sides")


def place(store: Store, path: str) -> str:
    """Where something of the store is, as people reach it: below the working directory where it is there."""
    local = store.local(path)
    if local is None:
        return redacted(f"{store.url.rstrip('/')}/{path}")
    return str(local.relative_to(Path.cwd()) if local.is_relative_to(Path.cwd()) else local)


def opened(record: dict[str, Any], store: Store) -> dict[str, Any]:
    """A run's record whose plan, checkpoint and exported model are named as they open from here."""
    found = dict(record)
    if "plan" in found:
        found["plan"] = place(store, found["plan"])
    if training := found.get("training"):
        found["training"] = training | {name: place(store, training[name]) for name in ("checkpoint", "export")}
    return found


def show_funnel(found: dict[str, Any]) -> None:
    """Print where every record went, per source; of many sources one table below the other, as many as fit a line."""
    header, rows = funnel(found)
    cells = [header, *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) + 3 for column in zip(*cells, strict=True)]
    first = 1
    while first < len(header):
        last, room = first + 1, console().width - 1 - widths[0] - widths[first]
        while last < len(header) and room >= widths[last]:
            room -= widths[last]
            last += 1
        which = (
            f", sources {max(first - 1, 1)} to {last - 2} of {len(header) - 2}"
            if last - first < len(header) - 1
            else ""
        )
        grid = table("", *header[first:last], title=f"Funnel (records{which})")
        for label, *counts in cells[1:]:
            if any(counts[first - 1 : last - 1]):
                grid.add_row(label, *counts[first - 1 : last - 1], end_section=label == rows[-2][0])
        for column in grid.columns[1:]:
            column.justify = "right"
        console().print(grid)
        first = last
    for text in damaged(found):
        console().print(escaped(text))


def pending(run: Run, found: dict[str, Any]) -> str:
    """What a funnel's records are pending for; "" where there are none."""
    if not found["pending"]:
        return ""
    there = {*map(run.pipeline.outputs["documents"].path, range(len(run.pipeline.shards)))}
    accepted = Versions(run.store, run.spec.name).accepted
    since = accepted["time"] if accepted else ""
    went = [each for each in run.takedowns.all if each["time"] >= since and there & each["documents"].keys()]
    why = "`sluice plan SPEC` says why"
    if went:
        numbers = ", ".join(f"{each['takedown']}" for each in went)
        why = f"takedown {numbers} left no verdict as it was, and the next version is without what it took down"
    return f"pending: {plural(found['pending'], 'record')} of which `sluice run SPEC` makes the verdict; {why}"


def _show(title: str, header: list[str], rows: Rows) -> None:
    """Print a table; the words of its header one below the other, where it is too wide otherwise."""
    for names in (header, [name.replace(" ", "\n") for name in header]):
        grid = table(*names, title=title)
        for row in rows:
            grid.add_row(*map(cell, row))
        if console(wide=True).measure(grid).maximum <= console().width:
            break
    console().print(grid)


def funnel(found: dict[str, Any]) -> tuple[list[str], Rows]:
    """Where every record went, per source: header and rows, what was kept last."""
    every = [found, *found["sources"].values()]
    reasons = [(group, reason) for group in ("dropped", "quarantined") for reason in found[group]]
    rows = [["in", *(counts["in"] for counts in every)]]
    rows += [
        [f"{group}: {reason}", *(counts[group].get(reason) or None for counts in every)] for group, reason in reasons
    ]
    if found["pending"]:
        rows.append(["pending", *(counts["pending"] for counts in every)])
    return ["", "all sources" if "all" in found["sources"] else "all", *found["sources"]], [
        *rows,
        ["kept", *(counts["kept"] for counts in every)],
    ]


def damaged(found: dict[str, Any]) -> list[str]:
    """Per source, files whose records are quarantined, as far as a funnel names them."""
    lines = []
    for source, counts in found["sources"].items():
        files = counts.get("files", {}).items()
        reasons = {key: ", ".join(f"{n:,} {why}" for why, n in each.items()) for key, each in files}
        if reasons:
            lines.append(f"quarantined of {source}: " + ", ".join(f"{key} ({why})" for key, why in reasons.items()))
    return lines


def mixture(plan: dict[str, Any]) -> tuple[list[str], Rows]:
    """Target and realised share, tokens, documents used and epochs per channel: header and rows."""
    rows: Rows = []
    for name, share in shares(plan).items():
        usage = plan["usage"][name]
        used = f"{usage['documents'] - usage['counts'].get('0', 0):,} of {usage['documents']:,}"
        both = percent(share["target"]), percent(share["realised"])
        rows.append([name, *both, plan["channel_tokens"][name], used, decimal(usage["epochs"], 2)])
    header = ["channel", "target", "realised", "tokens", "documents used", "epochs"]
    if left_out := plan.get("repetitive"):
        header.append("left out: repetitive")
        rows = [[*row, plural(left_out[row[0]]["documents"], "document")] for row in rows]
    return header, rows


def losses(training: dict[str, Any]) -> tuple[list[str], Rows]:
    """The loss of the first and the last step and on held-out documents per channel, and how many those are: header
    and rows. Where a channel's last step is not the run's, it is named."""
    rows: Rows = []
    for name, channel in training["channels"].items():
        held_out = training["held_out"].get(name, {})
        text = ""
        if held_out.get("tokens"):
            text = f"{plural(held_out['tokens'], 'token')} of {plural(held_out['documents'], 'document')}"
        if not text:
            text = "no held-out documents" if training["held_out"] else "not evaluated"
        both = channel["first"], _last(channel, training), held_out.get("first"), held_out.get("last")
        rows.append([name, channel["tokens"], *both, text])
    header = ["channel", "tokens", "first step", "last step", "held out first", "held out last", "evaluated on"]
    return header, rows


def _last(channel: dict[str, Any], training: dict[str, Any]) -> float | str | None:
    """A channel's last loss, with its step where that is not the run's last. Summaries of older runs tell no steps."""
    step = channel.get("last_step")
    if step is None or step == training["last_step"]:
        return channel["last"]
    return f"{decimal(channel['last'])} (step {step:,})"


def shares(plan: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Channel -> target and realised share of tokens over all phases of a plan."""
    sizes = [(phase["rows"] * phase.get("sequence", plan["sequence"]), phase["weights"]) for phase in plan["phases"]]
    whole = sum(size for size, _ in sizes)
    total = sum(plan["channel_tokens"].values())
    return {
        name: {
            "target": sum(size * weights.get(name, 0.0) for size, weights in sizes) / max(1, whole),
            "realised": plan["channel_tokens"].get(name, 0) / max(1, total),
        }
        for name in plan["channels"]
    }
