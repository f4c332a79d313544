"""BERT (Devlin et al. 2019) for the masked objective; without dropout, and without its second objective, the next
sentence, which brought nothing (Liu et al. 2019). Only what is predicted goes through the output matrix."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM

from data_specs.training import Model
from training.models import masks
from training.models.head import Head


def config(settings: Model, vocabulary: int, sequence: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=sequence,
        tie_word_embeddings=settings.tied,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=None,
    )


class Packed(BertForMaskedLM):
    """A BERT that reads batches."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.cls.predictions.decoder.__class__ = Head

    def forward(self, inputs: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, **loss: Any) -> Any:
        """`places`, int64 [m, L]: what is predicted."""
        document = masks.documents(positions)
        mask = masks.readable(masks.same(document, document), self)
        hidden = self.bert(input_ids=inputs, position_ids=positions, attention_mask=mask).last_hidden_state
        chosen = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))
        predictions = self.cls.predictions
        return predictions.decoder(predictions.transform(chosen), **loss)
