"""How much memory a training step takes of a device at most, from its settings alone, without torch.

Weights, gradients and optimizer state as DeepSpeed keeps them at each ZeRO stage (Rajbhandari et al. 2020); of a
micro-batch what its layers keep for the way back (`training.activations`), and what the loss takes.
`benchmarks/memory.py` holds it against measured peaks. The causal models of folders are counted as if they were Llamas,
by their matrices; libraries are not counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from data_specs.training import Model, Training
from training.activations import activations as of_batch
from training.models.counts import inner, layer, parameters

OF_FOLDERS = "+10 % and -30 % (a GPT-2, a Qwen2 and a GPT-NeoX were measured; -40 % with activation checkpointing)"
"""By how much a step of a folder's model may take more and less, and of which that is known."""
ONLY_PREDICTED = ("bert", "t5", "xlnet")
"""Architectures whose output matrix gets what is predicted alone."""
CHUNK, TOKENS = 2**24, 512
"""Logits of a chunk, and tokens, at most, as in `training.models.head`."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of one device."""

    weights: int
    """And their float32 copies."""
    gradients: int
    optimizer: int
    """Its state, and the moving average of weights."""
    activations: int
    loss: int
    update: int
    """What the optimizer needs for a moment when it takes a step."""

    @property
    def total(self) -> int:
        """At most: activations are gone when the step is taken."""
        return self.weights + self.gradients + self.optimizer + max(self.activations + self.loss, self.update)


def estimate(model: Model, training: Training, vocabulary: int, sequence: int, targets: int, bf16: bool) -> Estimate:
    """Of the device of each worker; `sequence`: positions of the longest rows, of which `targets` are predicted (of a
    Llama it does not matter, as all have logits); `bf16`: or fp16."""
    weights, gradients, optimizer, update = _state(model, training, vocabulary, sequence, bf16)
    activations = of_batch(model, training, sequence, targets, bf16)
    with_logits = targets if model.architecture in ONLY_PREDICTED else sequence
    tokens = training.micro(sequence) * with_logits // training.sequence_parallel
    loss = _loss(model, training, vocabulary, tokens)
    return Estimate(*(round(value) for value in (weights, gradients, optimizer, activations, loss, update)))


def _state(
    model: Model, training: Training, vocabulary: int, sequence: int, bf16: bool
) -> tuple[float, float, float, float]:
    """Bytes of weights, gradients, the optimizer's state, and the step."""
    layers = model.layers * layer(model) / training.tensor_parallel
    whole = parameters(model, vocabulary, sequence) - model.layers * layer(model) + layers
    stage, ranks = training.zero, training.workers // training.tensor_parallel
    part = whole / ranks
    state = 8 * part if training.muon is None else 8 * part - 4 * layers / ranks
    state += 4 * part if training.average else 0
    if stage == 0:
        largest = max(vocabulary * model.hidden, model.hidden * inner(model))
        state = state * ranks
        return whole * (6 if bf16 else 4), 4 * whole, state, 8 * largest
    low = 2 if bf16 else 4
    weights = low * (part if stage == 3 else whole) + 4 * part
    kept = {1: whole, 2: 0, 3: part}[stage]  # stage 2 gives them up as they are reduced
    gradients = low * kept + (4 * part if bf16 or stage > 1 else 0)
    if stage == 3:  # weights of two layers and of the embeddings come and go
        weights += low * max(vocabulary * model.hidden, 2 * layer(model))
    if training.offload != "none":
        return weights - 4 * part, gradients - 4 * part, 0, 0
    flat = 0 if bf16 or stage > 1 else 4 * part  # gradients once more, end to end
    return weights, gradients, state, 8 * part + flat


def _loss(model: Model, training: Training, vocabulary: int, tokens: int) -> float:
    """Whole logits: their logarithms and two gradients in float32; chunks: two of them, and the matrix's gradient."""
    if training.chunks_loss(vocabulary):
        return min(CHUNK, min(TOKENS, tokens) * vocabulary) * 4 * 2 + 4 * vocabulary * model.hidden
    return 12 * tokens * vocabulary


def device_bytes(training: Training) -> int:
    """Of each worker's device: the GPU's, as its driver says, else its share of the machine's memory."""
    if found := gpu_bytes(training):
        return found
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // training.workers


def gpu_bytes(training: Training) -> int | None:
    """Of a GPU of this machine, as its driver says; None where there is none, or none is to be used."""
    if training.device != "cpu" and (command := shutil.which("nvidia-smi")):
        asked = [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
        if found and found[0].isdigit():
            return int(found[0]) * 2**20
    return None
