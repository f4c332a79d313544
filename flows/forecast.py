"""`sluice plan`: what a run would do and what it would cost, from manifests alone.

Expected costs are those of the same stage's last shards, so a stage that never ran has none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from flows.run import Run
from flows.terminal import console, line, pairs, table
from tasks.manifest import Manifest
from tasks.pipeline import Pipeline
from tasks.stage import Learned
from training import model

_COST = "expected_core_hours"


def forecast(run: Run) -> dict[str, Any]:
    """{"spec", "stages": [...], "expected": {...}, "pins": [...], "training": {...}} of a run that is resolved."""
    names = ["documents", *(node.name for node in run.pipeline.nodes)]
    stages = [_stage(run.pipeline, name) for name in names] + _last(run)
    expected = {
        "core_hours": round(sum(stage.get(_COST, 0.0) for stage in stages), 6),
        "bytes": sum(stage.get("expected_bytes", 0) for stage in stages),
        "unknown": [s["name"] for s in stages if s["state"] not in ("cached", "partial") and _COST not in s],
    }
    pins = _pins(run.pipeline)
    return {"spec": run.spec.name, "stages": stages, "expected": expected, "pins": pins, "training": _training(run)}


def _stage(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """What is known of one stage of the corpus."""
    node = None if name == "documents" else pipeline.node(name)
    if node and isinstance(node.stage, Learned):
        state = "cached" if pipeline.pins.get(node.stage.name) else "to learn"
        return {"name": name, "recipe": node.stage.recipe, "state": state, "shards": 0, "to_do": 0}
    index, total = pipeline.outputs[name].index, len(pipeline.shards)
    missing = ~index.done
    entry: dict[str, Any] = {"name": name, "recipe": node.stage.recipe if node and node.ready else ""}
    entry |= {"state": pipeline.state(name), "shards": total, "to_do": int(missing.sum())}
    entry["bytes"] = int(index.bytes.sum())
    if not entry["to_do"]:
        return entry
    if node and not node.ready:
        unknown = [pin for pin in node.pins if pipeline.pins.get(pin) is None]
        return entry | {"because": f"waits for {', '.join(f'learn_{pin}' for pin in unknown)}"}
    parts = [(_top(node.stage), node.stage, entry["to_do"], "")] if node else _sources(pipeline, missing)
    changes = [_changes(pipeline, top, recipe) for top, recipe, _, _ in parts]
    entry["because"] = "; ".join(f"{part[3]}{change.because}" for part, change in zip(parts, changes, strict=True))
    if all(change.ran for change in changes):
        costs = [(part[2] * change.seconds, part[2] * change.size) for part, change in zip(parts, changes, strict=True)]
        entry[_COST] = round(sum(seconds for seconds, _ in costs) / 3600, 6)
        entry["expected_bytes"] = int(sum(size for _, size in costs))
    return entry


def _top(stage: Any) -> str:
    """A stage's folder without its recipe."""
    return stage.folder or f"columns/{stage.name}"


def _sources(pipeline: Pipeline, missing: np.ndarray) -> list[tuple[str, Any, int, str]]:
    """For each source with shards to read: folder, reader, how many, and its name for a message."""
    counts = Counter(pipeline.shards[place].source for place in np.flatnonzero(missing).tolist())
    return [(f"documents/{name}", pipeline.readers[name], count, f"{name}: ") for name, count in counts.items()]


def _last(run: Run) -> list[dict[str, Any]]:
    """The run plan and the training."""
    planned = run.planned() is not None
    trained = planned and run.trained()
    whole = {"recipe": "", "shards": 0, "to_do": 0}
    states = {"plan": "cached" if planned else "waiting", "train": "waiting" if not planned else "stale"}
    states |= {"train": "cached"} if trained else {}
    return [{"name": name, **whole, "state": state} for name, state in states.items()]


@dataclass(frozen=True)
class Changes:
    """Why a stage has something to do, and what a shard of it cost when it last ran."""

    because: str
    ran: bool = False
    seconds: float = 0.0
    size: float = 0.0


def _changes(pipeline: Pipeline, top: str, recipe: Any) -> Changes:
    """What differs from the recipe that a stage last ran with."""
    parent, _, stem = top.rpartition("/")
    newest: tuple[bool, int, str] | None = None
    for name in pipeline.store.folders(parent):
        if name.startswith(f"{stem}@"):
            segments = list(pipeline.store.list(f"{parent}/{name}/manifest"))
            found = (name == f"{stem}@{recipe.recipe}", int(segments[-1].split("-")[0]) if segments else 0, name)
            newest = max(newest or found, found) if segments else newest
    if newest is None:
        return Changes("never ran")
    count, seconds, size = 0, 0.0, 0
    for entry in Manifest(pipeline.store, f"{parent}/{newest[2]}").entries():
        if "rows" in entry:
            count, seconds, size = count + 1, seconds + entry["seconds"], size + entry["bytes"]
    try:
        before = orjson.loads(pipeline.store.read(f"{parent}/{newest[2]}/recipe.json"))
    except FileNotFoundError:  # a run was killed before it wrote it
        before = {}
    because = "; ".join(_differences("", before, recipe.ingredients()) if before else ())
    because = because or getattr(recipe, "regrouped", "") or "new input"
    return Changes(because, count > 0, seconds / max(1, count), size / max(1, count))


