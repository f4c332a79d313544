"""T5 (Raffel et al. 2020) for span corruption; without dropout, as later T5s were pretrained (version 1.1)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration

from data_specs.training import Model
from training.models import masks
from training.models.counts import BUCKETS
from training.models.head import Head


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


class Packed(T5ForConditionalGeneration):
    """A T5 that reads batches."""

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.lm_head.__class__ = Head

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
