"""Which tokens see which: documents of a row do not see each other."""

from __future__ import annotations

from typing import Any

import torch


def documents(positions: torch.Tensor) -> torch.Tensor:
    """Of each token the number of its document in its row, which begins where its position is 0; int64 [m, T]."""
    return (positions == 0).cumsum(1)


def same(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Which of the keys [m, K] are of the document of a query [m, Q]; bool [m, 1, Q, K]."""
    return (queries[:, :, None] == keys[:, None, :])[:, None]


def readable(mask: torch.Tensor, model: Any) -> torch.Tensor:
    """A mask as the attention of a model takes it: what computes it step by step adds its mask to the scores, where
    true would be 1."""
    if model.config._attn_implementation != "eager":
        return mask
    return torch.zeros_like(mask, dtype=model.dtype).masked_fill_(~mask, torch.finfo(model.dtype).min)


def causal(length: int, device: torch.device) -> torch.Tensor:
    """Each token sees itself and those before it; bool [T, T]."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