def _differences(where: str, before: Any, now: Any) -> list[str]:
    """`settings.threshold: 0.8 -> 0.7`, one per changed leaf; what has a name is told by it, not by its place."""
    now = orjson.loads(orjson.dumps(now))
    if (named := _named(before)) and (also := _named(now)):
        order = [[name for name in each if name in named and name in also] for each in (named, also)]
        moved = [f"{where}: in another order"] if order[0] != order[1] else []
        return moved + _differences(where, named, also)
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for name in sorted(before.keys() | now.keys()):
            found += _differences(f"{where}.{name}".lstrip("."), before.get(name), now.get(name))
        return found
    return [] if before == now else [f"{where}: {before} -> {now}"]


def _named(value: Any) -> dict[str, Any]:
    """A list of objects with names as a mapping; {} for anything else."""
    if not (isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value)):
        return {}
    return {each["name"]: {key: part for key, part in each.items() if key != "name"} for each in value}


def _pins(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Every pin with its age in days, and whether the spec would now learn it differently."""
    found = []
    learned = {node.stage.name: node.stage for node in pipeline.nodes if isinstance(node.stage, Learned)}
    for name, history in pipeline.pins.history.items():
        pin = history[-1]
        age = datetime.now(UTC) - datetime.fromisoformat(pin["time"])
        entry = {
            "name": name,
            "run": pin["run"],
            "time": pin["time"],
            "age_days": round(age.total_seconds() / 86400, 2),
        }
        if "sha256" in pin:
            entry["sha256"] = pin["sha256"]
        if moved := pipeline.pins.moved(name):
            entry["moved"] = f"learned anew by the next run, as {', '.join(moved)} moved"
        elif name in learned and (changed := _differences("", pin["ingredients"], learned[name].ingredients())):
            entry["settings_since_changed"] = "; ".join(changed) + f" (--retrain {name} learns it anew)"
        found.append(entry)
    return found


def _training(run: Run) -> dict[str, Any]:
    """Steps, tokens per parameter, FLOPs, epochs per channel (from the plan, where it exists)."""
    spec = run.spec
    steps = spec.training.steps or spec.mixture.tokens // spec.training.batch.tokens
    tokens = steps * spec.training.batch.tokens
    parameters = model.parameters(spec.model, spec.tokenizer.vocabulary)
    facts: dict[str, Any] = {
        "steps": steps,
        "tokens": tokens,
        "parameters": parameters,
        "tokens_per_parameter": round(tokens / parameters, 2),
        "flops": model.flops(spec.model, spec.tokenizer.vocabulary, spec.training.sequence) * tokens,
    }
    if (planned := run.planned()) is not None:
        facts |= {"plan": planned, "epochs": {n: round(u["epochs"], 2) for n, u in run.plan_facts["usage"].items()}}
    return facts


def show(found: dict[str, Any]) -> None:
    """Print a forecast."""
    grid = table("stage", "state", "to do", "of", "core-hours", "bytes", "because", title=f"Plan of {found['spec']}")
    for stage in found["stages"]:
        hours, size = stage.get(_COST), stage.get("expected_bytes")
        cells = ("" if hours is None else f"{hours:.4f}", "" if size is None else f"{size:,}")
        to_do, of = (f"{stage[key]:,}" if stage[key] else "" for key in ("to_do", "shards"))
        grid.add_row(stage["name"], stage["state"], to_do, of, *cells, line(stage.get("because")))
    expected = found["expected"]
    unknown = f"without {len(expected['unknown'])} stages that never ran" if expected["unknown"] else ""
    grid.add_section()
    grid.add_row("expected", "", "", "", f"{expected['core_hours']:.4f}", f"{expected['bytes']:,}", unknown)
    console().print(grid)
    pins = table("pin", "sha256", "age in days", "run", "", title="Pins")
    for pin in found["pins"]:
        changed = pin.get("settings_since_changed", pin.get("moved", ""))
        pins.add_row(pin["name"], pin.get("sha256", "")[:12], f"{pin['age_days']:.2f}", pin["run"], line(changed))
    console().print(pins)
    training = {name.replace("_", " "): value for name, value in found["training"].items()}
    pairs(((name, f"{each:,}" if isinstance(each, int) else each) for name, each in training.items()), "Training")
