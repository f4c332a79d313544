"""A Llama whose queries and keys are normalised in each head (RMSNorm, as Dehghani et al. 2023 have it with LayerNorm),
so that attention's logits cannot grow without bound. transformers has it as Qwen3 (Yang et al. 2025)."""

from __future__ import annotations

from transformers import Qwen3Config, Qwen3ForCausalLM

from data_specs.training import Model
from training.models import llama
from training.models.head import Head


def config(settings: Model, vocabulary: int, sequence: int) -> Qwen3Config:
    return Qwen3Config(head_dim=settings.hidden // settings.heads, **llama.sizes(settings, vocabulary, sequence))


class Packed(Qwen3ForCausalLM):
    """A Qwen3 that reads batches."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        self.lm_head.__class__ = Head

    place = None
    forward = llama.read
