"""Rows as the plan has them, and as a model reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

IGNORED = -100
"""Label of what is no target."""


@dataclass(frozen=True)
class Packed:
    """Rows as the plan has them: `tokens` and the `lengths` of their segments, end to end; `segments` of each row, the
    number of `targets` and the channel (int64) of each; `groups`: column -> int16, one for each segment."""

    first: int
    """The number of the first of them."""
    width: int
    """Tokens that a full row has; the rest of a shorter one is filled."""
    tokens: np.ndarray
    lengths: np.ndarray
    segments: np.ndarray
    targets: np.ndarray
    channels: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def held(self) -> np.ndarray:
        """Tokens of each row; int64."""
        return np.diff(np.cumsum(self.lengths, dtype=np.int64)[np.cumsum(self.segments) - 1], prepend=0)

    @cached_property
    def real(self) -> np.ndarray:
        """Which places of the rows hold a token; bool [rows, width]."""
        return np.arange(self.width) < self.held[:, None]

    def grid(self, values: np.ndarray, filling: int) -> np.ndarray:
        """What there is one of for each token, as rows; int64 [rows, width]."""
        if len(values) == self.real.size:
            return values.astype(np.int64).reshape(self.real.shape)
        found = np.full(self.real.shape, filling, np.int64)
        found[self.real] = values
        return found

    @cached_property
    def rows(self) -> np.ndarray:
        """The tokens, 0 where a row is filled."""
        return self.grid(self.tokens, 0)

    @cached_property
    def positions(self) -> np.ndarray:
        """Of each token in its segment, from 0; 0 where a row is filled, so that each such place is a document of its
        own, which nothing sees."""
        starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        return self.grid(np.arange(len(self.tokens)) - np.repeat(starts, self.lengths), 0)

    @cached_property
    def segment(self) -> np.ndarray:
        """The number of each token's segment, over all these rows; -1 where a row is filled."""
        return self.grid(np.repeat(np.arange(len(self.lengths)), self.lengths), -1)


@dataclass(frozen=True)
class Batch:
    """Rows ready for a model: `inputs` and `positions` (int64 [m, T]), and `more` of what its objective has; `labels`
    (int64 [m, L]), IGNORED where there is none; `origin` (int64 [m, L]), the place in its row of the token that a
    label is; `channels` (int64 [m]); `groups`: column of `training.loss_by` -> int64 [m, L], of each target."""

    inputs: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    origin: np.ndarray
    channels: np.ndarray
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        """The rows of several batches of one objective."""

        def joined(values: Iterable[np.ndarray]) -> np.ndarray:
            return np.concatenate(list(values))

        return cls(
            joined(part.inputs for part in parts),
            joined(part.positions for part in parts),
            joined(part.labels for part in parts),
            joined(part.origin for part in parts),
            joined(part.channels for part in parts),
            {name: joined(part.more[name] for part in parts) for name in parts[0].more},
            {name: joined(part.groups[name] for part in parts) for name in parts[0].groups},
        )


@dataclass(frozen=True)
class Made:
    """What an objective makes of rows; see `Batch`."""

    inputs: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    origin: np.ndarray
    more: dict[str, np.ndarray] = field(default_factory=dict)
