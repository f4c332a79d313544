"""Attention with what a pair's positions add to its score, which is learned.

torch's fused function computes no gradient of such scores, and what it does instead, and transformers around it, goes
over a row's T x T scores a dozen times. Here they are made, masked and turned into weights in place, and the way back
is written out, for which a softmax needs its result alone. Scores are float32, whatever the queries are.
"""

from __future__ import annotations

from typing import Any

import torch

HIDDEN = -1e30
"""Added to the score of what is not seen."""


def biased(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, added: torch.Tensor
) -> torch.Tensor:
    """[m, H, Q, D], [m, H, K, D], [m, H, K, D] -> [m, H, Q, D]. `added`, float32 [m, H, Q, K]: `bias`, and HIDDEN where
    a key is not seen; the gradient goes to `bias`, [1, H, Q, K]. Scores are not scaled."""
    with torch.autocast(query.device.type, enabled=False):
        found: torch.Tensor = _Biased.apply(query, key.to(query.dtype), value.to(query.dtype), bias, added)
    return found


def relative(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_r: torch.Tensor,
    key_r: torch.Tensor,
    hidden: torch.Tensor,
    places: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of Transformer-XL (Dai et al. 2019): the score of query i and key j is query_i · key_j + query_r_i ·
    key_r_(T - i + j), of T keys and 2T keys of places [H, 2T, D]. `hidden`, bool [m, 1, Q, T]: what is not seen;
    a query that sees nothing gets 0, where transformers' own weighs all keys alike, itself and other documents among
    them; `places`, int64 [m, Q]: where queries stand, by default at 0 to T - 1."""
    with torch.autocast(query.device.type, enabled=False):
        low = query.dtype
        parts = (key.to(low), value.to(low), query_r.to(low), key_r.to(low))
        found: torch.Tensor = _Relative.apply(query, *parts, hidden, places)
    return found


def _weights(scores: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Softmax over keys, in the place of float32 scores."""
    return torch.softmax(scores, -1, out=scores).to(dtype)


def _of_scores(weights: torch.Tensor, grad: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of values, and of scores."""
    of_weights = grad @ value.transpose(-1, -2)
    of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
    return weights.transpose(-1, -2) @ grad, of_scores


class _Biased(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor,
        added: torch.Tensor,
    ) -> torch.Tensor:
        scores = (query @ key.transpose(-1, -2)).float().add_(added)
        weights = _weights(scores, query.dtype)
        ctx.save_for_backward(query, key, value, weights)
        ctx.dtype = bias.dtype
        return weights @ value

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        query, key, value, weights = ctx.saved_tensors
        of_value, of_scores = _of_scores(weights, grad, value)
        of_bias = of_scores.sum(0, keepdim=True, dtype=ctx.dtype)
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, of_bias, None


class _Relative(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        query_r: torch.Tensor,
        key_r: torch.Tensor,
        hidden: torch.Tensor,
        places: torch.Tensor | None,
    ) -> torch.Tensor:
        scores = (query @ key.transpose(-1, -2)).float()
        by_place = _flat(query_r) @ key_r.transpose(-1, -2)  # [H, m * Q, 2T]
        scores += _shifted(by_place, len(query), places)
        weights = _weights(scores.masked_fill_(hidden, HIDDEN), query.dtype)
        weights = weights.masked_fill_(hidden.all(-1, keepdim=True), 0)
        ctx.save_for_backward(query, key, value, query_r, key_r, weights)
        ctx.places = places
        return weights @ value

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        query, key, value, query_r, key_r, weights = ctx.saved_tensors
        of_value, of_scores = _of_scores(weights, grad, value)
        m, heads, queries, keys = of_scores.shape
        by_place = of_scores.new_zeros(heads, m * queries, 2 * keys)
        if ctx.places is None:
            _shifted(by_place, m, None).copy_(of_scores)
        else:
            index = _index(ctx.places, keys, heads)
            by_place.view(heads, m, queries, 2 * keys).scatter_(3, index, of_scores.transpose(0, 1))
        of_query_r = (by_place @ key_r).view(heads, m, queries, -1).transpose(0, 1)
        of_key_r = by_place.transpose(-1, -2) @ _flat(query_r)
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, of_query_r, of_key_r, None, None


def _flat(query: torch.Tensor) -> torch.Tensor:
    """[m, H, Q, D] -> [H, m * Q, D]."""
    return query.transpose(0, 1).reshape(query.shape[1], -1, query.shape[3])


def _shifted(by_place: torch.Tensor, m: int, places: torch.Tensor | None) -> torch.Tensor:
    """Of scores [H, m * Q, 2T] those of each key, [m, H, Q, T]: of query i the T from T - i on. Where the queries are
    all T in order, these lie one number less than a row apart, and it is a view."""
    heads, _, twice = by_place.shape
    keys = twice // 2
    if places is None:
        row = keys * twice
        return by_place.as_strided((m, heads, keys, keys), (row, m * row, twice - 1, 1), keys)
    found = by_place.view(heads, m, -1, twice).gather(3, _index(places, keys, heads))
    return found.transpose(0, 1)


def _index(places: torch.Tensor, keys: int, heads: int) -> torch.Tensor:
    """[H, m, Q, T]: the place of each key for each query."""
    index = keys - places[:, :, None] + torch.arange(keys, device=places.device)
    return index.expand(heads, -1, -1, -1)
