"""Packing: documents of one channel, end to end, cut into rows of T+1 tokens, and the order of a phase's rows. Rows of
whole documents are made in tasks/planning/best_fit.py.

Row i of a channel is tokens i*T to i*T+T of its stream, so consecutive rows overlap by one token and each token of a
document but the first is a target exactly once per use. Rows, not documents, are put in the order of training: every
step has each channel's share, and the seed says which rows these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.arrays.groups import numbers_within
from tasks.arrays.hashing import seeded_hash
from tasks.planning.best_fit import Packed
from tasks.planning.mixture import PhaseRows, Stream, interleave
from tasks.planning.objectives import RowShape

ROWS = pa.schema(
    [
        ("channel", pa.int16()),
        ("file", pa.list_(pa.int32())),
        ("offset", pa.list_(pa.int64())),
        ("length", pa.list_(pa.int32())),
        ("supervised", pa.int32()),
    ]
)
"""Columns of a row file (docs/run_plan.md)."""


_PLAIN = ("file", "offset", "length", "hash")
"""What all documents have: arrays [n]."""
_BY_KEY = ("where", "groups", "order", "extra")
"""What the spec asks for: arrays [n] by a key."""


@dataclass(frozen=True)
class Documents:
    """Documents of one channel: token file (int32 [n]), first token in it (int64), tokens (int32), hash (uint64)."""

    file: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    hash: np.ndarray
    where: dict[int, np.ndarray]
    """Phase -> which documents pass its `where`; bool [n]."""
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    """Column of `training.loss_by` -> which of its values each document has; int16 [n]."""
    order: dict[int, np.ndarray] = field(default_factory=dict)
    """Phase -> what a curriculum orders documents by; float64 [n], NaN where there is nothing."""
    seen: np.ndarray | None = None
    """How often earlier trainings read each; int32 [n]."""
    turned: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    """Which documents are turned round (tasks/planning/middle.py); bool [n]. Their tokens are counted as they are then,
    with three more; empty where none is."""
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    """`times`, how often each stands in an epoch (float64), and `host` (uint64), until that is done with
    (tasks/planning/repeats.py); empty where each stands once."""
    cuts: dict[int, pa.Array] = field(default_factory=dict)
    """Phase -> where each is cut into pieces for rows (lists of int32); of phases that cut at lines or sentences."""

    def take(self, index: np.ndarray) -> Documents:
        """Some of them, in an order, also several times."""
        named: dict[str, Any] = {
            name: {key: values[index] for key, values in getattr(self, name).items()} for name in _BY_KEY
        }
        plain: dict[str, Any] = {name: getattr(self, name)[index] for name in _PLAIN}
        seen = None if self.seen is None else self.seen[index]
        turned = self.turned[index] if len(self.turned) else self.turned
        cuts = {number: each.take(pa.array(index)) for number, each in self.cuts.items()}
        return replace(self, **plain, **named, seen=seen, turned=turned, cuts=cuts)

    @staticmethod
    def concatenated(parts: Sequence[Documents]) -> Documents:
        """The documents of one part after those of another; of parts alike in what they have, one at least."""
        plain: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN}
        named: dict[str, Any] = {
            name: {key: np.concatenate([getattr(part, name)[key] for part in parts]) for key in getattr(parts[0], name)}
            for name in _BY_KEY
        }
        cuts = {number: pa.concat_arrays([part.cuts[number] for part in parts]) for number in parts[0].cuts}
        return Documents(**plain, **named, cuts=cuts)

    def passing(self, number: int, phase: PhaseRows) -> np.ndarray:
        return np.ones(len(self.length), bool) if phase.where is None else self.where[number]


@dataclass(frozen=True)
class Segments:
    """Rows cut from streams: `count` segments each (int64 [rows]); then, by column of the row file (SEGMENT, and those
    of `training.loss_by` and of documents that are turned round), end to end, an array each."""

    count: np.ndarray
    columns: dict[str, np.ndarray]


def cut_into_rows(stream: Stream, documents: Documents, rows: np.ndarray, shape: RowShape) -> Segments:
    """Rows (int64, by number) of a stream: row i is its tokens i*T to i*T+T, as far as there are any; where rows do not
    overlap, to i*T+T-1.

    Beside the steps: T = 4, rows 0 and 1 of documents of 3, 5 and 2 tokens, a a a b b b b b c c. Row 0 is a a a b b,
    row 1 is b b b b c; the fifth token is in both."""
    ends = np.cumsum(stream.length)  # 3 8 10
    begins = ends - stream.length  # 0 3 8
    row_begins = rows * shape.stride  # 0 4
    row_ends = np.minimum(row_begins + shape.width, ends[-1])  # 5 9
    first = np.searchsorted(ends, row_begins, "right")  # 0 1: the document that a row begins in
    last = np.searchsorted(ends, row_ends - 1, "right")  # 1 2: and that of its last token
    count = last - first + 1  # 2 2
    row = np.repeat(np.arange(len(rows)), count)  # 0 0 1 1: the row of each segment
    part = first[row] + numbers_within(count)  # 0 1 1 2: and its document
    begin = np.maximum(begins[part], row_begins[row])  # 0 3 4 8
    end = np.minimum(ends[part], row_ends[row])  # 3 5 8 9
    return _segments(stream, documents, count, part, begin - begins[part], end - begin)


def packed_rows(packed: Packed, stream: Stream, documents: Documents, rows: np.ndarray) -> Segments:
    """Rows (int64, by number) of a stream that was packed."""
    count = packed.count[rows]
    piece = np.repeat((np.cumsum(packed.count) - packed.count)[rows], count) + numbers_within(count)
    return _segments(stream, documents, count, packed.part[piece], packed.start[piece], packed.length[piece])


def _segments(
    stream: Stream, documents: Documents, count: np.ndarray, part: np.ndarray, start: np.ndarray, length: np.ndarray
) -> Segments:
    """Rows of `count` segments each, and of each segment the part of the stream, its first token there and its
    tokens."""
    document = stream.document[part]
    start = stream.start[part] + start
    columns = {
        "file": documents.file[document],
        "offset": documents.offset[document] + start,
        "length": length.astype(np.int32),
        **{name: values[document] for name, values in documents.groups.items()},
    }
    if len(documents.turned):
        turned = documents.turned[document]
        columns["offset"] = np.where(turned, documents.offset[document], columns["offset"])
        columns["start"] = np.where(turned, start, 0).astype(np.int32)
        columns["turned"] = np.where(turned, stream.use[part], 0).astype(np.int32)
    return Segments(count, columns)


def interleave_rows(channels: np.ndarray, parts: list[Segments]) -> Segments:
    """Rows of several channels in one order; `channels` (int64 [rows]) says whose row comes next.

    Beside the steps: channels 0 1 0, where channel 0 has a row of 2 segments and one of 1, channel 1 a row of 3."""
    count = np.empty(len(channels), np.int64)
    for number, part in enumerate(parts):
        count[channels == number] = part.count  # 2 3 1
    begins = np.cumsum(count) - count  # 0 2 5: the first segment of each row
    total = int(count.sum())
    columns = {name: np.empty(total, values.dtype) for name, values in parts[0].columns.items()}
    for number, part in enumerate(parts):
        into = np.repeat(begins[channels == number], part.count) + numbers_within(part.count)  # 0 1 5, then 2 3 4
        for name, values in part.columns.items():
            columns[name][into] = values
    return Segments(count, columns)


def row_table(channels: np.ndarray, rows: Segments, targets: np.ndarray) -> pa.Table:
    """The columns of a row file; `targets` (int32 [rows]), how many each row has."""
    splits = pa.array(np.concatenate([[0], np.cumsum(rows.count)]).astype(np.int32))
    lists = {name: pa.ListArray.from_arrays(splits, values) for name, values in rows.columns.items()}
    table = pa.table({"channel": channels.astype(np.int16), **lists, "supervised": targets})
    return table.select([*ROWS.names, *(name for name in table.column_names if name not in ROWS.names)])


def training_order(phase: PhaseRows, channels: list[str], number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A phase's rows in training order: channel (int16 [rows]) and number within the channel's stream (int64 [rows]).

    How many rows of each channel a step has is `interleave`'s; which ones, and their places in the step, the seed's; of
    a phase with an order of its own the rows come as they are, unless they are to be shuffled."""
    totals = np.array([phase.rows.get(name, 0) for name in channels], np.int64)
    counts = interleave(totals, phase.steps)
    channel = np.repeat(np.tile(np.arange(len(channels), dtype=np.int16), phase.steps), counts.ravel())
    places = np.arange(len(channel), dtype=np.uint64)
    step = places // np.uint64(len(channel) // phase.steps)
    channel = channel[np.lexsort((seeded_hash(places, seed, "step", number), step))]
    row = np.empty(len(channel), np.int64)
    for index, total in enumerate(totals.tolist()):
        ranks = seeded_hash(np.arange(total, dtype=np.uint64), seed, "rows", number, index)
        in_order = phase.shape.order is not None and phase.shape.order.rows == "in_order"
        row[channel == index] = np.arange(total) if in_order else np.argsort(ranks, kind="stable")
    return channel, row
