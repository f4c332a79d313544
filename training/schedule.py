"""The learning rate as a pure function of the place in the plan, so that resuming is a number and nothing drifts."""

from __future__ import annotations

import math

from data_specs.training import LearningRate


def learning_rate(step: int, steps: int, settings: LearningRate, width: int) -> float:
    """The rate of the step `step` (0-based) of a plan of `steps`, for a model of `width`; of a range that is skipped
    nothing is asked.

    Warm-up is linear and reaches the peak at its last step. What follows it, as a share of the peak:

    - `constant`: 1.
    - `wsd`: 1, then over the last share of the steps from 1 to the floor, by `shape` (Hu et al. 2024).
    - `cosine`, `linear`: from 1 to the floor, by half a cosine (Loshchilov & Hutter 2017) or a line.
    - `inverse_sqrt`: sqrt(warmup / step), never below the floor (Raffel et al. 2020).
    - `noam`: the same, where the peak is that of Vaswani et al. 2017: `peak` / sqrt(width x warmup).

    The last step of a plan that falls to the floor would be followed by `floor * peak`.
    """
    peak = settings.peak
    if settings.schedule == "noam":
        peak /= math.sqrt(width * settings.warmup)
    if step < settings.warmup:
        return peak * (step + 1) / settings.warmup
    return peak * _share(step, steps, settings)


def _share(step: int, steps: int, settings: LearningRate) -> float:
    """What is left of the peak at a step after the warm-up."""
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule in ("inverse_sqrt", "noam"):
        return max(settings.floor, math.sqrt(settings.warmup / max(1, step)))
    wsd = settings.schedule == "wsd"
    first = steps - settings.decay * steps if wsd else settings.warmup
    shape = settings.shape if wsd else settings.schedule
    done = min(1.0, max(0.0, (step - first) / max(steps - first, 1e-9)))
    return _fallen(done, shape, settings.floor)


def _fallen(done: float, shape: str, floor: float) -> float:
    """From 1 to the floor: how much is left when a share of the way is done."""
    if shape == "exponential":
        return floor**done
    left = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "1-sqrt": 1 - math.sqrt(done)}[shape]
    return floor + (1 - floor) * left
