"""Each token from those before it, and the same behind a prefix that sees itself whole (Raffel et al. 2020)."""

from __future__ import annotations

import numpy as np

from tasks.planning.objectives import Noise, prefix_lengths
from training.objectives.packed import IGNORED, Made, Packed


def make(packed: Packed) -> Made:
    """Of T+1 tokens the first T are read, the last T predicted. A segment's first token is no target: what stands
    before it is another document."""
    positions = packed.positions
    labels = np.where(positions[:, 1:] == 0, IGNORED, packed.rows[:, 1:])
    origin = np.broadcast_to(np.arange(1, packed.width), labels.shape)
    return Made(packed.rows[:, :-1], positions[:, :-1], labels, origin)


def with_prefix(packed: Packed, noise: Noise) -> Made:
    """The same, where tokens of a prefix are no targets; `prefix`, bool [m, T], says which they are."""
    lengths = prefix_lengths(packed.lengths, noise.of_segments(packed.first, packed.segments))
    inside = packed.positions < np.append(lengths, 0)[packed.segment]
    made = make(packed)
    labels = np.where(inside[:, 1:], IGNORED, made.labels)
    return Made(made.inputs, made.positions, labels, made.origin, {"prefix": inside[:, :-1]})
