"""Some tokens from all others of their document (Devlin et al. 2019): of those that are chosen, most are read as the
mask token, some as any other, some as they are, so that a model has to know of each token whether it belongs there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_specs.objectives import Masked
from tasks.planning.objectives import MASK, Noise, predicted
from training.objectives.packed import IGNORED, Made, Packed


def make(objective: Masked, packed: Packed, noise: Noise, special: Mapping[str, int], vocabulary: int) -> Made:
    """`places`, int64 [m, L], are those that are predicted. As many of each row as the plan says, without replacement;
    what each is read as is drawn for itself."""
    most = int(predicted(objective.rate, np.array([packed.width]))[0])
    inputs = packed.rows.copy()
    labels = np.full((len(inputs), most), IGNORED)
    places = np.zeros((len(inputs), most), np.int64)
    for row, (held, count) in enumerate(zip(packed.held.tolist(), packed.targets.tolist(), strict=True)):
        number = packed.first + row
        chosen = np.sort(np.argsort(noise.bits(number, held), kind="stable")[:count])
        labels[row, :count], places[row, :count] = inputs[row, chosen], chosen
        share = noise.bits(number, count, purpose=1).astype(np.float64) / 2.0**64
        other = (noise.bits(number, count, purpose=2) % np.uint64(vocabulary)).astype(np.int64)
        read = np.where(share < objective.masks + objective.random, other, labels[row, :count])
        inputs[row, chosen] = np.where(share < objective.masks, special[MASK[0]], read)
    return Made(inputs, packed.positions, labels, places, {"places": places})
