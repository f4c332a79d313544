"""The model and the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist

from data_specs.training import Model
from training import models, optimizers
from training.loss import ChannelLoss, token_losses
from training.objectives import causal
from training.objectives.packed import IGNORED, Packed

TINY = Model(hidden=16, layers=2, heads=4, kv_heads=2, intermediate=24)


def packed(tokens: np.ndarray, lengths: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and positions of full rows of segments of such lengths."""
    ends = np.searchsorted(np.cumsum(lengths), np.cumsum(np.full(rows, len(tokens) // rows))) + 1
    segments = np.diff(ends, prepend=0)
    made = causal.make(Packed(0, len(tokens) // rows, tokens, lengths, segments, np.zeros(rows), np.zeros(rows)))
    return made.inputs, made.positions


@pytest.fixture(scope="module")
def alone():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("lengths", [[7, 9, 1], [1, 1, 15], [16, 1], [5, 6, 6]])
def test_changing_a_document_leaves_the_logits_of_the_others_in_its_row_unchanged(lengths: list[int]) -> None:
    model = models.build(TINY, 50, 16, seed=1)
    tokens = np.random.default_rng(0).integers(0, 50, size=(2, 17))
    lengths = np.array([*lengths, 17])  # a second row of one document
    bounds = np.cumsum([0, *lengths[:-1]])
    inputs, positions = packed(tokens.ravel(), lengths, 2)
    before = model(torch.tensor(inputs), torch.tensor(positions))
    for start, stop in zip(bounds[:-1], np.minimum(bounds[1:], 16), strict=True):
        if start >= stop:
            continue
        changed = inputs.copy()
        changed[0, start:stop] = (changed[0, start:stop] + 1) % 50
        after = model(torch.tensor(changed), torch.tensor(positions))
        others = [t for t in range(16) if not start <= t < stop]
        assert torch.equal(before[0, others], after[0, others])
        assert torch.equal(before[1], after[1])
        assert not torch.equal(before[0, start:stop], after[0, start:stop])


def test_a_document_in_a_row_has_the_logits_it_has_alone() -> None:
    model = models.build(TINY, 50, 16, seed=1)
    tokens = np.random.default_rng(0).integers(0, 50, size=17)
    inputs, positions = packed(tokens, np.array([6, 8, 3]), 1)
    together = model(torch.tensor(inputs), torch.tensor(positions))
    alone = models.plain(TINY)(model.config)
    alone.load_state_dict(model.state_dict())
    single = alone(input_ids=torch.tensor(tokens[None, 6:14]), use_cache=False).logits
    assert torch.allclose(together[0, 6:14], single[0], atol=1e-6)


@pytest.mark.parametrize("more", [{"tied": True}, {"tied": False}, {"qk_norm": True}])
def test_parameters_are_counted_without_building(more: dict[str, bool]) -> None:
    settings = TINY.model_copy(update=more)
    model = models.build(settings, 50, 16, seed=1)
    assert models.parameters(settings, 50, 16) == sum(p.numel() for p in model.parameters())


def test_with_qk_norm_logits_do_not_change_with_the_length_of_queries_and_documents_stay_apart() -> None:
    tokens = torch.randint(0, 50, (1, 16), generator=torch.Generator().manual_seed(1))
    place = torch.cat([torch.arange(10), torch.arange(6)])[None]
    for normed in (False, True):
        model = models.build(TINY.model_copy(update={"qk_norm": normed}), 50, 16, seed=1)
        changed = tokens.clone()
        changed[0, :10] = (tokens[0, :10] + 1) % 50
        before, other = model(tokens, place), model(changed, place)
        assert torch.equal(before[0, 10:], other[0, 10:])
        assert not torch.equal(before[0, :10], other[0, :10])
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.q_proj.weight.mul_(100)
        assert torch.allclose(model(tokens, place), before, atol=1e-4) == normed


def test_depth_scaled_init_draws_what_is_added_to_the_residual_stream_smaller() -> None:
    plain, scaled = (models.build(TINY.model_copy(update={"depth_scaled_init": on}), 50, 16, 1) for on in (False, True))
    for (name, one), other in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        factor = 0.5 if "o_proj" in name or "down_proj" in name else 1.0  # two layers: 1 / sqrt(4)
        assert torch.allclose(other, one * factor), name


def test_settings_at_their_defaults_are_in_no_digest_and_others_are() -> None:
    assert set(Model().model_dump(mode="json")) == {
        "architecture", "hidden", "layers", "heads", "kv_heads", "intermediate", "tied", "rope_theta",
    }  # fmt: skip
    for name in ("qk_norm", "depth_scaled_init"):
        assert Model(**{name: True}).model_dump(mode="json")[name] is True
        with pytest.raises(ValueError, match=f"{name} is for a llama"):
            Model(**{"architecture": "bert", name: True})


def test_the_seed_alone_draws_the_weights() -> None:
    torch.rand(3)
    one, two, other = (models.build(TINY, 50, 16, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_weight_decay_is_on_matrices_only() -> None:
    model = models.build(TINY, 50, 16, seed=1)
    matrices, vectors = optimizers.groups(model, 0.1)
    norms = {id(p) for name, p in model.named_parameters() if "norm" in name}
    assert {id(p) for p in vectors["params"]} == norms
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


def test_channel_loss_is_the_mean_over_its_targets_and_its_sums_are_the_loss(alone: None) -> None:
    rng = np.random.default_rng(5)
    total, expected = ChannelLoss(("a", "b", "c"), torch.device("cpu")), {"a": [], "b": [], "c": []}
    for _ in range(3):
        logits, labels = rng.normal(size=(4, 10, 30)), rng.integers(0, 30, size=(4, 10))
        labels[rng.random((4, 10)) < 0.3] = IGNORED
        channels = rng.integers(0, 2, size=4)  # none is c
        tensors = torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)
        total.add(token_losses(*tensors), tensors[1], torch.tensor(channels))
        for row, column in zip(*np.nonzero(labels != IGNORED), strict=True):
            scores = logits[row, column]
            loss = np.log(np.exp(scores).sum()) - scores[labels[row, column]]
            expected["ab"[channels[row]]].append(loss)
    mean, tokens, by_channel = total.reduce()
    assert by_channel["c"] == (None, 0)
    for name in "ab":
        assert by_channel[name] == (pytest.approx(np.mean(expected[name]), rel=1e-6), len(expected[name]))
    assert tokens == len(expected["a"] + expected["b"])
    assert mean == pytest.approx(np.mean(expected["a"] + expected["b"]), rel=1e-6)
    assert mean == pytest.approx(sum(by_channel[name][0] * by_channel[name][1] for name in "ab") / tokens, rel=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_loss_that_is_not_finite_makes_the_steps_loss_not_finite(alone: None, bad: float) -> None:
    total, losses = ChannelLoss(("a", "b"), torch.device("cpu")), torch.ones(2, 4)
    losses[1, 2] = bad
    total.add(losses, torch.ones(2, 4, dtype=torch.int64), torch.tensor([0, 1]))
    total.add(torch.full((2, 4), 1e38), torch.ones(2, 4, dtype=torch.int64), torch.tensor([0, 0]))
    mean, _, channels = total.reduce()
    assert not np.isfinite(mean)
    assert np.isfinite(channels["a"][0])
    assert not np.isfinite(channels["b"][0])
