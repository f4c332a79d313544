"""The learning rate as a pure function of the place in the plan, so that resuming is a number and nothing drifts."""

from __future__ import annotations

import math

from data_specs.training import LearningRate


def learning_rate(step: int, steps: int, settings: LearningRate) -> float:
    """The rate of the step `step` (0-based) of a plan of `steps`; of a range that is skipped nothing is asked.

    Warm-up is linear and reaches the peak at its last step. Then `wsd` stays at the peak and falls linearly over the
    last share of the steps (Hu et al. 2024), `cosine` follows half a cosine (Loshchilov & Hutter 2017), `constant`
    stays. The last step of a plan would be followed by `floor * peak`.
    """
    if step < settings.warmup:
        return settings.peak * (step + 1) / settings.warmup
    floor = settings.peak * settings.floor
    if settings.schedule == "cosine":
        done = (step - settings.warmup) / max(1, steps - settings.warmup)
        return floor + (settings.peak - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2
    if settings.schedule == "wsd":
        decay = settings.decay * steps
        if steps - step < decay:
            return floor + (settings.peak - floor) * max(0, steps - step) / decay
    return settings.peak
