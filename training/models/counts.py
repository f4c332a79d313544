"""How large a model is and what a token of it costs, without building it and, but for `model.folder`, without torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from data_specs.training import Model

if TYPE_CHECKING:
    from training.models import causal

BUCKETS = 32
"""Of T5's relative positions."""


def parameters(settings: Model, vocabulary: int, sequence: int) -> int:
    """Number of parameters; `sequence`, the most positions of a row, counts where they have embeddings. Of any causal
    model they are counted by building it without its weights, which imports torch."""
    if settings.architecture == "causal":
        return _of_any(settings, vocabulary).parameters
    embeddings = vocabulary * settings.hidden * (1 if settings.tied else 2)
    width, once = settings.hidden, 0
    if settings.architecture == "llama":
        once = width  # the last norm
    elif settings.architecture == "bert":
        once = (sequence + 2) * width + 2 * width  # positions, two types, a norm
        # What is before the output matrix, and its bias, of which transformers keeps two where it is not tied.
        once += width * width + 3 * width + vocabulary * (1 if settings.tied else 2)
    elif settings.architecture == "t5":
        once = 2 * width + 2 * BUCKETS * settings.heads
    else:
        once = width + vocabulary  # what a predicted token is read as; the bias of the output
    return embeddings + once + settings.layers * layer(settings)


def layer(settings: Model) -> int:
    """Parameters of a layer; of T5, of one in the encoder and one in the decoder; of any causal model those of its
    matrices, which are most."""
    if settings.architecture == "causal":
        return (_of_any(settings, 1).multiplied - settings.hidden) // settings.layers
    width, inner = settings.hidden, settings.intermediate
    square, between = width * width, 2 * width * inner
    if settings.architecture == "llama":
        return _llama_attention(settings) + 3 * width * inner + _norms(settings)
    if settings.architecture == "bert":
        return 4 * square + between + 9 * width + inner
    if settings.architecture == "t5":
        return 12 * square + 2 * between + 5 * width
    return 5 * square + between + 10 * width + inner


def _norms(settings: Model) -> int:
    """Parameters of the norms of a layer of a Llama."""
    return 2 * settings.hidden + (2 * (settings.hidden // settings.heads) if settings.qk_norm else 0)


def _llama_attention(settings: Model) -> int:
    head = settings.hidden // settings.heads
    return settings.hidden * head * (2 * settings.heads + 2 * settings.kv_heads)


def flops(settings: Model, vocabulary: int, sequence: int) -> int:
    """Floating-point operations of training on one token of a Llama: 6 per weight that multiplies (Kaplan et al. 2020),
    the output matrix among them, and 12 x layers x hidden x sequence for attention (Chowdhery et al. 2022, appendix B).
    Of the other architectures the same formula over their weights, as if every position were predicted."""
    if settings.architecture == "causal":
        return row_flops(settings, vocabulary, sequence, sequence) // sequence
    norms = settings.layers * _norms(settings) + settings.hidden
    weights = (
        parameters(settings, vocabulary, sequence) - norms - (0 if settings.tied else vocabulary * settings.hidden)
    )
    return 6 * weights + 12 * settings.layers * settings.hidden * sequence


def row_flops(settings: Model, vocabulary: int, sequence: int, targets: int) -> int:
    """Floating-point operations of training on one row of `sequence` positions, of which `targets` are predicted: six
    for each pair of a weight and what it multiplies, twice that of attention for each pair of a query and a key (its
    scores and its values), whatever documents they are of. A T5 has `targets` positions in its decoder, an XLNet as
    many in its second stream; both predict, as a BERT, these alone."""
    width, inner, layers = settings.hidden, settings.intermediate, settings.layers
    if settings.architecture == "causal":
        found = _of_any(settings, vocabulary)
        return 6 * sequence * found.multiplied + 12 * layers * found.queries * sequence**2
    square, between = width * width, 2 * width * inner
    output = vocabulary * width
    if settings.architecture == "llama":
        each = layers * (_llama_attention(settings) + 3 * width * inner) + output
        return 6 * sequence * each + 12 * layers * width * sequence**2
    if settings.architecture == "bert":
        multiplied = sequence * layers * (4 * square + between) + targets * (square + output)
        return 6 * multiplied + 12 * layers * width * sequence**2
    if settings.architecture == "t5":
        encoder = sequence * (6 * square + between)  # the keys and values that the decoder asks for, too
        decoder = targets * (6 * square + between)
        pairs = sequence**2 + targets**2 + targets * sequence
        return 6 * (layers * (encoder + decoder) + targets * output) + 12 * layers * width * pairs
    # Keys of places are made once for all rows; there are twice as many of them as of tokens. Behind the last layer the
    # first stream is read by nobody.
    first, both = sequence * (2 * square + between), 2 * sequence * square + targets * (2 * square + between)
    pairs = 2 * sequence * (sequence * (layers - 1) + targets * layers)
    return 6 * (first * (layers - 1) + both * layers + targets * output) + 12 * width * pairs


def inner(settings: Model) -> int:
    """The width between the two matrices of a feed-forward network."""
    return _of_any(settings, 1).inner if settings.architecture == "causal" else settings.intermediate


def _of_any(settings: Model, vocabulary: int) -> causal.Count:
    """Of any causal model what it has, which imports torch."""
    from training.models import causal

    return causal.count(json.dumps(settings.config, sort_keys=True), vocabulary)
