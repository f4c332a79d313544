"""Muon and AdamW against torch's own, and which parameters have which."""

from __future__ import annotations

import pytest
import torch

from data_specs.optimization import Muon
from data_specs.training import Model, Training
from training import models, optimizers
from training.optimizers.muon import MuonAndAdamW

TINY = Model(hidden=16, layers=2, heads=4, kv_heads=2, intermediate=24)


@pytest.mark.parametrize("settings", [Muon(), Muon(nesterov=False, scale="original", rate=0.5, iterations=3)])
def test_matrices_of_layers_move_as_torch_optim_muon_moves_them_and_all_else_as_adamw_does(settings: Muon) -> None:
    ours, theirs = (models.build(TINY, 50, 16, seed=1) for _ in range(2))
    rate, decay = 0.01, 0.1
    groups = optimizers.groups(ours, decay, muon=True)
    mine = MuonAndAdamW(groups, settings, lr=rate, betas=(0.9, 0.95))
    layers = optimizers.layer_matrices(theirs)
    assert len(layers) == 2 * 7
    muon = torch.optim.Muon(
        layers.values(), lr=rate * settings.rate, weight_decay=decay, momentum=settings.momentum,
        nesterov=settings.nesterov, ns_steps=settings.iterations, adjust_lr_fn=settings.scale,
    )  # fmt: skip
    adamw = torch.optim.AdamW(optimizers.groups(theirs, decay, muon=True)[1:], lr=rate, betas=(0.9, 0.95))
    tokens = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(1))
    place = torch.arange(16).expand(2, -1)
    for _ in range(4):
        for model in (ours, theirs):
            model.zero_grad()
            model(tokens, place).square().mean().backward()
        mine.step(), muon.step(), adamw.step()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("architecture", ["llama", "bert", "t5"])
def test_muon_has_the_matrices_of_layers_and_no_embeddings(architecture: str) -> None:
    model = models.build(Model(architecture=architecture, hidden=16, layers=1, heads=2, intermediate=24), 50, 16, 1)
    layers = optimizers.layer_matrices(model)
    assert layers
    assert not [name for name in layers if any(part in name for part in ("embed", "shared", "lm_head", "bias"))]
    groups = optimizers.groups(model, 0.1, muon=True)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    kinds = optimizers.kinds(model, Training(muon=Muon()))
    assert {name for name, kind in kinds.items() if kind == optimizers.MUON} == set(layers)
