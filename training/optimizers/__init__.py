"""The optimizer of a model: AdamW (Loshchilov & Hutter 2019), and where asked, Muon for the matrices of its layers.

Weight decay is on matrices only. Embeddings and the output matrix, biases and norms have AdamW in either case.
"""

from __future__ import annotations

from typing import Any

import torch

from data_specs.training import Training
from training.optimizers.muon import MOMENTUM, MuonAndAdamW

ADAMW = ("exp_avg", "exp_avg_sq")
"""AdamW's state per weight."""
MUON = (MOMENTUM,)


def of(model: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """Raises ValueError where the settings cannot be had."""
    made = groups(model, training.weight_decay, muon=training.muon is not None)
    if training.muon is None:
        return torch.optim.AdamW(made, lr=0.0, betas=training.betas)
    return MuonAndAdamW(made, training.muon, lr=0.0, betas=training.betas)


def groups(model: torch.nn.Module, weight_decay: float, muon: bool = False) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices only; with Muon, those of layers in a group of their own."""
    layers = layer_matrices(model) if muon else {}
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.ndim >= 2 and name not in layers]
    vectors = [p for p in named.values() if p.ndim < 2]
    found = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if layers:
        found.insert(0, {"params": list(layers.values()), "weight_decay": weight_decay, "muon": True})
    return found


def layer_matrices(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The matrices by which layers multiply: no embeddings, and not the output's."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    tables.add(id(model.get_output_embeddings().weight))  # type: ignore[operator]
    return {name: p for name, p in model.named_parameters() if p.ndim == 2 and id(p) not in tables}


def kinds(model: torch.nn.Module, training: Training) -> dict[str, tuple[str, ...]]:
    """What the optimizer keeps for each weight of a parameter, by its name."""
    layers = layer_matrices(model) if training.muon else {}
    return {name: MUON if name in layers else ADAMW for name, _ in model.named_parameters()}
