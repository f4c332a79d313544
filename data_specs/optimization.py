"""Settings of optimizers and of averages of weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_specs.base import Settings


class Muon(Settings):
    """Muon (Jordan et al. 2024) for the matrices of layers; embeddings, the output matrix, biases and norms keep
    AdamW."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """How much of the running mean of gradients stays at each step."""
    nesterov: bool = True
    """Step from where the momentum leads."""
    iterations: Annotated[int, Field(ge=1, le=20)] = 5
    """Of Newton-Schulz, which makes a matrix orthogonal."""
    scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Of the step of a matrix [A, B]: 0.2 sqrt(max(A, B)), as large as AdamW's, so that its rate and weight decay serve
    (Liu et al. 2025); or sqrt(max(1, A / B)) (Jordan et al. 2024)."""
    rate: Annotated[float, Field(gt=0)] = 1.0
    """What the learning rate is multiplied by for these matrices."""


class Average(Settings):
    """An exponential moving average of the weights (Polyak & Juditsky 1992), kept beside them and in checkpoints."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """How much of the average stays at each step; at step t at most (1 + t) / (10 + t), so that it soon forgets the
    weights that a training began with."""
    evaluate: bool = True
    """Held-out losses are those of the average."""
    export: bool = True
    """The average is what is exported and sampled from."""
