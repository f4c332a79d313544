"""The one definition of loss: the sum of token losses over N, the step's supervised tokens over all ranks.

N is known from the plan before the forward pass, so a micro-batch contributes its sum alone, and accumulation, ranks
and ZeRO stages do not move the result (the mean per micro-batch is off by 5 % where documents are short). Channel loss
uses the same sums: loss_k = S_k / N_k over the targets in channel k, and sum(S) / sum(N) is the reported loss. It is
not finite when any token's loss on any rank is not.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as functional

from training.rows import IGNORED


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats: logits [m, T, V] (any float), labels int64 [m, T] -> float32 [m, T], 0 where ignored."""
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED
    )
    return losses.view_as(labels)


class ChannelLoss:
    """Sums of token losses and counts of supervised tokens per channel (float64 [K, 2]), this rank's until `reduce`."""

    def __init__(self, channels: tuple[str, ...], device: torch.device) -> None:
        self.channels = channels
        self.sums = torch.zeros(len(channels), 2, dtype=torch.float64, device=device)

    def add(self, losses: torch.Tensor, labels: torch.Tensor, channels: torch.Tensor) -> None:
        """losses float32 [m, T], labels int64 [m, T], channel of each row int64 [m]."""
        rows = torch.stack([losses.detach().double().sum(1), (labels != IGNORED).sum(1).double()], dim=1)
        self.sums.index_add_(0, channels, rows)

    def reduce(self) -> tuple[float, int, dict[str, Any]]:
        """Sum over ranks, in one all-reduce -> loss, tokens, {channel: (loss, None where it has no token; tokens)}."""
        dist.all_reduce(self.sums)
        total, tokens = self.sums.sum(0).tolist()
        channels = {
            name: (s / n if n else None, int(n)) for name, (s, n) in zip(self.channels, self.sums.tolist(), strict=True)
        }
        return total / tokens if tokens else math.nan, int(tokens), channels
