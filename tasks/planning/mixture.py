"""The mixture's arithmetic: from a budget and weights to whole rows per phase and channel, and which tokens come next.

A channel's documents form a stream: in each epoch every document once, in the order of a hash of (seed, id, epoch). A
phase reads on where the last one stopped; with a `where` it takes, of the documents that pass, always those used least.
So inside a channel usage counts differ by at most one (inside the documents that pass the same phases, where phases
have a `where`), nothing is used beyond its epoch cap, and all of it is known before training
(tasks/planning/allocation.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from data_specs.amounts import plural
from data_specs.mixture import Curriculum
from data_specs.spec import Spec
from data_specs.training import PhaseShape
from tasks.arrays.hashing import seeded_hash
from tasks.planning.objectives import RowShape, row_shape


class MixtureError(ValueError):
    """The mixture cannot be met by the corpus; the message says by how much, and what to change."""


@dataclass(frozen=True)
class PhaseRows:
    """A phase in whole steps and rows."""

    first_step: int
    steps: int
    where: str | None
    weights: dict[str, float]
    """Share of the phase's tokens per channel; sums to 1, zeros left out."""
    written: dict[str, float]
    """The weights as the spec has them; empty where the spec leaves them to the channels' sizes."""
    rows: dict[str, int]
    """Rows per channel; within one of the exact share (largest remainder)."""
    shape: PhaseShape

    @property
    def cut(self) -> RowShape:
        """Rows of documents that are cut end to end."""
        return row_shape(self.shape.objective, self.shape.sequence)

    @property
    def row(self) -> RowShape:
        """What rows take of a channel's stream: packed by best fit, as many tokens as they have room for."""
        return RowShape(self.cut.width, 0) if self.shape.packing == "best_fit" else self.cut


def schedule(spec: Spec, sizes: Mapping[str, int]) -> tuple[PhaseRows, ...]:
    """The phases of a run. `sizes`: tokens per channel, the weights where the spec has no phases.

    Raises MixtureError when no channel has weight or, of fewer steps than the spec has, a phase would have none."""
    plain = [(phase.where, phase.weights) for phase in spec.mixture.phases] or [(None, {})]
    phases, first = [], 0
    for number, ((where, written), shape) in enumerate(zip(plain, spec.shapes, strict=True)):
        if shape.steps < 1:
            raise MixtureError(f"mixture: phase {number + 1} has none of the {plural(spec.steps, 'step')}")
        power = 1 / spec.mixture.temperature
        weights = shares(written or {name: size**power for name, size in sizes.items()}, spec.mixed)
        if not weights:
            raise MixtureError(f"mixture: no channel has any weight in phase {number + 1}, or no document was kept")
        rows = largest_remainder(weights, shape.steps * shape.rows)
        phases.append(PhaseRows(first, shape.steps, where, weights, dict(written), rows, shape))
        first += shape.steps
    return tuple(phases)


def shares(weights: Mapping[str, float], channels: Iterable[str]) -> dict[str, float]:
    """Weights made to sum to 1, in the order of `channels`, zeros left out."""
    total = sum(weights.values())
    return {name: weights[name] / total for name in channels if weights.get(name)}


