"""What a micro-batch keeps for the way back, and what is needed beside it while a layer is computed, by architecture.

Counted from what torch's autograd keeps of each operation of a layer (as Korthikanti et al. 2022 do of another one):
of a product what is multiplied, of a softmax its result, of a norm what goes into it. Of each architecture there are
two numbers of bytes, where layers are kept whole and where they are computed again on the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_specs.training import Model, Training
from training.models.counts import inner


@dataclass(frozen=True)
class Sizes:
    """Bytes of a number."""

    low: int
    """Of what is multiplied."""
    stream: int
    """Of the sums that go from layer to layer."""
    autocast: bool
    """Whether weights and sums are float32 and products alone in bf16, as at ZeRO 0; each of these then keeps a copy of
    its own of what it multiplies."""

    @classmethod
    def of(cls, training: Training, bf16: bool) -> Sizes:
        autocast = bf16 and training.zero == 0
        return cls(2 if bf16 else 4, 2 if bf16 and not autocast else 4, autocast)

    def read(self, products: int) -> int:
        """Of a number that so many products multiply."""
        return self.low * (products if self.autocast else 1)


def activations(model: Model, training: Training, sequence: int, targets: int, bf16: bool) -> float:
    """Bytes of a micro-batch of rows of `sequence` positions, of which `targets` are predicted, without its loss."""
    rows, sizes = training.micro(sequence), Sizes.of(training, bf16)
    tokens = rows * sequence // training.sequence_parallel
    keys = 0 if training.attention == "flash_attention_2" else sequence
    if model.architecture == "bert":
        whole, again = _bert(model, tokens, keys, sizes)
    elif model.architecture == "t5":
        whole, again = _t5(model, sequence, targets, rows, sizes)
    elif model.architecture == "xlnet":
        return _xlnet(model, sequence, targets, rows, sizes)
    else:
        whole, again = _llama(model, tokens, keys, training.tensor_parallel, sizes.low)
    return again if training.activation_checkpointing else whole


def _llama(model: Model, tokens: int, keys: int, cut: int, each: int) -> tuple[float, float]:
    width, between = model.hidden, inner(model)
    norms = 2 * width * 8  # what goes in and, scaled, what comes out, in float32
    attention = 5 * width * each  # queries, keys and values for each head, what comes out, and that for the next matrix
    halves = 4 * between * each  # gate, its activation, the other half, their product
    layer = norms + attention / cut + halves / cut + keys * each  # and the mask
    working = 2 * between * each + 7 * width * each
    return tokens * (model.layers * layer + working), tokens * (model.layers * width * each + layer + working)


def _bert(model: Model, tokens: int, keys: int, sizes: Sizes) -> tuple[float, float]:
    width, between, low, stream = model.hidden, model.intermediate, sizes.low, sizes.stream
    attention = width * (sizes.read(3) + 4 * low) + keys * low  # what goes in and comes out and between; the mask
    feed_forward = (width + 2 * between) * low  # what goes in; what GELU gets and gives
    layer = attention + feed_forward + 2 * width * stream  # sums before each norm
    ends = 3 * width * stream
    gradients = 2 * between * low + 4 * width * stream
    again = model.layers * width * stream + layer + gradients
    return tokens * (model.layers * layer + ends), tokens * (again + ends)


def _t5(model: Model, sequence: int, targets: int, rows: int, sizes: Sizes) -> tuple[float, float]:
    """Attention to itself keeps the weights of all pairs, for each head (`models.attention.biased`). Most is held at
    the loss or, before there is anything of the decoder, at the scores of the encoder's last layer; where layers are
    computed again, on the way back through that one."""
    width, low, layers = model.hidden, sizes.low, model.layers

    def normed(products: int) -> int:
        """What goes in, once more in float32 for its square, what is scaled, and that for so many products."""
        square = 4 if sizes.stream < 4 else 0
        return width * (2 * sizes.stream + square + sizes.read(products))

    feed_forward = normed(1) + model.intermediate * sizes.read(2)
    attention = normed(3) + 4 * width * low  # queries, keys, values, what comes out
    cross_attention = normed(1) + 2 * width * low + sequence * low  # queries, what comes out; the mask
    asked = 2 * width * low * (2 if sizes.autocast else 1)  # keys and values of the encoder's positions
    of_inputs = attention + feed_forward + model.heads * sequence * low
    of_targets = attention + cross_attention + feed_forward + model.heads * targets * low
    encoder, decoder = rows * sequence * of_inputs, rows * (targets * of_targets + sequence * asked)
    pairs = rows * model.heads * sequence**2
    scores = 8 * pairs  # in float32, and what is added to them
    inputs = rows * (sequence + targets) * width * sizes.stream
    gradients = (4 + 2 * low) * pairs  # what is added to scores; of weights and of scores
    return layers * encoder + max(layers * decoder, scores) + 3 * inputs, (layers + 3) * inputs + encoder + gradients


def _xlnet(model: Model, sequence: int, targets: int, rows: int, sizes: Sizes) -> float:
    """Attention keeps the weights of all pairs, for each head (`models.attention.relative`); under autocast in float32,
    as the biases of queries are, and keys and values then once for each stream. Behind the last layer nobody reads the
    first stream, so most is held at the loss, or where the first stream's last scores are computed. Layers are always
    kept whole."""
    width, low = model.hidden, sizes.low
    full = 4 if sizes.autocast else low
    feed_forward = width * (low + 2 * sizes.stream) + 2 * model.intermediate * low
    asking = width * (2 * full + low) + model.heads * sequence * full + feed_forward  # queries twice, what comes out
    asked = width * (2 * full + sizes.read(2))  # keys, values, what they are made of
    again = width * (2 * full + low) if sizes.autocast else 0  # of the second stream; and what queries are made of
    first, second = rows * sequence * (asking + again), rows * targets * (asking + width * low)
    keys = (rows * asked + 2 * width * full) * sequence  # and those of places
    # On the way there scores in float32 and twice as many of places; on the way back gradients of these.
    scores = max(8, 3 * full) * rows * model.heads * sequence**2
    ends = 3 * rows * sequence * width * sizes.stream
    return (model.layers - 1) * (first + second + keys) + max(second + keys, scores) + ends
