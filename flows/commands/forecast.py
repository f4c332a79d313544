"""`sluice plan`: what a run would do and what it would cost, from manifests, logs and records alone.

Core-hours are hours of worker processes, which have one core each, by the clock. Expected ones, and bytes, are those of
the same steps when they last ran: of a stage whose values turn out as before, nothing below has to run, and less is
spent. What never ran has none, and is named as unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data_specs import redaction
from data_specs.load import SpecError, unmatched
from data_specs.spec import Spec
from flows import chosen_thresholds, summary
from flows.commands import changes, costs
from flows.commands.costs import Cost
from flows.run import Run
from tasks.dedup import minhash
from tasks.engine import gates
from tasks.engine.gates import GateError
from tasks.engine.listings import Listings
from tasks.engine.nodes import Node
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import StageError
from tasks.engine.stage import CorpusStage, Estimator
from tasks.planning.objectives import added_tokens, targets_of_a_row
from tasks.storage.pins import without
from training import checkpoint, memory, models
from training.schedule import learning_rate

COST = "expected_core_hours"
CHANGED = ("settings", "text", "columns", "file")
"""What may have changed since something was pinned."""
_DRAWN = 60
"""Steps, evenly spread, of which the learning rate is shown, at most."""


def forecast(run: Run) -> dict[str, Any]:
    """{"spec", "stages": [...], "expected": {...}, "admission": [...], "pins": [...], "training": {...},
    "certain_stops": [...], "unmatched": [...], "duplicates": {...}} of a run that is resolved, and of a spec that has
    one "budget"; stops are gates at which it is bound to stop, unmatched are texts of expressions that no column is."""
    planned = run.planned()
    training = _training(run, planned)
    stages = [*corpus(run.pipeline), _plan(run, planned), _train(run, planned, training)]
    expected = {
        "core_hours": round(sum(stage.get(COST, 0.0) for stage in stages), 9),
        "bytes": sum(stage.get("expected_bytes", 0) for stage in stages),
        "unknown": [s["name"] for s in stages if s["state"] not in ("cached", "partial") and COST not in s],
    }
    pins = _pins(run.pipeline)
    found = {"spec": run.spec.name, "stages": stages, "expected": expected, "pins": pins, "training": training}
    found["admission"] = _admission(run.pipeline)
    gone, stops = _gone(run)
    stages[0] |= {"gone": gone} if gone else {}
    found["certain_stops"] = [*stops, *run.certain_stops()]
    found["unmatched"] = unmatched(run.spec)
    found["duplicates"] = _duplicates(run.spec)
    if run.spec.budget is not None:
        found["budget"] = _budget(run)
    return redaction.values(found)


def _gone(run: Run) -> tuple[list[str], list[str]]:
    """Which files have left the sources, and which held-out documents, in words; gates at which a run would stop for
    it, or for files that cannot be read."""
    listings = Listings(run.spec, run.store)
    try:
        return [*gates.listed(run.pipeline, listings), *gates.held_out(run.pipeline, listings)], []
    except GateError as error:
        return [], [str(error)]


def _duplicates(spec: Spec) -> dict[str, Any]:
    """The bands that find pairs, which share of the pairs of a similarity they find: (similarity, share), and sources
    of code that is compared without its symbols."""
    settings = spec.duplicates
    bands, rows = minhash.bands_and_rows(settings.compared_from, settings.hashes)
    shown = sorted({*(percent / 100 for percent in range(0, 101, 5)), settings.threshold})
    curve = [(each, minhash.found_share(each, bands, rows)) for each in shown]
    code = [name for name, source in spec.sources.items() if source.kind in ("code", "repository")]
    found = {"threshold": settings.threshold, "bands": bands, "rows": rows, "curve": curve}
    return found | {"code_without_symbols": code if settings.symbols is None else []}


def _budget(run: Run) -> dict[str, Any]:
    """What thresholds would leave, and which leave the budget; or why that is not known."""
    from flows.commands import budget  # which takes the views, and half a second of them

    try:
        pin = chosen_thresholds.pinned(run.pipeline.pins, run.spec) if chosen_thresholds.applies(run.spec) else None
        pinned = {key: pin[key] for key in ("value", "tokens", "left", "version", "run")} if pin else None
        return budget.choice(run, run.spec) | {"apply": chosen_thresholds.applies(run.spec), "pinned": pinned}
    except (SpecError, StageError) as error:
        return {"unknown": str(error)}


def corpus(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What is known of every stage of the corpus, in order."""
    return [_stage(pipeline, name) for name in ("documents", *(node.name for node in pipeline.nodes))]


def _expected(cost: Cost | None) -> dict[str, Any]:
    """What an entry says of a cost; {} of one that is unknown."""
    if cost is None:
        return {}
    return {
        "expected_jobs": round(cost.jobs),
        COST: round(cost.seconds / 3600, 9),
        "expected_bytes": int(cost.bytes),
    }