def largest_remainder(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that sum to `total`, each within one of its weight's share (Hamilton's method); ties by order."""
    exact = {name: weight * total for name, weight in weights.items()}
    whole = {name: math.floor(share) for name, share in exact.items()}
    spare = total - sum(whole.values())
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[:spare]:
        whole[name] += 1
    return whole


def interleave(rows: np.ndarray, steps: int) -> np.ndarray:
    """Rows per channel of a phase (int64 [K], summing to a multiple of `steps`) -> rows per step and channel (int64
    [steps, K]); after every step each channel's sum is less than one from its exact share.

    The j-th row of a channel must come after step floor(j/a) and by step ceil((j+1)/a), a its rows per step; taking the
    earliest deadline first meets all of them (unit jobs with integer windows; Jackson 1955, Baruah et al. 1996)."""
    batch = int(rows.sum()) // steps
    done = np.zeros(len(rows), np.int64)
    result = np.empty((steps, len(rows)), np.int64)
    for step in range(1, steps + 1):
        count = np.maximum(step * rows // steps - done, 0)
        spare = batch - int(count.sum())
        if spare:
            following = done + count + 1
            deadline = -(-following * steps // np.maximum(rows, 1))
            deadline[following > -(-step * rows // steps)] = np.iinfo(np.int64).max
            count[np.argsort(deadline, kind="stable")[:spare]] += 1
        done += count
        result[step - 1] = count
    return result


@dataclass(frozen=True)
class Stream:
    """Parts of documents, end to end: index into the channel's documents (int64), first token, tokens (int64), and
    which use of the document it is (int64, from 1)."""

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray
    use: np.ndarray

    def ordered(self, by: np.ndarray, curriculum: Curriculum) -> Stream:
        """The same parts from one bin of a column to the next; `by` (float64 [n], of the channel's documents, NaN where
        there is none). Bins have as many parts each, and a part's place in its bin is that in the stream; without bins
        each part has its own."""
        values = by[self.document]
        ranked = np.argsort(
            np.where(np.isnan(values), np.inf, -values if curriculum.descending else values), kind="stable"
        )
        place = np.empty(len(ranked), np.int64)
        place[ranked] = np.arange(len(ranked)) * (curriculum.bins or len(ranked)) // max(1, len(ranked))
        order = np.argsort(place, kind="stable")
        return Stream(self.document[order], self.start[order], self.length[order], self.use[order])


class Usage:
    """How often each document of a channel is used, and which come next.

    `lengths` (int32 [n], tokens, each at least 2) and `hashes` (uint64 [n]) of its documents; `cap` in epochs. `mask`
    below (bool [n]) says which documents pass a phase's `where`."""

    def __init__(
        self, lengths: np.ndarray, hashes: np.ndarray, cap: float, seed: int, before: np.ndarray | None = None
    ) -> None:
        """`before` (int32 [n]): how often earlier trainings read each."""
        self.lengths, self.hashes, self.cap, self.seed = lengths, hashes, cap, seed
        self.before = np.zeros(len(lengths), np.int32) if before is None else before
        self.counts = self.before.copy()
        """Times that each document was begun, by earlier trainings and this one."""
        self.partly_read: list[tuple[int, int]] = []
        """Documents that were begun and not read to their end: (index, the token to go on from). That is the last one
        that was read, since rows overlap by a token: of a document of 20 tokens, of which 15 were read, token 14."""

    @property
    def own(self) -> np.ndarray:
        """Times that this training begins each."""
        return self.counts - self.before

    def tokens(self, mask: np.ndarray) -> int:
        """Tokens of the documents, once."""
        return int(self.lengths[mask].sum(dtype=np.int64))

    def taken(self, mask: np.ndarray) -> int:
        """Tokens of the documents that earlier phases have used up."""
        return int(self.counts[mask] @ self.lengths[mask].astype(np.int64)) - self._unread(mask)

    def available(self, mask: np.ndarray) -> int:
        """Tokens of the documents that may still be read under the cap."""
        return math.floor(self.cap * self.tokens(mask)) - self.taken(mask)

    @property
    def leftover(self) -> int:
        """Tokens of documents counted as used that are no row's target."""
        return sum(int(self.lengths[index]) - start - 1 for index, start in self.partly_read)

    def read(self, mask: np.ndarray, tokens: int) -> Stream:
        """The next `tokens` tokens of the documents, which must be `available`.

        First what is partly read, then the documents that were used least, in the order of a hash. Of documents a, b
        and c of 10, 20 and 30 tokens, in this order, the first 25 tokens are a and 15 of b; the next 50 are b from
        token 14 on, which are 6, all of c, and 14 of the document that the next epoch begins with."""
        going_on = [(index, start) for index, start in self.partly_read if mask[index]]
        self.partly_read = [(index, start) for index, start in self.partly_read if not mask[index]]
        chosen = [np.array([index for index, _ in going_on], np.int64)]
        uses = [self.counts[chosen[0]].astype(np.int64)]
        starts = np.array([start for _, start in going_on], np.int64)
        filled = int((self.lengths[chosen[0]] - starts).sum())
        while filled < tokens:
            epoch = int(self.counts[mask].min())
            least = np.flatnonzero(mask & (self.counts == epoch))
            least = least[np.argsort(seeded_hash(self.hashes[least], self.seed, "epoch", epoch), kind="stable")]
            ends = filled + np.cumsum(self.lengths[least], dtype=np.int64)
            least = least[: np.searchsorted(ends, tokens) + 1]
            self.counts[least] += 1
            filled = int(ends[len(least) - 1])
            chosen.append(least)
            uses.append(np.full(len(least), epoch + 1, np.int64))
        document, use = np.concatenate(chosen), np.concatenate(uses)
        starts = np.append(starts, np.zeros(len(document) - len(starts), np.int64))
        return self._first(tokens, document, starts, use)

    def skip(self, mask: np.ndarray, tokens: int) -> None:
        """Use the next `tokens` tokens as `read` does, without saying which; whole epochs cost nothing.

        What is left until every document is used as often as the most used one, and to its end, is read; then whole
        epochs are counted; then the rest is read. Of a, b and c as above, used twice, once and once: 50 tokens, then
        epochs of 60."""
        lengths, counts, once = self.lengths[mask].astype(np.int64), self.counts[mask], self.tokens(mask)
        until_even = int((counts.max().astype(np.int64) - counts) @ lengths) + self._unread(mask)
        if tokens >= until_even + once:
            if until_even:
                self.read(mask, until_even)
            epochs, tokens = divmod(tokens - until_even, once)
            self.counts[mask] += epochs
        if tokens:
            self.read(mask, tokens)

    def _unread(self, mask: np.ndarray) -> int:
        """Tokens still to be read of the documents that are partly read."""
        return sum(int(self.lengths[index]) - start for index, start in self.partly_read if mask[index])

    def _first(self, tokens: int, document: np.ndarray, start: np.ndarray, use: np.ndarray) -> Stream:
        """The first `tokens` tokens of documents, each from its `start`; notes those that this does not read to their
        end."""
        length = self.lengths[document] - start
        ends = np.cumsum(length)
        count = int(np.searchsorted(ends, tokens)) + 1  # documents that are read
        unread = int(ends[count - 1]) - tokens  # tokens of the last one that are not
        if unread:
            length[count - 1] -= unread
            self.partly_read.append((int(document[count - 1]), int(start[count - 1] + length[count - 1]) - 1))
        self.partly_read += zip(document[count:].tolist(), start[count:].tolist(), strict=True)
        return Stream(document[:count], start[:count], length[:count], use[:count])
