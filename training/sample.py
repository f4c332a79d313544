"""Text that a checkpoint goes on with: the quickest look at what a model has learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import logging

from data_specs.spec import Spec
from tasks.storage.pins import Pin, fetched
from tasks.storage.store import Store
from tasks.tokenization.tokenizer import load
from training import frozen, models
from training.checkpoint import CheckpointError
from training.rows import Plan


@dataclass(frozen=True)
class Sampling:
    """How to sample: `count` continuations of at most `tokens` tokens each; temperature 0 takes the likeliest token,
    `top_p` only the likeliest that have so much of the probability together (Holtzman et al. 2020)."""

    tokens: int = 64
    count: int = 1
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


def sample(
    store: Store, spec: Spec, plan: Plan, run: str, step: int, tokenizer: Pin, prompt: str, how: Sampling
) -> list[str]:
    """Continuations of a prompt by the checkpoint of a step, without the prompt; the same seed gives the same texts. An
    empty prompt begins a document. Raises CheckpointError, DamagedError where the tokenizer is not what was pinned."""
    loaded = load(
        fetched(store, tokenizer["path"], tokenizer["sha256"]).read_bytes(), tokenizer["path"], spec.tokenizer
    )
    if spec.model.architecture not in ("llama", "causal"):
        raise CheckpointError(f"runs/{run} trains a {spec.model.architecture}, which does not go on with a text")
    model: Any = models.plain(spec.model)(frozen.config(store, spec, plan, run, step)).eval()
    model.load_state_dict(frozen.model(store, spec, plan, run, step, as_exported=True).state_dict())
    beginning = loaded.encoder.encode(prompt, add_special_tokens=False).ids or [loaded.end]
    torch.manual_seed(how.seed)
    logging.set_verbosity_error()  # a text longer than the rows that were trained on is what was asked for
    sampled = {"temperature": how.temperature, "top_p": how.top_p, "top_k": 0} if how.temperature else {}
    inputs = torch.tensor([beginning] * how.count)
    made = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=how.tokens,
        do_sample=how.temperature > 0,
        eos_token_id=loaded.end,
        pad_token_id=loaded.pad,
        use_cache=True,
        **sampled,
    )
    return [loaded.encoder.decode(row[len(beginning) :], skip_special_tokens=True) for row in made.tolist()]
