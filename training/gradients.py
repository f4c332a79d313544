"""The norm of a step's gradient, layer by layer: where a spike came from.

It is asked for of one step, so training pays nothing for it: the step's rows are read anew, with the weights that read
them or the nearest kept ones, on one process in float32. The squares add up to the square of the norm in the log where
the weights are those of the step.
"""

from __future__ import annotations

import math
import re

import torch

from data_specs.spec import Spec
from tasks.storage.store import Store
from training import frozen, models
from training.blame import MICRO, read_with
from training.loss import minimised, token_losses
from training.rows import Plan, Rows

_LAYER = re.compile(r".*?\.\d+(?=\.)")
"""Of the name of a parameter, the part that names its layer."""


def layer_norms(store: Store, spec: Spec, plan: Plan, run: str, step: int, row: int | None = None) -> dict[str, float]:
    """Layer -> norm of the gradient of a step (1-based) there, in the order of the model; what is in no layer by the
    name of its parameter. Raises as `blame` does."""
    plan.whole()
    record, _, at, _ = read_with(store, run, step, row)
    model = frozen.model(store, spec, plan, run, at, phase=record["phase"])
    z_loss = store.json(f"runs/{run}/run.json")["spec"]["training"].get("z_loss", 0.0)
    rows, first, count = Rows(store, plan, record["phase"]), record["row"], record["rows"]
    targets = rows.target_count(first, count)
    for start in range(first, first + count, MICRO):
        batch = rows.batch(start, min(MICRO, first + count - start))
        logits, labels = models.logits(model, batch, torch.device("cpu")), torch.from_numpy(batch.labels)
        (minimised(token_losses(logits, labels), logits, labels, z_loss) / targets).backward()
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            of_layer = layer(name)
            squares[of_layer] = squares.get(of_layer, 0.0) + float(parameter.grad.double().square().sum())
    return {of_layer: math.sqrt(square) for of_layer, square in squares.items()}


def layer(name: str) -> str:
    """The layer of a parameter, as `model.layers.3`; outside of layers its own name."""
    found = _LAYER.match(name)
    return found[0] if found else name.removesuffix(".weight")
