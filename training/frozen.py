"""A model as a checkpoint has it, on one process without DeepSpeed: to be looked at, sampled from, exported.

Guarantee: its weights are the float32 master weights of the checkpoint, whose every hash was verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data_specs.spec import Spec
from data_specs.training import Start
from tasks.storage.store import Store
from training import checkpoint, models, start
from training.checkpoint import CheckpointError
from training.rows import Plan, PlanError
from training.vocabulary import loaded_tokenizer, pinned_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def step_at(store: Store, run: str, step: int | None = None) -> int:
    """The newest checkpoint of a run that is not after `step`; the newest of all by default. Raises CheckpointError
    where there is none."""
    found = checkpoint.steps(store, run)
    chosen = next((at for at in found if step is None or at <= step), None)
    if chosen is None:
        wanted = "" if step is None else f" of step {step} or before"
        kept = f"; it has those of steps {', '.join(map(str, sorted(found)))}" if found else ""
        raise CheckpointError(f"runs/{run} has no checkpoint{wanted}{kept}")
    return chosen


def config(store: Store, spec: Spec, plan: Plan, run: str, step: int) -> PretrainedConfig:
    """The architecture after `step` optimizer steps: of a Llama with the base of RoPE and the longest rows until then.
    Raises CheckpointError."""
    phase = checkpoint.load(store, run, step).cursor.phase if step else 0
    llama = spec.model.architecture == "llama"
    base = plan.phases[phase].rope_theta
    settings = spec.model.model_copy(update={"rope_theta": base}) if base else spec.model
    return models.config(settings, plan.vocabulary, plan.longest(phase if llama else None))


def exported(spec: Spec, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Of the arrays of a parameter, the weights that are exported and sampled from: their average, where the checkpoint
    has one that the spec wants."""
    wanted = spec.training.average is None or spec.training.average.export
    return arrays["average"] if wanted and "average" in arrays else arrays["weight"]


def model(
    store: Store, spec: Spec, plan: Plan, run: str, step: int, as_exported: bool = False, phase: int | None = None
) -> Any:
    """The model after `step` optimizer steps, in float32, for evaluation; at step 0 as it was drawn from the seed. It
    reads batches, those of a `phase` with its base of RoPE. Raises CheckpointError."""
    made = models.build(spec.model, plan.vocabulary, plan.longest(), spec.seed)
    shapes = {name: tuple(parameter.shape) for name, parameter in made.named_parameters()}
    read = checkpoint.verified(store, run, step).read if step else _begun_with(store, spec, plan, run, shapes)
    if read:
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                arrays = read(name, 0, parameter.numel())
                values = exported(spec, arrays) if as_exported else arrays["weight"]
                parameter.copy_(torch.from_numpy(values.copy()).view(parameter.shape))
    if phase is None:
        phase = checkpoint.load(store, run, step).cursor.phase if step else 0
    if base := plan.phases[phase].rope_theta:
        models.set_rope_base(made, base)
    return made.eval()


def _begun_with(
    store: Store, spec: Spec, plan: Plan, run: str, shapes: dict[str, tuple[int, ...]]
) -> start.Read | None:
    """The weights that a run began with, where they were not drawn from its seed. Raises CheckpointError where there
    are others in their place."""
    if mistake := start.other(store, run):
        raise CheckpointError(mistake)
    settings = store.json(f"runs/{run}/run.json")["spec"]["training"].get("start")
    if not settings:
        return None
    try:
        loaded = loaded_tokenizer(store, pinned_tokenizer(store, spec, plan), spec)
    except PlanError:  # it is not pinned any more
        loaded = None
    return start.reader(store, spec, Start.model_validate(settings), shapes, loaded)[0]
