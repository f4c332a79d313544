"""XLNet (Yang et al. 2019) for the permutation objective: two streams of attention, one of which knows what a token is,
the other only where it is. Without dropout and without memory of earlier rows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from transformers import XLNetConfig, XLNetLMHeadModel

from data_specs.training import Model
from training.models import masks
from training.models.head import Head


def config(settings: Model, vocabulary: int, sequence: int) -> XLNetConfig:
    return XLNetConfig(
        vocab_size=vocabulary,
        d_model=settings.hidden,
        n_layer=settings.layers,
        n_head=settings.heads,
        d_inner=settings.intermediate,
        tie_word_embeddings=settings.tied,
        dropout=0.0,
        summary_last_dropout=0.0,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )


class Packed(XLNetLMHeadModel):
    """An XLNet that reads batches."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__(config)
        self.lm_loss.__class__ = Head

    def forward(
        self, inputs: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, rank: torch.Tensor, **loss: Any
    ) -> Any:
        """`places`, int64 [m, L]: what is predicted; `rank`, int64 [m, T]: the order, 0 of what all see."""
        document = masks.documents(positions)
        before = (rank[:, None, :] == 0) | (rank[:, None, :] < rank[:, :, None])
        hidden = ~(masks.same(document, document)[:, 0] & before)
        read = self.transformer(
            input_ids=inputs,
            perm_mask=hidden.float(),
            target_mapping=functional.one_hot(places, inputs.shape[1]).float(),
            token_type_ids=torch.zeros_like(inputs),
            use_mems=False,
        )
        return self.lm_loss(read[0], **loss)
