"""What a model reads of a plan's rows, and which tokens it is to predict, by objective.

An objective is a function of the rows and of their noise (tasks/planning/objectives.py), so a batch is the same on
every rank and after every resume. Of each target it says which token of its row it is, or stands for: from that follow
its document and whatever losses are summed by.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_specs.objectives import Causal, Masked, Objective, Permutation, Prefix, SpanCorruption
from tasks.planning.objectives import Noise
from training.objectives import causal, masked, permutation, span_corruption
from training.objectives.packed import IGNORED, Batch, Packed

__all__ = ["IGNORED", "Batch", "Packed", "batch"]


def batch(objective: Objective, packed: Packed, noise: Noise, special: Mapping[str, int], vocabulary: int) -> Batch:
    """`special`: token -> its number; `vocabulary`: entries of the tokenizer, those not counted."""
    if isinstance(objective, Masked):
        made = masked.make(objective, packed, noise, special, vocabulary)
    elif isinstance(objective, SpanCorruption):
        made = span_corruption.make(objective, packed, noise, special)
    elif isinstance(objective, Permutation):
        made = permutation.make(objective, packed, noise)
    elif isinstance(objective, Prefix):
        made = causal.with_prefix(packed, noise)
    else:
        assert isinstance(objective, Causal)  # the last of them
        made = causal.make(packed)
    segment = np.take_along_axis(packed.segment, made.origin, axis=1)
    groups = {name: values[segment].astype(np.int64) for name, values in packed.groups.items()}
    return Batch(made.inputs, made.positions, made.labels, made.origin, packed.channels, made.more, groups)
