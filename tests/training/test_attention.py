"""Attention with positions in its scores, against what transformers computes of the same weights. `VERSION` is the one
that the models here were written against: another may have parameters or a formula of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import T5ForConditionalGeneration, XLNetLMHeadModel

from data_specs.training import Model
from tasks.storage.store import Store
from tests import training_plan
from tests.training.test_objective_runs import VOCABULARY as PLANNED
from tests.training.test_objective_runs import planned, settings, train
from training import log, models

VERSION = "5.23.0"
SIZES: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "intermediate": 48}
VOCABULARY, ROWS, LENGTH, TARGETS = 60, 3, 24, 6


def drawn(architecture: str, plain: type[Any]) -> tuple[Any, Any]:
    """A model that reads batches, and transformers' own of the same weights, all of which are large enough to tell."""
    made = models.build(Model(architecture=architecture, **SIZES), VOCABULARY, LENGTH, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    other = plain._from_config(made.config, attn_implementation="eager")
    other.load_state_dict(made.state_dict())
    return made, other


def tokens(rows: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def assert_same(one: Any, other: Any, logits: torch.Tensor, wanted: torch.Tensor, but: tuple[str, ...] = ()) -> None:
    """Logits and the gradients of all parameters agree."""
    assert torch.allclose(logits, wanted, atol=1e-4 * float(wanted.std()))
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(9))
    (logits * weights).sum().backward()
    (wanted * weights).sum().backward()
    theirs = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        expected = theirs[name].grad
        if any(part in name for part in but):
            assert float(parameter.grad.abs().max()) == 0
            assert float(expected.abs().max()) < 1e-3
        else:
            assert torch.allclose(parameter.grad, expected, atol=1e-4 * float(expected.abs().max())), name


def test_the_models_were_written_against_this_version_of_transformers() -> None:
    assert transformers.__version__ == VERSION


def test_span_corruption_has_the_logits_and_gradients_of_transformers_t5() -> None:
    made, other = drawn("t5", T5ForConditionalGeneration)
    inputs, targets = tokens(ROWS, LENGTH, 3), tokens(ROWS, TARGETS, 4)
    documents = (torch.arange(LENGTH) // 10)[None].expand(ROWS, -1)
    of_targets = (torch.arange(TARGETS) // 3)[None].expand(ROWS, -1)
    logits = made(inputs, None, documents, targets, of_targets)
    apart = lambda q, k: (q[:, :, None] == k[:, None, :])[:, None]  # noqa: E731
    hidden = lambda seen: torch.where(seen, 0.0, torch.finfo(torch.float32).min)  # noqa: E731
    causal = torch.ones(TARGETS, TARGETS, dtype=torch.bool).tril()
    encoded = other.encoder(input_ids=inputs, attention_mask=hidden(apart(documents, documents))).last_hidden_state
    decoded = other.decoder(
        input_ids=targets,
        attention_mask=hidden(apart(of_targets, of_targets) & causal),
        encoder_hidden_states=encoded,
        encoder_attention_mask=hidden(apart(of_targets, documents)),
        use_cache=False,
    ).last_hidden_state
    scale = made.model_dim**-0.5 if made.config.scale_decoder_outputs else 1.0
    assert_same(made, other, logits, other.lm_head(decoded * scale))


def test_permutation_has_the_logits_and_gradients_of_transformers_xlnet() -> None:
    made, other = drawn("xlnet", XLNetLMHeadModel)
    inputs, positions = tokens(ROWS, LENGTH, 3), (torch.arange(LENGTH) % 12)[None].expand(ROWS, -1)
    generator = torch.Generator().manual_seed(5)
    order = torch.stack([torch.randperm(LENGTH, generator=generator) for _ in range(ROWS)])
    places, rank = order[:, :TARGETS], torch.zeros(ROWS, LENGTH, dtype=torch.int64)
    rank.scatter_(1, places, torch.arange(1, TARGETS + 1).expand(ROWS, -1))
    document = (positions == 0).cumsum(1)
    seen = (document[:, :, None] == document[:, None, :]) & (
        (rank[:, None, :] == 0) | (rank[:, None, :] < rank[:, :, None])
    )
    wanted = other(
        input_ids=inputs,
        perm_mask=(~seen).float(),
        target_mapping=torch.nn.functional.one_hot(places, LENGTH).float(),
        token_type_ids=torch.zeros_like(inputs),
        use_mems=False,
    ).logits
    assert_same(made, other, made(inputs, positions, places, rank), wanted, but=("r_s_bias", "seg_embed"))


@pytest.mark.parametrize("architecture", ["t5", "xlnet"])
def test_in_bf16_logits_are_near_those_in_float32(architecture: str) -> None:
    made = models.build(Model(architecture=architecture, **SIZES), VOCABULARY, LENGTH, seed=1)
    inputs, positions = tokens(ROWS, LENGTH, 3), torch.arange(LENGTH)[None].expand(ROWS, -1)
    documents, places = torch.zeros_like(inputs), torch.arange(TARGETS)[None].expand(ROWS, -1) * 3
    given: dict[str, tuple[torch.Tensor, ...]] = {
        "t5": (inputs, positions, documents, tokens(ROWS, TARGETS, 4), documents[:, :TARGETS]),
        "xlnet": (inputs, positions, places, torch.zeros_like(inputs).scatter(1, places, 1)),
    }
    wanted = made(*given[architecture])
    with torch.autocast("cpu", torch.bfloat16):
        low = made(*given[architecture])
    assert torch.allclose(low.float(), wanted, atol=0.05 * float(wanted.std().detach()) + 0.02)
    low.float().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters() if parameter.grad is not None)
    whole = made.to(torch.bfloat16)(*given[architecture])
    assert whole.dtype == torch.bfloat16
    assert torch.allclose(whole.float(), wanted, atol=0.05 * float(wanted.std().detach()) + 0.02)


@pytest.mark.parametrize("kind", ["span_corruption", "permutation"])
def test_steps_of_every_zero_stage_have_the_same_losses(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(os.cpu_count()))
    store, found = Store(str(tmp_path)), {}
    training_plan.write(store, phases=(2,), vocabulary=PLANNED)  # for its tokenizer
    chosen: dict[str, dict[str, Any]] = {f"zero-{zero}": {"zero": zero} for zero in range(4)}
    if kind == "span_corruption":
        chosen |= {"again": {"activation_checkpointing": True}, "sdpa": {"attention": "sdpa"}}
    for name, setting in chosen.items():
        spec = settings(kind, steps=5, checkpoint={"every": 0}, **setting)
        plan = planned(store, spec)
        train(store, spec, plan, name)
        found[name] = [record["loss"] for record in log.read(store, name)]
    for name, losses in found.items():
        assert losses == pytest.approx(found["zero-0"], rel=1e-4), name
