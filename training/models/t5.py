"""T5 (Raffel et al. 2020) for span corruption; without dropout, as later T5s were pretrained (version 1.1)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention

from data_specs.training import Model
from training.models import attention, masks
from training.models.counts import BUCKETS
from training.models.head import Head

ATTENTION = "biased"
"""What transformers calls the attention below."""


def config(settings: Model, vocabulary: int, sequence: int) -> T5Config:
    others: dict[str, Any] = {"decoder_start_token_id": None}
    return T5Config(
        vocab_size=vocabulary,
        d_model=settings.hidden,
        d_kv=settings.hidden // settings.heads,
        num_layers=settings.layers,
        num_heads=settings.heads,
        d_ff=settings.intermediate,
        relative_attention_num_buckets=BUCKETS,
        dropout_rate=0.0,
        use_cache=False,
        pad_token_id=None,
        eos_token_id=None,
        **others,
    )


@torch.compiler.disable
def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    position_bias: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers asks of attention, [m, Q, H, D]. A stack has one bias for all of its layers; from decoder to
    encoder there is none, and torch's fused function takes the mask as it is."""
    if getattr(module, "between", False):
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, attention_mask, scale=1.0)
    else:
        kept = vars(position_bias)  # what the first layer of a stack made is that of the others
        if kept.get("mask") is not attention_mask:
            hidden = torch.tensor(attention.HIDDEN, device=query.device)
            kept |= {"mask": attention_mask, "added": torch.where(attention_mask, position_bias.detach(), hidden)}
        found = attention.biased(query, key, value, position_bias, kept["added"])
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)


class Packed(T5ForConditionalGeneration):
    """A T5 that reads batches."""

    attention = ATTENTION

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.lm_head.__class__ = Head
        for layer in self.decoder.modules():
            if isinstance(layer, T5LayerCrossAttention):
                layer.EncDecAttention.between = True

    def forward(
        self,
        inputs: torch.Tensor,
        positions: torch.Tensor,
        documents: torch.Tensor,
        target_inputs: torch.Tensor,
        target_documents: torch.Tensor,
        **loss: Any,
    ) -> Any:
        """Which documents inputs and targets belong to, and what the decoder reads. T5's positions are relative."""
        encoded = self.encoder(input_ids=inputs, attention_mask=masks.same(documents, documents)).last_hidden_state
        before = masks.same(target_documents, target_documents) & masks.causal(target_inputs.shape[1], inputs.device)
        across = masks.same(target_documents, documents)
        decoded = self.decoder(
            input_ids=target_inputs,
            attention_mask=before,
            encoder_hidden_states=encoded,
            encoder_attention_mask=across,
            use_cache=False,
        ).last_hidden_state
        scale = self.model_dim**-0.5 if self.config.scale_decoder_outputs else 1.0
        return self.lm_head(decoded * scale, **loss)