def _stage(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """What is known of one stage of the corpus."""
    node = None if name == "documents" else pipeline.node(name)
    if node and isinstance(node.stage, Estimator):
        entry: dict[str, Any] = {"name": name, "fingerprint": node.stage.fingerprint, "state": "cached"}
        entry |= {"shards": 0, "to_do": 0}
        if pipeline.pins.get(node.stage.label):
            return entry
        return entry | {"state": "to learn"} | _expected(costs.learned(pipeline, node.stage, pipeline.outputs[name]))
    index, total = pipeline.outputs[name].index, len(pipeline.shards)
    missing = ~index.done
    entry = {"name": name, "fingerprint": node.stage.fingerprint if node and node.ready else ""}
    entry |= {"state": pipeline.state(name), "shards": total, "to_do": int(missing.sum())}
    entry["bytes"] = int(index.bytes.sum())
    if not entry["to_do"]:
        return entry
    if node:
        because, cost = _computed(pipeline, node, entry["to_do"])
    else:
        files = changes.files(pipeline)
        entry |= {"files": files} if files else {}
        because, cost = _read(pipeline, missing, files)
    return entry | {"because": because} | ({} if entry["state"] == "partial" else _expected(cost))


def _computed(pipeline: Pipeline, node: Node, to_do: int) -> tuple[str, Cost | None]:
    """Why a stage has something to do, and what that costs."""
    stage, output = node.stage, pipeline.outputs[node.name]
    folder = changes.nearest(pipeline, node)
    unknown = [pin for pin in node.pins if pipeline.pins.get(pin) is None]
    because = f"waits for {', '.join(f'learn_{pin}' for pin in unknown)}" if not node.ready else ""
    if folder is None:
        return because or "never ran", None
    because = because or "; ".join(changes.settings(pipeline.store, folder, stage)) or "new input"
    if isinstance(stage, CorpusStage):
        return because, costs.corpus(pipeline, stage, output, node.ready, folder, to_do)
    return because, costs.shards(pipeline.store, folder, output.index, output.index.done, to_do)


def _read(pipeline: Pipeline, missing: np.ndarray, new: Mapping[str, changes.Files]) -> tuple[str, Cost | None]:
    """Why documents have to be read, by source, and what that costs."""
    index, reasons, total = pipeline.outputs["documents"].index, [], Cost()
    sources = np.array([shard.source for shard in pipeline.shards])
    known = True
    for name, count in Counter(sources[missing].tolist()).items():
        reader = pipeline.readers[name]
        found = costs.newest(pipeline.store, "documents", name, reader.fingerprint)
        folder = f"documents/{found}"
        why = changes.settings(pipeline.store, folder, reader) if found else ["never ran"]
        why = why or list(filter(None, [getattr(reader, "regrouped", ""), changes.files_in_words(new.get(name, {}))]))
        reasons.append(f"{name}: {'; '.join(why) or 'new input'}")
        cost = costs.shards(pipeline.store, folder, index, sources == name, count) if found else None
        known &= cost is not None
        total += cost or Cost()
    return "; ".join(reasons), total if known else None


def _plan(run: Run, planned: str | None) -> dict[str, Any]:
    """The run plan."""
    entry = {"name": "plan", "fingerprint": "", "shards": 0, "to_do": 0, "state": "cached" if planned else "waiting"}
    cost, because = (None, "") if planned else costs.run_plan(run)
    return entry | ({"because": because} if because else {}) | _expected(cost)


def _train(run: Run, planned: str | None, training: dict[str, Any]) -> dict[str, Any]:
    """The training: what is left of it."""
    entry = {"name": "train", "fingerprint": "", "shards": 0, "to_do": 0, "state": "stale" if planned else "waiting"}
    if planned and run.trained():
        return entry | {"state": "cached"}
    saved = checkpoint.steps(run.store, f"{run.spec.name}-{run.identity[:12]}") if planned else []
    steps = training["steps"] - max(saved, default=0)
    seconds, because = costs.training(run, steps, training["parameters"])
    if seconds is None:
        return entry | {"because": because}
    size = costs.training_bytes(run, training["steps"], training["parameters"])
    return entry | {"because": because} | _expected(Cost(run.spec.training.workers, seconds, size))


def _admission(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What sources refuse before extraction: the reason, the expression, when it is asked, and of records that were
    read with it how many there were and were refused."""
    sources = {name: refusals for name, reader in pipeline.readers.items() if (refusals := reader.refusals())}
    read: Counter[str] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    index = pipeline.outputs["documents"].index
    for place, shard in enumerate(pipeline.shards if sources else ()):
        if shard.source in sources and (ledger := index.ledger(place)):
            read[shard.source] += ledger["in"]
            refused.update({(shard.source, reason): count for reason, count in ledger["dropped"].items()})
    return [
        {"source": name, "reason": reason, "refuse": text, "by": by, "records": read[name]}
        | ({"refused": refused[name, reason]} if read[name] else {})
        for name, refusals in sources.items()
        for reason, text, by in refusals
    ]


def _pins(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Every pin with its age in days, its "facts", and whether the spec would now learn it differently."""
    found = []
    learned = {node.stage.label: node.stage for node in pipeline.nodes if isinstance(node.stage, Estimator)}
    for name, history in pipeline.pins.history.items():
        pin = history[-1]
        age = datetime.now(UTC) - datetime.fromisoformat(pin["time"])
        entry = {
            "name": name,
            "run": pin["run"],
            "time": pin["time"],
            "age_days": round(age.total_seconds() / 86400, 6),
        }
        if "sha256" in pin:
            entry |= {"sha256": pin["sha256"], "facts": pin.get("facts", {})}
        if left_out := without(pin):
            entry["without"] = f"{left_out} (--retrain {name} learns it of all)"
        if moved := pipeline.pins.moved(name):
            entry["moved"] = f"learned anew by the next run, as {', '.join(moved)} moved"
        elif name in learned and (changed := changes.in_words(pin["ingredients"], learned[name].fingerprint_fields())):
            entry["settings_since_changed"] = "; ".join(changed) + f" (--retrain {name} learns it anew)"
        elif name in learned and (changed := changes.texts(pipeline, pin, learned[name])):
            why = f"learned from text that was made otherwise: {'; '.join(changed)}"
            entry["text_since_changed"] = f"{why} (--retrain {name} learns it anew)"
        elif name in learned and (changed := changes.columns(pipeline, pin, learned[name])):
            why = f"learned from columns that were made otherwise: {'; '.join(changed)}"
            entry["columns_since_changed"] = f"{why} (--retrain {name} learns it anew)"
        elif name in learned and (why := learned[name].since(pin)):
            entry["file_since_changed"] = f"{why} (--retrain {name} takes it)"
        found.append(entry)
    return found


def _training(run: Run, planned: str | None) -> dict[str, Any]:
    """Steps, positions (steps x batch), tokens, tokens per parameter, FLOPs. `tokens` are the targets, which a run
    reports, where the plan exists, with the epochs per channel; before, they are the positions, of which a few will be
    no targets."""
    spec = run.spec
    positions = tokens = sum(shape.steps * shape.rows * shape.sequence for shape in spec.shapes)
    pin = run.pipeline.pins.get("tokenizer")
    vocabulary = int(pin["facts"]["size"]) if pin else spec.tokenizer.vocabulary
    vocabulary += len(added_tokens(spec, vocabulary))
    longest = max(spec.training.sequence, *(shape.sequence for shape in spec.shapes))
    parameters = models.parameters(spec.model, vocabulary, longest)
    later: dict[str, Any] = {}
    if planned is not None:
        made = run.plan_facts
        tokens = made["supervised"]
        epochs = {name: round(used["epochs"], 6) for name, used in made["usage"].items()}
        later = {"plan": summary.place(run.store, planned), "epochs": epochs}
    return {
        "steps": spec.steps,
        "positions": positions,
        "tokens": tokens,
        "parameters": parameters,
        "tokens_per_parameter": round(tokens / parameters, 6),
        "flops": sum(
            models.flops(spec.model, vocabulary, shape.sequence) * shape.steps * shape.rows * shape.sequence
            for shape in spec.shapes
        ),
        "learning_rate": _rates(spec),
        "memory": _memory(spec, vocabulary, longest),
        **later,
    }


def _memory(spec: Spec, vocabulary: int, longest: int) -> dict[str, Any]:
    """Bytes that a step takes of each worker's device, those that it has, and whether the ones fit into the others. Of
    a model of a folder how sure that is, too."""
    low = spec.training.precision in ("bf16", "fp16")
    if spec.training.precision == "auto":
        low = memory.gpu_bytes(spec.training) is not None or models.processor_has_bf16()
    targets = max(targets_of_a_row(shape.objective, longest) for shape in spec.shapes)
    found = memory.estimate(spec.model, spec.training, vocabulary, longest, targets, low)
    has = memory.device_bytes(spec.training)
    sure = {"sure": memory.OF_FOLDERS} if spec.model.architecture == "causal" else {}
    return {**asdict(found), "total": found.total, "device": has, "fits": found.total < has, **sure}


def _rates(spec: Spec) -> list[tuple[int, float]]:
    """The learning rate from the first step to the last: (step, rate), of some steps."""
    steps, settings = spec.steps, spec.training.learning_rate
    some = np.unique(np.linspace(0, steps - 1, min(_DRAWN, steps)).astype(int)).tolist()
    return [(step + 1, learning_rate(step, steps, settings, spec.model.hidden)) for step in some]
