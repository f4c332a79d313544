"""What each objective asks of a run plan: how many tokens a row holds, and how many of them are targets.

Chance is a counter: `Noise` gives the bits of a row from the run's seed, the phase and the row's number, so every rank,
every resumed run and the planner draw the same, and a text that is read again, in another row, is drawn anew. Held-out
rows have noise of their own, the same in all runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data_specs.objectives import Causal, Masked, Objective, Permutation, Prefix, SpanCorruption
from data_specs.spec import Spec
from data_specs.training import PhaseShape
from tasks.arrays.groups import numbers_within
from tasks.arrays.hashing import seeded_hash

MIDDLE = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
MASK = ("<mask>",)
BEGIN, END = "<begin>", "<end>"
"""What a decoder begins with, and what ends its input and its targets."""
SENTINELS = 100
"""That T5 has; a vocabulary gets more where rows have more spans."""


@dataclass(frozen=True)
class RowShape:
    """Rows of `width` tokens, of which each shares `overlap` with the one before it."""

    width: int
    overlap: int

    @property
    def stride(self) -> int:
        return self.width - self.overlap

    def tokens(self, rows: int) -> int:
        """Tokens of so many rows of one stream."""
        return rows * self.stride + self.overlap

    def rows(self, tokens: int) -> int:
        """Whole rows in so many tokens."""
        return max(tokens - self.overlap, 0) // self.stride


def row_shape(objective: Objective, sequence: int) -> RowShape:
    """Of rows of `sequence` positions. Where each position predicts the next token, rows overlap by one, so that every
    token but a document's first is a target once."""
    if isinstance(objective, Causal | Prefix):
        return RowShape(sequence + 1, 1)
    if isinstance(objective, SpanCorruption):
        return RowShape(raw_tokens(objective, sequence), 0)
    return RowShape(sequence, 0)


@dataclass(frozen=True)
class Corrupted:
    """Numbers of a row of span corruption: `inputs` and `targets` with the sentinels and the end, tokens in spans,
    spans."""

    inputs: int
    targets: int
    noise: int
    spans: int


def corrupted(objective: SpanCorruption, tokens: int) -> Corrupted:
    """What `tokens` raw tokens become (Raffel et al. 2020): round(tokens x density) of them in round(that / mean_span)
    spans, at least one each. 568 tokens at .15 and 3 give 85 in 28 spans: 512 inputs and 114 targets. One token alone
    stays as it is."""
    if tokens < 2:
        return Corrupted(tokens + 1, 0, 0, 0)
    noise = min(max(round(tokens * objective.density), 1), tokens - 1)
    spans = max(1, min(round(noise / objective.mean_span), noise, tokens - noise))
    return Corrupted(tokens - noise + spans + 1, noise + spans + 1, noise, spans)


def raw_tokens(objective: SpanCorruption, inputs: int) -> int:
    """The most raw tokens that become no more than so many inputs."""
    tokens = inputs
    while corrupted(objective, tokens + 1).inputs <= inputs:
        tokens += 1
    while tokens > 2 and corrupted(objective, tokens).inputs > inputs:
        tokens -= 1
    return tokens


class Noise:
    """The bits of each row of a phase; of the held-out rows where `phase` is None."""

    def __init__(self, seed: int, phase: int | None) -> None:
        self.key = ("held_out", "noise") if phase is None else (seed, "noise", phase)

    def bits(self, row: int, count: int, purpose: int = 0) -> np.ndarray:
        """uint64 [count], all different."""
        first = (row << 28) | (purpose << 24)
        return seeded_hash(np.arange(first, first + count, dtype=np.uint64), *self.key)

    def of_segments(self, first_row: int, segments: np.ndarray) -> np.ndarray:
        """uint64, one for each segment of consecutive rows; `segments` int64 [rows], how many each has."""
        rows = np.repeat(np.arange(first_row, first_row + len(segments), dtype=np.uint64), segments)
        places = (rows << np.uint64(28)) | numbers_within(segments).astype(np.uint64)
        return seeded_hash(places, *self.key)


def prefix_lengths(lengths: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """How many tokens of each segment are its prefix (int64): evenly 1 to all but one, of one of one token that."""
    return 1 + (bits % np.maximum(lengths.astype(np.int64) - 1, 1).astype(np.uint64)).astype(np.int64)


def predicted(share: float, tokens: np.ndarray) -> np.ndarray:
    """How many of a row's tokens are predicted (int64), where that is a share of them: at least one."""
    return np.maximum(1, np.rint(share * tokens)).astype(np.int64)


def target_counts(
    objective: Objective, lengths: np.ndarray, segments: np.ndarray, first_row: int, noise: Noise
) -> np.ndarray:
    """Targets of consecutive rows (int32). `lengths`: tokens of their segments, end to end; `segments` of each row."""
    ends = np.cumsum(segments)
    tokens = np.diff(np.cumsum(lengths, dtype=np.int64)[ends - 1], prepend=0)
    if isinstance(objective, Masked):
        counts = predicted(objective.rate, tokens)
    elif isinstance(objective, Permutation):
        counts = predicted(objective.predicted, tokens)
    elif isinstance(objective, SpanCorruption):
        counts = np.array([corrupted(objective, int(n)).targets for n in tokens], np.int64)
    elif isinstance(objective, Prefix):
        seen = prefix_lengths(lengths, noise.of_segments(first_row, segments))
        counts = np.add.reduceat(lengths - np.minimum(seen, lengths), ends - segments)
    else:
        counts = tokens - segments
    return counts.astype(np.int32)


def targets_of_a_row(objective: Objective, sequence: int) -> int:
    """Of a row of so many positions that is full and holds one document."""
    full = np.array([row_shape(objective, sequence).width])
    return int(target_counts(objective, full, np.array([1]), 0, Noise(0, None))[0])


def added_tokens(spec: Spec, entries: int) -> tuple[str, ...]:
    """The entries of the model's vocabulary that follow on the tokenizer's `entries`: reserved ones, where the spec
    asks for such, and the tokens that the objectives need."""
    special = special_tokens(spec.shapes, spec.tokenizer.mask)
    padding = spec.model.vocabulary
    reserved = padding.reserved(entries + len(special)) if padding else 0
    return (*(f"<|spare_{number}|>" for number in range(reserved)), *special)


def special_tokens(shapes: Iterable[PhaseShape], mask: str | None = None) -> tuple[str, ...]:
    """The tokens that the objectives of a run need beside those of its tokenizer, of which one may be the `mask`."""
    shapes = tuple(shapes)
    found: list[str] = []
    if mask is None and any(isinstance(shape.objective, Masked) for shape in shapes):
        found += MASK
    if any(isinstance(shape.objective, Causal) and shape.objective.fill_in_the_middle for shape in shapes):
        found += MIDDLE
    if spans := [_spans(shape.objective, shape.sequence) for shape in shapes if _corrupts(shape)]:
        found += [BEGIN, END, *(f"<extra_id_{number}>" for number in range(max(SENTINELS, *spans)))]
    return tuple(found)


def _corrupts(shape: PhaseShape) -> bool:
    return isinstance(shape.objective, SpanCorruption)


def _spans(objective: Objective, sequence: int) -> int:
    assert isinstance(objective, SpanCorruption)  # by its caller
    return corrupted(objective, raw_tokens(objective, sequence)).spans


def numbers(special: Sequence[str], vocabulary: int) -> dict[str, int]:
    """Special token -> its number, in a vocabulary whose last entries they are."""
    return {name: vocabulary - len(special) + place for place, name in enumerate(special)}
