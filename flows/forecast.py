"""`sluice plan`: what a run would do and what it would cost, from manifests alone.

Expected costs are those of the same stage's last shards, so a stage that never ran has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from flows.run import Run
from tasks.manifest import Manifest
from tasks.pipeline import Pipeline
from tasks.stage import Learned
from training import model


def forecast(spec: str, store: str | None = None, settings: Sequence[str] = ()) -> dict[str, Any]:
    """{"spec", "stages": [...], "pins": [...], "training": {...}}. Raises SpecError."""
    run = Run.of(spec, store, settings)
    run.resolve()
    names = ["documents", *(node.name for node in run.pipeline.nodes)]
    stages = [_stage(run.pipeline, name) for name in names]
    return {"spec": run.spec.name, "stages": stages, "pins": _pins(run.pipeline), "training": _training(run)}


def _stage(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """What is known of one stage."""
    stage = None if name == "documents" else pipeline.node(name).stage
    if isinstance(stage, Learned):
        pinned = pipeline.pins.get(stage.name)
        return {
            "name": name,
            "recipe": stage.recipe,
            "state": "cached" if pinned else "to learn",
            "shards": 0,
            "to_do": 0,
        }
    index = pipeline.outputs[name].index
    total = len(pipeline.shards)
    to_do = total - int(index.done.sum())
    entry: dict[str, Any] = {
        "name": name,
        "recipe": stage.recipe if stage and pipeline.node(name).ready else "",
        "state": pipeline.state(name),
    }
    entry |= {"shards": total, "to_do": to_do, "bytes": int(index.bytes.sum())}
    if to_do and stage and pipeline.node(name).ready:
        entry["because"], seconds, size = _changes(pipeline, stage)
        entry |= {"expected_core_hours": round(seconds * to_do / 3600, 4), "expected_bytes": int(size * to_do)}
    elif to_do and name == "documents" and index.done.any():
        seconds, size = float(index.seconds[index.done].mean()), float(index.bytes[index.done].mean())
        entry |= {"because": "new input", "expected_core_hours": round(seconds * to_do / 3600, 4)}
        entry["expected_bytes"] = int(size * to_do)
    return entry


def _changes(pipeline: Pipeline, stage: Any) -> tuple[str, float, float]:
    """What differs from the recipe this stage last ran with, and a shard's mean seconds and bytes then."""
    top = stage.folder or f"columns/{stage.name}"
    newest: tuple[int, str] | None = None
    for folder in pipeline.store.folders(top.rsplit("/", 1)[0]):
        if folder.startswith(top.rsplit("/", 1)[-1] + "@"):
            path = f"{top.rsplit('/', 1)[0]}/{folder}"
            segments = list(pipeline.store.list(f"{path}/manifest"))
            if segments and (newest is None or int(segments[-1].split("-")[0]) > newest[0]):
                newest = (int(segments[-1].split("-")[0]), path)
    if newest is None:
        return "never ran", 0.0, 0.0
    entries = [entry for entry in Manifest(pipeline.store, newest[1]).entries() if "rows" in entry]
    seconds = float(np.mean([entry["seconds"] for entry in entries])) if entries else 0.0
    size = float(np.mean([entry["bytes"] for entry in entries])) if entries else 0.0
    before = orjson.loads(pipeline.store.read(f"{newest[1]}/recipe.json"))
    differences = _differences("", before, stage.ingredients())
    return "; ".join(differences) or "what it reads changed", seconds, size


def _differences(where: str, before: Any, now: Any) -> list[str]:
    """`settings.threshold: 0.8 -> 0.7`, one per changed leaf."""
    now = orjson.loads(orjson.dumps(now))
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for name in sorted(before.keys() | now.keys()):
            found += _differences(f"{where}.{name}".lstrip("."), before.get(name), now.get(name))
        return found
    return [] if before == now else [f"{where}: {before} -> {now}"]


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
        if name in learned and (changed := _differences("", pin["ingredients"], learned[name].ingredients())):
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
    console = Console(highlight=False)
    grid = Table("stage", "state", "to do", "of", "core-hours", "bytes", "because", title=f"Plan of {found['spec']}")
    for stage in found["stages"]:
        hours, size = stage.get("expected_core_hours"), stage.get("expected_bytes")
        cells = ("" if hours is None else f"{hours:.3f}", "" if size is None else f"{size:,}")
        to_do = f"{stage['to_do']:,}" if stage["to_do"] else ""
        grid.add_row(stage["name"], stage["state"], to_do, f"{stage['shards']:,}", *cells, stage.get("because", ""))
    console.print(grid)
    pins = Table("pin", "sha256", "age in days", "run", "", title="Pins")
    for pin in found["pins"]:
        changed = pin.get("settings_since_changed", "")
        pins.add_row(pin["name"], pin.get("sha256", "")[:12], f"{pin['age_days']:.2f}", pin["run"], changed)
    console.print(pins)
    training = Table(show_header=False, title="Training")
    for name, value in found["training"].items():
        training.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    console.print(training)
