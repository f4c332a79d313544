"""Llama (Touvron et al. 2023), for the causal and the prefix objective.

Positions restart at each document, and no attention mask and no cache are passed, which is what makes transformers mask
by document: another document's tokens move no logit at all. A prefix needs a mask of its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from data_specs.training import Model
from training.models import masks
from training.models.head import Head


def sizes(settings: Model, vocabulary: int, sequence: int) -> dict[str, Any]:
    """What a configuration of transformers is made of."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "intermediate_size": settings.intermediate,
        "max_position_embeddings": sequence,
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rope_theta},
        "rms_norm_eps": settings.norm_eps,
        "tie_word_embeddings": settings.tied,
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def config(settings: Model, vocabulary: int, sequence: int) -> LlamaConfig:
    return LlamaConfig(**sizes(settings, vocabulary, sequence))


def read(
    self: Any, inputs: torch.Tensor, positions: torch.Tensor, prefix: torch.Tensor | None = None, **loss: Any
) -> Any:
    """What a batch gives; `prefix`, bool [m, T]: tokens that all of their document see. Where ranks share positions
    (`self.place`), those of this one."""
    mask = None
    if prefix is not None or self.place is not None:
        document = masks.documents(positions)
        seen = masks.causal(inputs.shape[1], inputs.device)
        if prefix is not None:
            seen = seen | prefix[:, None, None, :]
        mask = masks.readable(masks.same(document, document) & seen, self)
    if self.place is not None:
        part = self.place.positions(inputs.shape[1])
        inputs, positions = inputs[:, part], positions[:, part]
    found = self.model(input_ids=inputs, attention_mask=mask, position_ids=positions, use_cache=False)
    return self.lm_head(found.last_hidden_state, **loss)


class Packed(LlamaForCausalLM):
    """A Llama that reads batches."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.lm_head.__class__ = Head

    place: Any = None
    forward = read


def scale_by_depth(model: Any) -> None:
    """Draw what is added to the residual stream smaller, by sqrt(2 x layers), as each layer adds twice to it (Radford
    et al. 2019)."""
    layers = model.model.layers
    with torch.no_grad():
        for layer in layers:
            for matrix in (layer.self_attn.o_proj, layer.mlp.down_proj):
                matrix.weight.div_(math.sqrt(2 * len(layers)))


def set_rope_base(model: Any, base: float) -> None:
    """Turn the queries and keys of a Llama by another base from here on."""
    rotary = model.model.rotary_emb
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": base}
    fresh = type(rotary)(model.config)
    for name in ("inv_freq", "original_inv_freq"):
        if hasattr(rotary, name):
            getattr(rotary, name).copy_(getattr(fresh, name))
