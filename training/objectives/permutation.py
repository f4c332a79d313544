"""The last tokens of a random order from those before them in it (Yang et al. 2019).

As in the authors' own code, the tokens that are not predicted come first and all at once: each of them sees all others
of its document. A predicted token sees those and the predicted ones before it in the order, and never itself."""

from __future__ import annotations

import numpy as np

from data_specs.objectives import Permutation
from tasks.planning.objectives import Noise, predicted
from training.objectives.packed import IGNORED, Made, Packed


def make(objective: Permutation, packed: Packed, noise: Noise) -> Made:
    """`places`, int64 [m, L], are those that are predicted, in their order; `rank`, int64 [m, T], is 0 of what is seen
    alone, and from 1 on the place in the order."""
    most = int(predicted(objective.predicted, np.array([packed.width]))[0])
    labels = np.full((len(packed.rows), most), IGNORED)
    places = np.zeros((len(packed.rows), most), np.int64)
    rank = np.zeros(packed.rows.shape, np.int64)
    for row, (held, count) in enumerate(zip(packed.held.tolist(), packed.targets.tolist(), strict=True)):
        order = np.argsort(noise.bits(packed.first + row, held), kind="stable")[-count:]
        places[row, :count], labels[row, :count] = order, packed.rows[row, order]
        rank[row, order] = np.arange(1, count + 1)
    return Made(packed.rows, packed.positions, labels, places, {"places": places, "rank": rank})
