"""Held-out loss per channel: the plan's held-out rows, the same ones at every evaluation and world size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from training.loss import ChannelLoss, Targets
from training.rows import IGNORED, Batch


class Evaluated(Protocol):
    """Rows that are evaluated: of a plan, or of named sets."""

    def __len__(self) -> int: ...

    def batch(self, first: int, count: int) -> Batch:
        """Rows first .. first+count."""


class HeldOut:
    """This rank's share of the held-out rows."""

    def __init__(self, rows: Evaluated, micro: int, rank: int, world: int) -> None:
        self.batches: list[Batch] = []
        own = range(rank, len(rows), world)
        each = -(-len(rows) // world)  # every rank runs as many: ZeRO 3 gathers weights in each forward pass
        share = [*own, *[0] * (each - len(own))]
        for first in range(0, each, micro):
            parts = [rows.batch(row, 1) for row in share[first : first + micro]]
            batch = Batch.joined(parts)
            spare = first + len(parts) - len(own)
            if spare > 0:
                batch.labels[-spare:] = IGNORED
            self.batches.append(batch)

    def losses(
        self, model: torch.nn.Module, losses: Callable[[Batch], Targets], total: ChannelLoss, counts: bool = True
    ) -> dict[str, float | None]:
        """{channel: mean loss in nats per token, None where the channel has no held-out row}, the same on all ranks.
        `counts`: whether this rank's losses are, or another has the same."""
        model.eval()
        with torch.no_grad():
            for batch in self.batches:
                found = losses(batch)
                if counts:
                    total.add(*found)
        model.train()
        return {name: loss for name, (loss, _) in total.reduce()[2].items()}
