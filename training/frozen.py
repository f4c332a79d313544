"""A model as a checkpoint has it, on one process without DeepSpeed: to be looked at, sampled from, exported.

Guarantee: its weights are the float32 master weights of the checkpoint, whose every hash was verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from data_specs.spec import Spec
from tasks.storage.store import Store
from training import checkpoint
from training import model as architecture
from training.checkpoint import CheckpointError, Reader

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


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


def weights(store: Store, run: str, step: int) -> Reader:
    """The weights of the checkpoint of a step. Raises CheckpointError where it does not verify."""
    found = checkpoint.load(store, run, step)
    checkpoint.verify(store, run, found.shards)
    return Reader(store, run, found)


def model(store: Store, spec: Spec, vocabulary: int, sequence: int, run: str, step: int) -> LlamaForCausalLM:
    """The model after `step` optimizer steps, in float32, for evaluation; at step 0 as it was drawn from the seed.
    Raises CheckpointError."""
    made = architecture.build(spec.model, vocabulary, sequence, spec.seed)
    if step:
        read = weights(store, run, step).read
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                values = torch.from_numpy(read(name, 0, parameter.numel())["weight"])
                parameter.copy_(values.view(parameter.shape))
    return made.eval()
