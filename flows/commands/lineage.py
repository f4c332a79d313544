"""From a step to its documents, and from a document to the steps that trained on it.

A run plan names documents by token file and position; the tokens of a shard lie beside its documents, position for
position. So both ways need a scan of small columns alone. Documents of a plan that the spec as it stands has no longer
(another tokenizer, other shards) are named by file and position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.objectives import Causal, Prefix
from flows.commands import document as documents
from flows.commands import trainings
from flows.commands.query import plain
from flows.run import Run
from tasks.engine.outputs import token_files
from tasks.planning.trace import rows_of
from training import checkpoint, gradients, log, start
from training.blame import blame
from training.checkpoint import CheckpointError
from training.rows import Plan

LOGGED = ("loss", "lr", "grad_norm", "tokens", "channels", "reason", "left_out")
"""What is said of a step as the log has it."""


def of_step(current: Run, step: int, top: int, name: str | None = None, row: int | None = None) -> dict[str, Any]:
    """The documents of one step of a training, the `top` with the highest and the `top` with the lowest loss, each with
    id, source, url, the beginning of its text, channel, targets and loss; beside them what the log says of the step,
    and the first rows of `others` of its number, one of which is asked for by its `row`. Raises CheckpointError where
    there is no such training or step."""
    training = trainings.training(current, name)
    found = blame(current.store, training.spec, training.plan, training.name, step, row)
    table = found.documents
    count = table.num_rows
    some = sorted({*range(min(top, count)), *range(max(0, count - top), count)})
    rows = table.take(some).to_pylist()
    known = documents.at(current.pipeline, rows)
    return {
        "run": training.name,
        "step": step,
        "row": found.record["row"],
        "others": [{key: other.get(key) for key in ("row", "reason")} for other in found.others],
        "logged": {key: found.record.get(key) for key in LOGGED},
        "weights_of_step": found.weights,
        "exact": found.exact,
        "documents": count,
        "loss": float(np.average(table["loss"].to_numpy(), weights=table["tokens"].to_numpy())),
        "shown": [
            known.get((row["file"], row["position"]), {}) | {key: plain(value) for key, value in row.items()}
            for row in rows
        ],
    }


def layer_norms(current: Run, step: int, name: str | None = None, row: int | None = None) -> dict[str, float]:
    """Layer -> norm of the gradient of a step there, by the same weights. Raises CheckpointError as `of_step`."""
    training = trainings.training(current, name)
    return gradients.layer_norms(current.store, training.spec, training.plan, training.name, step, row)


def of_document(current: Run, asked: str) -> dict[str, Any]:
    """What became of one document, by URL or the beginning of its id: its verdict, and of every training whose plan
    reads it the steps at which it was trained on, with its targets there, and how many are still to come; beside these
    the trainings that began with a checkpoint of one of them (`began_with`). Raises SpecError where no document, or
    more than one, has it."""
    found = documents.document(current.pipeline, asked)
    if "shard" not in found:
        return found
    place = current.pipeline.uids().index(found["shard"])
    ids = current.pipeline.outputs["documents"].index.digests["id"][place].tobytes().hex()
    read = {file: [found["position"]] for file in token_files(current.store, {ids})[ids]}
    used = {name: use(current, name, read) for name in trainings.names(current.store)}
    for name, use_of_run in used.items():
        child = name
        for before, step in start.ancestors(current.store, name):
            if before in used and was_read(current, child, before, step, read):
                use_of_run["began_with"] = f"{before}@{step}"
                break
            child = before
    chosen = ("id", "source", "file", "url", "channel", "kept", "reason", "taken_down", "augmented")
    return {key: found[key] for key in chosen if key in found} | {
        "verdict": found["verdict"],
        "runs": [
            use for use in used.values() if any(use.get(key) for key in ("steps", "to_come", "held_out", "began_with"))
        ],
    }


def use(current: Run, name: str, documents: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """How one training uses documents, which are rows of token files; `predicted`: whether the tokens are its targets
    there, not all that it reads, of which an objective predicts some. Raises CheckpointError where its log lacks some
    of its steps."""
    training = trainings.training(current, name)
    kept = log.surviving(log.records(current.store, name))
    logged = [record for record in kept if record["kind"] == "step"]
    last = max(checkpoint.steps(current.store, name), default=0)
    if lost := log.missing((record["step"] for record in logged), last):
        raise CheckpointError(log.lacking(name, lost))
    rows = rows_of(current.store, training.plan.path, documents)
    diverged = [record for record in kept if record["kind"] in log.DIVERGED]
    taken = _steps([record for record in logged if log.updated(record)], training.plan, rows)
    trained = rows.filter(pa.array(taken > 0))
    steps: dict[int, int] = defaultdict(int)
    channels = training.plan.channels
    as_augmented: dict[str, int] = dict.fromkeys(training.plan.augmented, 0)
    columns = (trained[name].to_pylist() for name in ("channel", "targets"))
    for step, channel, targets in zip(taken[taken > 0].tolist(), *columns, strict=True):
        steps[step] += targets
        if channels[channel] in as_augmented:
            as_augmented[channels[channel]] += targets
    return {
        "run": name,
        "steps": [{"step": step, "tokens": targets} for step, targets in sorted(steps.items())],
        "tokens": int(sum(steps.values())),
        "predicted": all(isinstance(phase.objective, Causal | Prefix) for phase in training.plan.phases),
        "augmented": {name: targets for name, targets in as_augmented.items() if targets},
        "to_come": int(to_come(logged, diverged, rows).sum()),
        "held_out": bool(pc.any(pc.equal(rows["phase"], -1)).as_py()),
    }


def was_read(current: Run, child: str, run: str, step: int, documents: Mapping[str, Sequence[int]]) -> bool:
    """Whether the checkpoint of a run that a training began with (`child`) was trained on one of some documents. Raises
    CheckpointError where that run is gone, or its log lacks some of those steps."""
    training = trainings.training(current, run)
    records = start.trained_on(current.store, child, run, step)
    rows = rows_of(current.store, training.plan.path, documents)
    return bool((_steps([record for record in records if log.updated(record)], training.plan, rows) > 0).any())


def _steps(records: list[log.Record], plan: Plan, rows: pa.Table) -> np.ndarray:
    """Of each row the step that a training read it at (int64); 0 where it did not."""
    found = np.zeros(rows.num_rows, np.int64)
    phase, row = rows["phase"].to_numpy(), rows["row"].to_numpy()
    for number in range(len(plan.phases)):
        taken = [(r["row"], r["rows"], r["step"]) for r in records if r["phase"] == number]
        here = np.flatnonzero(phase == number)
        if taken and len(here):
            first, count, step = np.array(sorted(taken)).T
            record = np.searchsorted(first, row[here], "right") - 1
            read = (record >= 0) & (row[here] < first[record] + count[record])
            found[here[read]] = step[record[read]]
    return found


def to_come(steps: Sequence[log.Record], diverged: Sequence[log.Record], rows: pa.Table) -> np.ndarray:
    """Which rows a training is still to read: those behind its last step, but for what it skips as it diverged."""
    phase, row = rows["phase"].to_numpy(), rows["row"].to_numpy()
    last_phase, first = max(((r["phase"], r["row"] + r["rows"]) for r in steps), default=(0, 0))
    found = (phase > last_phase) | ((phase == last_phase) & (row >= first))
    for r in diverged:
        found &= (phase != r["phase"]) | (row < r["row"]) | (row >= r["row"] + r["rows"])
    return found
