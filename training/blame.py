"""Which documents a step's loss came from: their own losses, under the weights that read them or the nearest kept ones.

A training logs the rows that each of its steps read. Their losses are computed anew, on one process in float32, from
the newest checkpoint that the step did not yet shape. Where that is of the step before, they are those of the step (in
bf16 to its rounding), and `exact` says so; where it is older, they are what that model makes of the documents, which
still shows garbage (losses far above the others) and repetition (far below).

Several steps may bear one number: those that diverged, whose rows are not read again, and the one that was taken in
their place. It is that one unless another is asked for by its first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch

from data_specs.spec import Spec
from tasks.planning.trace import row_documents
from tasks.storage.store import Store
from training import frozen, log, models, start
from training.checkpoint import CheckpointError
from training.document_losses import DocumentLosses
from training.loss import token_losses
from training.rows import Plan, Rows

MICRO = 8
"""Rows of a forward pass."""


@dataclass(frozen=True)
class Blame:
    """A step's record in the log, and those of others of its number; the step of the weights that the documents were
    read with, whether those are the very ones that the step read them with, and `documents`: `file`, `position`,
    `channel`, `tokens` (int64, targets in the step) and `loss` (float64, nats per token), the highest loss first."""

    record: log.Record
    others: list[log.Record]
    weights: int
    exact: bool
    documents: pa.Table


def blame(store: Store, spec: Spec, plan: Plan, run: str, step: int, row: int | None = None) -> Blame:
    """The documents of one step (1-based) of a training and their losses; of several of that number, the one that was
    taken, or that begins at a `row` of its phase. Raises CheckpointError where there is none, where a checkpoint does
    not verify, or where the weights that the training began with have changed, PlanError where documents of its plan
    were taken down."""
    plan.whole()
    record, others, at, exact = read_with(store, run, step, row)
    found = frozen.model(store, spec, plan, run, at, phase=record["phase"])
    rows, count = Rows(store, plan, record["phase"]), record["rows"]
    losses = DocumentLosses(row_documents(store, plan.path, record["phase"], record["row"], count), count)
    for first in range(0, count, MICRO):
        batch = rows.batch(record["row"] + first, min(MICRO, count - first))
        with torch.no_grad():
            each = token_losses(models.logits(found, batch, torch.device("cpu")), torch.from_numpy(batch.labels))
        losses.add(first, batch, each.numpy())
    return Blame(record, others, at, exact, losses.by_document())


def read_with(store: Store, run: str, step: int, row: int | None) -> tuple[log.Record, list[log.Record], int, bool]:
    """What the log says of a step, and of others of its number; the step of the newest weights that are kept and that
    it did not yet shape, and whether those are the very ones that it read its rows with."""
    record, others, before = _record(log.surviving(log.records(store, run)), run, step, row)
    try:
        at = frozen.step_at(store, run, before)
    except CheckpointError:
        at = 0  # the weights that the run began with
    return record, others, at, at == before == step - 1 and (at > 0 or start.is_known(store, run))


def _record(
    logged: Sequence[log.Record], run: str, step: int, row: int | None
) -> tuple[log.Record, list[log.Record], int]:
    """What the log says of a step, and of others of its number; and how many steps were taken before it in the plan,
    which are fewer where rows of earlier ones were left out after it had diverged."""
    taken = [record for record in logged if record["kind"] == "step"]
    found = [record for record in logged if record["step"] == step and record["kind"] in (*log.DIVERGED, "step")]
    found.sort(key=lambda record: record["kind"] == "step")
    if not found:
        until = f"; it took steps 1 to {len(taken)}" if taken else ""
        raise CheckpointError(f"runs/{run} has no step {step}{until}")
    matching = [record for record in found if row is None or record["row"] == row]
    if not matching:
        rows = ", ".join(f"{record['row']:,}" for record in found)
        raise CheckpointError(f"step {step} of runs/{run} does not begin at row {row:,}, but at {rows}")
    record = matching[-1]
    place = record["phase"], record["row"]
    before = sum((each["phase"], each["row"]) < place for each in taken)
    return record, [each for each in found if each is not record], min(before, step - 1)
