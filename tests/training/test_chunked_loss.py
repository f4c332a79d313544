"""The loss by chunks of tokens is the plain one, with its gradients, of every model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data_specs.training import Model
from training import models
from training.loss import minimised, token_losses
from training.models.head import chunked_losses
from training.objectives import IGNORED, Batch

VOCABULARY = 300


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that anything gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return found


def given(dtype: torch.dtype = torch.float32, bias: bool = True) -> list[Any]:
    """Hidden states, matrix, bias, labels, some of them ignored."""
    rng = torch.Generator().manual_seed(1)
    hidden, matrix = torch.randn(3, 17, 8, generator=rng), torch.randn(VOCABULARY, 8, generator=rng)
    labels = torch.randint(0, VOCABULARY, (3, 17), generator=rng)
    labels[torch.rand(3, 17, generator=rng) < 0.3] = IGNORED
    made = [hidden.to(dtype), matrix.to(dtype), torch.randn(VOCABULARY, generator=rng).to(dtype) if bias else None]
    return [*(None if each is None else each.requires_grad_() for each in made), labels]


def plain(hidden: Any, matrix: Any, bias: Any, labels: torch.Tensor, z_loss: float) -> tuple[Any, torch.Tensor]:
    logits = torch.nn.functional.linear(hidden, matrix, bias)
    losses = token_losses(logits, labels)
    return minimised(losses, logits, labels, z_loss), losses


@pytest.mark.parametrize("chunk", [1, 7 * VOCABULARY, 2**24])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_losses_and_gradients_are_those_of_whole_logits(chunk: int, bias: bool, z_loss: float) -> None:
    one, other = given(bias=bias), given(bias=bias)
    expected, found = plain(*one, z_loss), chunked_losses(*other, z_loss, chunk)
    assert torch.allclose(found[0], expected[0], rtol=1e-6)
    assert torch.allclose(found[1], expected[1], atol=2e-6)
    assert torch.equal(found[1] == 0, other[3] == IGNORED)
    (expected[0] * 0.37).backward()
    (found[0] * 0.37).backward()
    for mine, theirs in zip(other[:3], one[:3], strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.allclose(mine.grad, theirs.grad, atol=2e-5)


def test_z_loss_is_in_the_gradient_and_not_in_the_losses() -> None:
    alone, more = given(), given()
    (first, losses), (second, same) = chunked_losses(*alone, 0.0), chunked_losses(*more, 0.1)
    assert torch.equal(losses, same)
    logits = torch.nn.functional.linear(*alone[:3])
    squares = logits.logsumexp(2).square()[alone[3] != IGNORED].sum()
    assert torch.allclose(second - first, 0.1 * squares)
    first.backward(), second.backward()
    assert not torch.allclose(alone[1].grad, more[1].grad, atol=1e-2)


def test_in_bf16_the_gradient_of_the_matrix_is_no_further_from_the_exact_one_than_that_of_whole_logits() -> None:
    exact, whole, chunks = given(), given(torch.bfloat16), given(torch.bfloat16)
    for inputs, function in ((exact, plain), (whole, plain), (chunks, chunked_losses)):
        function(*inputs, 0.0)[0].backward()
    wrong = [(inputs[1].grad.float() - exact[1].grad).norm() for inputs in (whole, chunks)]
    assert wrong[1] <= wrong[0] * 1.1
    assert chunks[1].grad.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        under = chunked_losses(*(inputs := given()), 0.0)
    under[0].backward()
    assert inputs[1].grad.dtype == torch.float32
    assert torch.allclose(under[1], chunked_losses(*given(torch.bfloat16), 0.0)[1])


def test_no_tensor_is_larger_than_a_chunk_or_the_matrix() -> None:
    inputs = given()
    with Largest() as largest:
        chunked_losses(*inputs, 0.0, 5 * VOCABULARY)[0].backward()
    assert largest.elements == 8 * VOCABULARY
    with Largest() as largest:
        plain(*given(), 0.0)[0].backward()
    assert largest.elements == 51 * VOCABULARY


ARCHITECTURES = ("llama", "bert", "t5", "xlnet")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_model_gives_the_losses_and_gradients_of_its_logits(architecture: str) -> None:
    settings = Model(architecture=architecture, hidden=16, layers=1, heads=2, intermediate=24)
    rng, device = np.random.default_rng(3), torch.device("cpu")
    tokens, positions = rng.integers(0, VOCABULARY, (2, 12)), np.tile(np.arange(12), (2, 1))
    labels = rng.integers(0, VOCABULARY, (2, 12))
    labels[0, :5] = IGNORED
    more: dict[str, dict[str, np.ndarray]] = {
        "llama": {},
        "bert": {"places": positions},
        "t5": {"documents": 0 * tokens, "target_inputs": tokens, "target_documents": 0 * tokens},
        "xlnet": {"places": positions, "rank": 0 * tokens},
    }
    batch = Batch(tokens, positions, labels, positions, np.zeros(2, np.int64), more[architecture])
    one, other = (models.build(settings, VOCABULARY, 12, seed=1) for _ in range(2))
    logits = models.logits(one, batch, device)
    expected = token_losses(logits, torch.from_numpy(labels))
    minimised(expected, logits, torch.from_numpy(labels), 0.01).backward()
    total, found = models.chunked_losses(other, batch, device, torch.from_numpy(labels), 0.01)
    total.backward()
    assert torch.allclose(found, expected, atol=1e-5)
    for (name, mine), theirs in zip(other.named_parameters(), one.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        assert mine.grad is None or torch.allclose(mine.grad, theirs.grad, atol=1e-4), name


def test_in_bf16_the_gradient_is_scaled_by_what_the_step_says_and_not_by_that_rounded() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(1, 64, 32, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(200, 32, generator=generator).bfloat16()
    labels = torch.randint(0, 200, (1, 64), generator=generator)
    grads = []
    for scale in (1.0, 1.36328125):  # halfway between two numbers of bf16
        total, _ = chunked_losses(hidden, weight, None, labels)
        grads.append(torch.autograd.grad(total * scale, hidden)[0].double())
    one, other = grads
    assert ((one * other).sum() / one.square().sum()).item() == pytest.approx(1.36328125, rel=1e-3)
