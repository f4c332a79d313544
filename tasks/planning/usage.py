"""How often the documents of a plan are used, and how many of their tokens, as plan.json and usage.arrow say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.planning.best_fit import Packed
from tasks.planning.middle import ADDED
from tasks.planning.mixture import Stream, Usage
from tasks.planning.packing import Documents

_USE = 24
"""Bits of the number of a use of a document."""
USAGE = pa.schema(
    [
        ("channel", pa.int16()),
        ("file", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
        ("uses", pa.int32()),
    ]
)
"""Columns of usage.arrow (docs/run_plan.md)."""


@dataclass(frozen=True)
class Held:
    """What the rows of a phase hold of a channel's stream."""

    uses: np.ndarray
    """A number (int64) for each use of a document of which they hold a piece."""
    discarded: int
    """Tokens of the stream that no row holds."""
    going_on: int
    """Documents with which the phase goes on, from the token on that an earlier one read last."""
    borders: frozenset[tuple[int, int, int]]
    """Of the tokens from which it goes on, and of those with which it leaves a document, the ones that rows hold:
    document, use, token."""


def held(stream: Stream, packed: Packed | None, lengths: np.ndarray, before: Sequence[Stream]) -> Held:
    """`packed` by best fit, rows may lack pieces; `lengths`: of the channel's documents; `before`: its streams in
    earlier phases."""
    uses, end = _uses_in(stream), stream.start + stream.length
    left = [_uses_in(each)[_leaves(each, lengths)] for each in before]
    going = np.isin(uses, np.concatenate([np.empty(0, np.int64), *left]))
    first, last = np.flatnonzero(going), np.flatnonzero(_leaves(stream, lengths))
    if packed is not None:
        ends = packed.start + packed.length == stream.length[packed.part]
        first = np.intersect1d(first, packed.part[packed.start == 0])
        last = np.intersect1d(last, packed.part[ends])
        uses = uses[np.unique(packed.part)]
    at, token = np.concatenate([first, last]), np.concatenate([stream.start[first], end[last] - 1])
    borders = zip(stream.document[at].tolist(), stream.use[at].tolist(), token.tolist(), strict=True)
    return Held(uses, packed.discarded if packed else 0, int(going.sum()), frozenset(borders))


def _uses_in(stream: Stream) -> np.ndarray:
    """A number (int64) for the use of a document that each part of a stream is of."""
    return stream.document << _USE | stream.use


def _leaves(stream: Stream, lengths: np.ndarray) -> np.ndarray:
    """Which parts of a stream end before their documents."""
    return stream.start + stream.length < lengths[stream.document]


def uses_of_documents(
    documents: Mapping[str, Documents],
    usages: Mapping[str, Usage],
    phases: Sequence[Mapping[str, Held]],
    origins: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """By channel, how often the plan begins each document to train on. `phases`: what the rows of each hold, where they
    do not hold all."""
    uses = {}
    for name, usage in usages.items():
        parts = [phase[name].uses for phase in phases if name in phase]
        uses[name] = _uses(usage, parts, origins.get(name), len(documents[name].length))
    return uses


def _uses(usage: Usage, parts: Sequence[np.ndarray], origin: np.ndarray | None, documents: int) -> np.ndarray:
    """How often the plan begins each document, all its entries together; int32. `parts`: of each phase the uses that
    its rows hold, where they are not all."""
    begun = usage.own
    if parts:
        begun = np.bincount(np.unique(np.concatenate(parts)) >> _USE, minlength=len(begun)).astype(np.int32)
    return begun if origin is None else np.bincount(origin, begun, documents).astype(np.int32)


def table(train: Mapping[str, Documents], uses: Mapping[str, np.ndarray]) -> pa.Table:
    """Of every document to train on, how often it is begun."""
    parts = [USAGE.empty_table()]
    for index, (name, found) in enumerate(train.items()):
        length = found.length - np.where(found.turned, ADDED, 0) if len(found.turned) else found.length
        columns = [np.full(len(length), index, np.int16), found.file, found.offset, length, uses[name]]
        parts.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, USAGE, strict=True)], schema=USAGE))
    return pa.concat_tables(parts)


def summary(usage: Usage, uses: np.ndarray, phases: Sequence[Held]) -> dict[str, Any]:
    """What plan.json says of a channel's usage. `phases`: what the rows of each hold, where they do not hold all."""
    every = np.ones(len(usage.lengths), bool)
    tokens, leftover = usage.tokens(every), usage.leftover
    used = int(usage.own @ usage.lengths.astype(np.int64)) - leftover - _in_no_row(phases)
    times = np.bincount(uses)
    return {
        "documents": len(uses),
        "tokens": tokens,
        "used": used,
        "epochs": used / tokens if tokens else 0.0,
        "cap": usage.cap,
        "counts": {str(count): int(documents) for count, documents in enumerate(times) if documents},
        "leftover": leftover,
    }


def _in_no_row(phases: Sequence[Held]) -> int:
    """Tokens that were read and that rows of no phase hold.

    What two phases read of a document has a token in common, with which the one leaves it and the other goes on. It is
    in the stream of both, so it is no token less where the rows of one discard it, and one less where those of both
    do."""
    twice = sum(phase.going_on for phase in phases)
    in_rows_twice = sum(len(phase.borders) for phase in phases) - len(frozenset().union(*(p.borders for p in phases)))
    return sum(phase.discarded for phase in phases) - (twice - in_rows_twice)
