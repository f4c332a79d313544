"""Muon (Jordan et al. 2024): matrices of layers move by their momentum made orthogonal, all else by AdamW.

Of the gradient's momentum M, the step has the singular vectors and singular values near 1, found by five Newton-Schulz
iterations (torch.optim's own). That takes a whole matrix, and ZeRO gives an optimizer flat partitions, in which a
matrix may begin on one rank and end on another. So momentum is kept in partitions, as checkpoints have it, and a
matrix that several ranks hold parts of goes to one of them, in turn, which sends back each one's part of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, EPS, _adjust_lr, _zeropower_via_newtonschulz

from data_specs.optimization import Muon

MOMENTUM = "momentum_buffer"


@dataclass(frozen=True)
class Part:
    """A rank's part of a matrix: elements start .. start+numel of it, flattened, which a flat tensor holds from
    `offset` on. `parts` are (start, numel) of every rank."""

    shape: torch.Size
    start: int
    numel: int
    offset: int
    parts: Sequence[tuple[int, int]]

    @property
    def owners(self) -> list[int]:
        return [rank for rank, (_, numel) in enumerate(self.parts) if numel]


class MuonAndAdamW(torch.optim.AdamW):
    """Groups with `muon` have Muon, the others AdamW. The caller sets `layout`, flat tensor -> the parts of matrices in
    it, the same matrices in the same order on every rank; without one, tensors are whole matrices."""

    def __init__(self, groups: list[dict[str, Any]], settings: Muon, **adamw: Any) -> None:
        super().__init__([{"muon": False, **group} for group in groups], **adamw)
        self.settings = settings
        self.layout: dict[torch.Tensor, list[Part]] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """As DeepSpeed calls it: for all groups, or for one of them alone."""
        every = self.param_groups
        self.param_groups = [group for group in every if not group["muon"]]
        super().step()
        self.param_groups = every
        for group in every:
            for flat in group["params"] if group["muon"] else ():
                if flat.grad is not None:
                    self._muon(group, flat, flat.grad)

    def _muon(self, group: dict[str, Any], flat: torch.Tensor, grad: torch.Tensor) -> None:
        """One step of the matrices in a tensor. What is no part of one, as what partitions are filled with, stays."""
        state, momentum = self.state[flat], self.settings.momentum
        if MOMENTUM not in state:
            state[MOMENTUM] = torch.zeros_like(flat)
        state[MOMENTUM].lerp_(grad, 1 - momentum)
        update = grad.lerp(state[MOMENTUM], momentum) if self.settings.nesterov else state[MOMENTUM]
        if not self.layout:
            self._apply(group, flat, self._orthogonal(update), flat.shape)
            return
        parts = self.layout[flat]
        for part in parts:
            if part.numel and len(part.owners) == 1:
                found = self._orthogonal(_of(update, part).view(part.shape))
                self._apply(group, _of(flat, part), found.reshape(-1), part.shape)
        shared, world = [part for part in parts if len(part.owners) > 1], dist.get_world_size()
        for first in range(0, len(shared), world):
            batch = shared[first : first + world]
            for part, found in zip(batch, self._in_turn(batch, update), strict=True):
                if part.numel:
                    self._apply(group, _of(flat, part), found[: part.numel], part.shape)

    def _in_turn(self, batch: Sequence[Part], update: torch.Tensor) -> list[torch.Tensor]:
        """This rank's parts of the steps of some matrices, one or none for each rank to make orthogonal."""
        rank, whole, found = dist.get_rank(), None, []
        for number, part in enumerate(batch):
            longest = max(numel for _, numel in part.parts)
            sent = update.new_zeros(longest)
            sent[: part.numel] = _of(update, part)
            received = [torch.empty_like(sent) for _ in part.parts] if number == rank else None
            dist.gather(sent, received, dst=number)
            if received:
                joined = update.new_empty(part.shape.numel())
                for (start, numel), values in zip(part.parts, received, strict=True):
                    joined[start : start + numel] = values[:numel]
                whole = self._orthogonal(joined.view(part.shape)).reshape(-1).to(update.dtype)
        for number, part in enumerate(batch):
            mine = update.new_empty(max(numel for _, numel in part.parts))
            scattered = None
            if number == rank and whole is not None:
                scattered = [mine.new_zeros(len(mine)) for _ in part.parts]
                for (start, numel), values in zip(part.parts, scattered, strict=True):
                    values[:numel] = whole[start : start + numel]
            dist.scatter(mine, scattered, src=number)
            found.append(mine)
        return found

    def _orthogonal(self, matrix: torch.Tensor) -> torch.Tensor:
        """Its singular vectors with values near 1, in bf16."""
        return _zeropower_via_newtonschulz(matrix, (DEFAULT_A, DEFAULT_B, DEFAULT_C), self.settings.iterations, EPS)

    def _apply(self, group: dict[str, Any], weights: torch.Tensor, update: torch.Tensor, shape: torch.Size) -> None:
        """Weight decay and the step, of the rate that a matrix of that shape has."""
        rate = group["lr"] * self.settings.rate
        weights.mul_(1 - rate * group["weight_decay"])
        weights.add_(update, alpha=-_adjust_lr(rate, self.settings.scale, shape))


def _of(flat: torch.Tensor, part: Part) -> torch.Tensor:
    return flat.view(-1).narrow(0, part.offset, part.numel)
