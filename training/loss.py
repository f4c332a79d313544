"""The one definition of loss: the sum of token losses over N, the step's supervised tokens over all ranks.

N is known from the plan before the forward pass, so a micro-batch contributes its sum alone, and accumulation, ranks
and ZeRO stages do not move the result (the mean per micro-batch is off by 5 % where documents are short). Channel loss
uses the same sums: loss_k = S_k / N_k over the targets in channel k, and sum(S) / sum(N) is the reported loss. It is
not finite when any token's loss on any rank is not. Of a column of `training.loss_by` the same, by a target's document.
Beside them stand the bytes that the targets spell, by which losses under different tokenizers can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as functional

from training.objectives import IGNORED

Losses = dict[str, tuple[float | None, int]]
"""Name -> loss, None where it has no target; targets."""
Targets = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]
"""Of a batch what `ChannelLoss.add` takes."""


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats: logits [m, T, V] (any float), labels int64 [m, T] -> float32 [m, T], 0 where ignored."""
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED
    )
    return losses.view_as(labels)


def minimised(losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, z_loss: float) -> torch.Tensor:
    """The sum that a step makes smaller: token losses, and z_loss (ln sum exp logits)² of each target, which keeps the
    logarithm near 0 and the logits from drifting (Chowdhery et al. 2022, section 5). Losses that are reported have no
    part of it."""
    if not z_loss:
        return losses.sum()
    return losses.sum() + z_loss * (logits.float().logsumexp(2).square() * (labels != IGNORED)).sum()


def finite(losses: Losses) -> Losses:
    """The same, null where a loss is not finite."""
    return {
        name: (loss if loss is None or math.isfinite(loss) else None, tokens) for name, (loss, tokens) in losses.items()
    }


class ChannelLoss:
    """Sums of token losses, counts of targets and of their bytes per channel, and per value of each column of
    `training.loss_by` (float64 [K, 3], end to end), this rank's until `reduce`."""

    def __init__(
        self,
        channels: Sequence[str],
        device: torch.device,
        loss_by: Mapping[str, Sequence[str]] | None = None,
        token_bytes: torch.Tensor | None = None,
    ) -> None:
        """`token_bytes`: of each entry of the vocabulary the bytes that it spells, float64 [V], where they are known
        and say something, as every token is predicted from those before it."""
        self.columns = {"": channels, **(loss_by or {})}
        self.grouped: dict[str, Losses] = {}
        """Column of `training.loss_by` -> the losses of its values, once they are reduced."""
        self.channels: Losses = {}
        """Of the channels, once they are reduced."""
        self.bytes: dict[str, dict[str, int]] = {}
        """Column, "" for the channels -> value -> bytes of its targets, once they are reduced; {} where not known."""
        self.token_bytes = token_bytes
        self.sums = torch.zeros(sum(map(len, self.columns.values())), 3, dtype=torch.float64, device=device)

    def add(
        self,
        losses: torch.Tensor,
        labels: torch.Tensor,
        channels: torch.Tensor,
        groups: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """losses float32 [m, L], labels int64 [m, L], channel of each row int64 [m], and of each target its number
        among the values of each column int64 [m, L]."""
        real = (labels != IGNORED).double()
        spelled = real if self.token_bytes is None else self.token_bytes[labels.clamp(min=0)] * real
        each = torch.stack([losses.detach().double(), real, spelled], dim=2)
        self.sums.index_add_(0, channels, each.sum(1))
        first = len(self.columns[""])
        for column, numbers in (groups or {}).items():
            self.sums.index_add_(0, first + numbers.flatten(), each.flatten(0, 1))
            first += len(self.columns[column])

    def reduce(self, beside: torch.Tensor | None = None) -> tuple[float, int, Losses]:
        """Sum over ranks, in one all-reduce, with what goes `beside` (float64 [n], in place) -> loss, tokens, losses of
        the channels."""
        if beside is None:
            dist.all_reduce(self.sums)
        else:
            both = torch.cat([self.sums.flatten(), beside])
            dist.all_reduce(both)
            self.sums.copy_(both[: self.sums.numel()].view_as(self.sums))
            beside.copy_(both[self.sums.numel() :])
        sums, found = iter(self.sums.tolist()), {}
        for column, names in self.columns.items():
            sums_of = dict(zip(names, sums, strict=False))
            found[column] = {name: (s / n if n else None, int(n)) for name, (s, n, _) in sums_of.items()}
            if self.token_bytes is not None:
                self.bytes[column] = {name: int(spelled) for name, (_, _, spelled) in sums_of.items()}
        channels = self.channels = found.pop("")
        self.grouped = found
        total, tokens, _ = self.sums[: len(channels)].sum(0).tolist()
        return total / tokens if tokens else math.nan, int(tokens), channels
