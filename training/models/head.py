"""The output matrix, and the loss behind it without whole logits.

Logits of a micro-batch are [m, L, V]: at V = 65,536 they, their logarithms and their gradient are most of what a step
needs memory for. `Head` makes them of some tokens at a time and keeps of each chunk its losses and its part of the
gradient, which is known at once, as the loss of a step is a sum (Wijmans et al. 2024 and Hsu et al. 2024 do so in one
kernel of a GPU). Nothing is computed twice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from training.objectives import IGNORED

CHUNK = 2**24
"""Logits that are held at once, at most: 64 MiB in float32."""
TOKENS = 512
"""Of which a chunk holds the logits, at most: enough for a processor's units of matrices, few enough for its caches. On
one core of an EPYC with a bf16 unit 2,048 tokens at a vocabulary of 8,192 take 98 ms so, way back included, 177 in one
chunk, and 229 by whole logits."""


class Head(nn.Linear):
    """The output matrix of a model. Without labels it gives logits [m, L, V]; with labels (int64 [m, L]) the sum to be
    minimised, and the loss of each token (float32 [m, L], 0 where ignored), which has no gradient."""

    def forward(self, hidden: torch.Tensor, labels: torch.Tensor | None = None, z_loss: float = 0.0) -> Any:
        if labels is None:
            return super().forward(hidden)
        return chunked_losses(hidden, self.weight, self.bias, labels, z_loss)


def chunked_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    z_loss: float = 0.0,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum over targets of -ln p + z_loss (ln sum exp logits)², and -ln p of each, as `training.loss` has them of
    logits = hidden weightᵀ + bias."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        hidden, weight, bias = hidden.to(low), weight.to(low), None if bias is None else bias.to(low)
    with torch.autocast(device, enabled=False):
        total, losses = _Chunked.apply(
            hidden.flatten(0, 1), weight, bias, labels.flatten(), z_loss, chunk, torch.is_grad_enabled()
        )
    return total, losses.view_as(labels)


class _Chunked(torch.autograd.Function):
    """The gradient is computed on the way forward, for a sum that is multiplied by 1."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        z_loss: float,
        chunk: int,
        learning: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads: list[torch.Tensor | None] = [None, None, None]
        if learning:
            # Of the matrix in float32, as it is a sum of many parts.
            grads = [torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32), None]
            grads[2] = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        tokens = max(1, min(TOKENS, chunk // len(weight)))
        for first in range(0, len(hidden), tokens):
            part = slice(first, first + tokens)
            logits = functional.linear(hidden[part], weight, bias).float()
            real = (labels[part] != IGNORED).float()
            target = labels[part].clamp(min=0)[:, None]
            normalizer = logits.logsumexp(1)
            losses[part] = (normalizer - logits.gather(1, target)[:, 0]) * real
            total += (losses[part] + z_loss * normalizer.square() * real).sum()
            if learning:
                _add_gradients(grads, part, hidden, weight, logits, normalizer, target, real, z_loss)
        ctx.mark_non_differentiable(losses)
        ctx.save_for_backward(*grads)
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        return total, losses

    @staticmethod
    def backward(ctx: Any, total: torch.Tensor, _: torch.Tensor) -> Any:
        hidden, weight, bias = ctx.saved_tensors
        # By a number in float32: rounded to bf16 it would move the gradient of all layers, and not the matrix's.
        scaled = (hidden.float() * total).to(hidden.dtype), (weight.mul_(total)).to(ctx.dtypes[0])
        return *scaled, None if bias is None else (bias * total).to(ctx.dtypes[1]), None, None, None, None


def _add_gradients(
    grads: list[torch.Tensor | None],
    part: slice,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    logits: torch.Tensor,
    normalizer: torch.Tensor,
    target: torch.Tensor,
    real: torch.Tensor,
    z_loss: float,
) -> None:
    """Of a chunk, whose logits are spent: d/dlogits = p (1 + 2 z_loss ln sum exp logits) - [target]."""
    of_hidden, of_weight, of_bias = grads
    share = logits.sub_(normalizer[:, None]).exp_()
    share *= (real * (1 + 2 * z_loss * normalizer))[:, None]
    share.scatter_add_(1, target, -real[:, None])
    if of_bias is not None:
        of_bias += share.sum(0)
    share = share.to(hidden.dtype)
    if of_hidden is not None:
        torch.mm(share, weight, out=of_hidden[part])
    if of_weight is not None:
        if hidden.dtype == torch.float32:
            of_weight.addmm_(share.t(), hidden[part])
        else:
            of_weight += share.t() @ hidden[part]
