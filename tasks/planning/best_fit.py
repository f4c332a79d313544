"""Best-fit packing (Ding et al. 2024): documents stay whole where they fit into a row, and rows are filled up with what
fits best.

Documents longer than a row are cut into rows of their own and a rest. Then, the longest first, each piece goes into
the row in which it leaves the least room, or into a new one. What is left empty is padding; pieces of rows beyond those
that the phase has are discarded, the emptiest rows first. Both are counted.

Pieces of one length are placed together: a row with room for r takes r // length of them, so a million pieces cost a
step for each of the lengths there are and not one each.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.arrays.groups import numbers_within
from tasks.planning.borders import pieces_at
from tasks.planning.mixture import Stream
from tasks.planning.objectives import RowShape

WINDOW, ORDERED_WINDOW = 2**20, 2**12
"""Pieces that are packed together, in the order of the stream: of a stream in an order of its own fewer, so that rows
keep it."""


@dataclass(frozen=True)
class Packed:
    """Rows of one channel: `count` pieces each (int64 [rows]); of each piece, row after row, its document in the stream
    (`part`), and its first token there and its tokens."""

    count: np.ndarray
    part: np.ndarray
    start: np.ndarray
    length: np.ndarray
    padding: int
    """Tokens for which the rows have room and no piece."""
    discarded: int
    """Tokens of the stream that no row holds."""


def pack(stream: Stream, rows: int, shape: RowShape, window: int = WINDOW, cuts: pa.Array | None = None) -> Packed:
    """`rows` rows of a stream that has at least as many tokens as they have room for; `shape` is that of rows that are
    cut end to end, whose pieces of one document share a token where each token is predicted from those before it. Rows
    are in the order of the places that their pieces have in the stream, on average. `cuts`: of each document of the
    channel where it is cut (tasks/planning/borders.py); by default wherever a row is full."""
    part, start, length = pieces(stream.length, shape) if cuts is None else pieces_at(stream, cuts, shape)
    row, made = np.empty(len(length), np.int64), 0
    for first in range(0, len(length), window):
        found = best_fit(length[first : first + window], shape.width)
        row[first : first + window] = made + found
        made += int(found.max(initial=-1)) + 1
    filled = np.bincount(row, length, made).astype(np.int64)
    kept = np.argsort(-filled, kind="stable")[:rows]
    middle = np.bincount(row, part, made) / np.bincount(row, minlength=made)
    kept = kept[np.argsort(middle[kept], kind="stable")]
    number = np.full(made, -1)
    number[kept] = np.arange(len(kept))
    order = np.argsort(number[row], kind="stable")
    order = order[number[row][order] >= 0]
    dropped = int(stream.length.sum()) - _once(part[order], start[order], length[order])
    return Packed(
        np.bincount(number[row][order], minlength=rows),
        part[order],
        start[order],
        length[order],
        rows * shape.width - int(filled[kept].sum()),
        dropped,
    )


def _once(part: np.ndarray, start: np.ndarray, length: np.ndarray) -> int:
    """Tokens of pieces, those that two of them share once."""
    order = np.lexsort((start, part))
    part, start, end = part[order], start[order], (start + length)[order]
    shared = (part[1:] == part[:-1]) & (start[1:] < end[:-1])
    return int((end - start).sum() - (end[:-1] - start[1:])[shared].sum())


def pieces(length: np.ndarray, shape: RowShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents cut into pieces of at most a row: (document, first token in it, tokens) of each. Of 10 tokens and rows
    of 5 that overlap by one: tokens 0 to 4, 4 to 8, and 8 and 9."""
    count = np.maximum(-(-(length - shape.overlap) // shape.stride), 1)
    part = np.repeat(np.arange(len(length)), count)
    start = numbers_within(count) * shape.stride
    return part, start, np.minimum(length[part] - start, shape.width)


def best_fit(length: np.ndarray, width: int) -> np.ndarray:
    """The row of each piece (int64), numbered from 0: the longest first, each into the row in which it leaves the least
    room. Lengths 3, 5, 2, 4, 2 and rows of 6: 5 alone, 4 and 2, 3 and 2."""
    result = np.empty(len(length), np.int64)
    order = np.argsort(-length, kind="stable")
    sizes, firsts = np.unique(-length[order], return_index=True)
    free: dict[int, np.ndarray] = {}
    rooms: list[int] = []  # the keys of `free`, in order
    made = 0

    def give(room: int, rows: np.ndarray) -> None:
        if room and len(rows):
            if room not in free:
                insort(rooms, room)
                free[room] = rows
            else:
                free[room] = np.concatenate([free[room], rows])

    ends = np.append(firsts, len(order))[1:]
    for size, first, end in zip((-sizes).tolist(), firsts.tolist(), ends.tolist(), strict=True):
        items = order[first:end]
        while len(items):
            place = bisect_left(rooms, size)
            if place < len(rooms):
                room = rooms.pop(place)
                rows = free.pop(room)
            else:
                room = width
                rows = made + np.arange(-(-len(items) // (width // size)))
                made += len(rows)
            each = room // size
            used = min(len(rows), -(-len(items) // each))
            placed = min(len(items), used * each)
            result[items[:placed]] = np.repeat(rows[:used], each)[:placed]
            last = placed - (used - 1) * each  # pieces in the last row
            give(room, rows[used:])
            give(room - each * size, rows[: used - 1])
            give(room - last * size, rows[used - 1 : used])
            items = items[placed:]
    return result
