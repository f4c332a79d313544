"""XLNet (Yang et al. 2019) for the permutation objective: two streams of attention, one of which knows what a token is,
the other only where it is. Without dropout and without memory of earlier rows.

transformers 5.23 computes both streams at all positions and whatever a predicted token is asked, in a layout in which
rows come last: here it is done once and as a batch, by the same parameters and to the same logits, which
`tests/training/test_attention.py` holds against that version's own."""

from __future__ import annotations

from typing import Any

import torch
from transformers import XLNetConfig, XLNetLMHeadModel, XLNetModel
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from data_specs.training import Model
from training.models import attention, masks
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


class Attention(XLNetRelativeAttention):
    """The same of rows whose tokens are all of one segment: what transformers adds for that is the same for all keys,
    and moves nothing. Rows come first, keys of places are made once for all rows, and the second stream asks for what
    is predicted alone."""

    def forward(
        self,
        h: torch.Tensor,
        g: torch.Tensor,
        hidden_h: torch.Tensor,
        hidden_g: torch.Tensor,
        r: torch.Tensor,
        places: torch.Tensor,
        last: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The streams h [m, T, width] and g [m, L, width], what their tokens do not see, bool [m, 1, T, T] and
        [m, 1, L, T], places r [2T, width], and where g stands, int64 [m, L] -> the streams behind it; behind the
        `last` layer nobody reads the first."""
        key, value, key_r = (self._heads(x, of) for x, of in ((h, self.k), (h, self.v), (r, self.r)))
        predicted = g + self._asked(g, key, value, key_r, hidden_g, places)
        predicted = predicted + 0 * (self.r_s_bias.sum() + self.seg_embed.sum())  # parts of the model without an effect
        seen = None if last else self.layer_norm(h + self._asked(h, key, value, key_r, hidden_h, None))
        return seen, self.layer_norm(predicted)

    def _heads(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """[..., L, width] -> [..., H, L, D]."""
        return (x @ matrix.flatten(1)).unflatten(-1, (self.n_head, self.d_head)).transpose(-2, -3)

    def _asked(
        self,
        x: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_r: torch.Tensor,
        hidden: torch.Tensor,
        places: torch.Tensor | None,
    ) -> torch.Tensor:
        query = self._heads(x, self.q)
        by_text, by_place = ((query + bias[:, None, :]) * self.scale for bias in (self.r_w_bias, self.r_r_bias))
        found = attention.relative(by_text, key, value, by_place, key_r, hidden, places)
        return found.transpose(1, 2).flatten(2) @ self.o.flatten(1).t()


class Body(XLNetModel):
    """Both streams of all layers."""

    def forward(
        self, inputs: torch.Tensor, places: torch.Tensor, hidden_h: torch.Tensor, hidden_g: torch.Tensor
    ) -> torch.Tensor:
        """What is made of the predicted `places`, [m, L, width]."""
        h = self.word_embedding(inputs)
        g = self.mask_emb.expand(*places.shape, -1)
        length = inputs.shape[1]
        r = self.relative_positional_encoding(length, length, device=h.device)[:, 0].to(h.dtype)
        for left, layer in zip(reversed(range(len(self.layer))), self.layer, strict=True):
            h, g = layer.rel_attn(h, g, hidden_h, hidden_g, r, places, last=not left)
            h, g = layer.ff(h) if left else h, layer.ff(g)
        return g


class Packed(XLNetLMHeadModel):
    """An XLNet that reads batches."""

    attention = "eager"  # what transformers calls that of `Attention`, too

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__(config)
        self.lm_loss.__class__ = Head
        self.transformer.__class__ = Body
        for layer in self.transformer.layer:
            layer.rel_attn.__class__ = Attention

    def forward(
        self, inputs: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, rank: torch.Tensor, **loss: Any
    ) -> Any:
        """`places`, int64 [m, L]: what is predicted; `rank`, int64 [m, T]: the order, 0 of what all see."""
        document = masks.documents(positions)
        before = (rank[:, None, :] == 0) | (rank[:, None, :] < rank[:, :, None])
        hidden = ~(masks.same(document, document) & before[:, None])
        own = torch.eye(inputs.shape[1], dtype=torch.bool, device=inputs.device)
        asked = hidden.gather(2, places[:, None, :, None].expand(-1, -1, -1, inputs.shape[1]))
        return self.lm_loss(self.transformer(inputs, places, hidden & ~own, asked), **loss)
