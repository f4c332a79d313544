"""Where documents that are longer than a row are cut into pieces: at the ends of lines or sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrays.groups import numbers_within
from tasks.planning.mixture import Stream
from tasks.planning.objectives import RowShape


@dataclass(frozen=True)
class Borders:
    """What ends a line or a sentence, by token; bool [vocabulary] each."""

    always: np.ndarray
    """After it."""
    before_space: np.ndarray
    """After it, where the next one is `spaced`."""
    spaced: np.ndarray

    def within(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens of a document before which something ended, by number, ascending."""
        before, after = tokens[:-1], tokens[1:]
        return np.flatnonzero(self.always[before] | (self.before_space[before] & self.spaced[after])) + 1

    def cuts(self, tokens: pa.ChunkedArray, shape: RowShape) -> pa.ChunkedArray:
        """Of each document where its pieces end, but for the last one; null of one that fits into a row, or has no
        tokens."""
        return pa.chunked_array([self._cuts(chunk, shape) for chunk in tokens.chunks], pa.list_(pa.int32()))

    def _cuts(self, tokens: pa.ListArray, shape: RowShape) -> pa.ListArray:
        offsets, values = tokens.offsets.to_numpy().astype(np.int64), tokens.values.to_numpy()
        length = np.diff(offsets)
        found: list[list[int]] = []
        count = np.zeros(len(length), np.int64)
        for number in np.flatnonzero(length > shape.width).tolist():
            found.append(places(self.within(values[offsets[number] : offsets[number + 1]]), int(length[number]), shape))
            count[number] = len(found[-1])
        flat = pa.array([place for each in found for place in each], pa.int32())
        splits = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(splits), flat, mask=pa.array(count == 0))


def places(borders: np.ndarray, length: int, shape: RowShape) -> list[int]:
    """Where the pieces of a document of `length` tokens end, but for the last: each at the last border that fits into a
    row, if it is in the row's second half, else where the row is full. A piece begins with the tokens that rows share:
    of 14 tokens, borders at 4 and 7 and rows of 6 that share one: 4, 7 (from token 3 on) and 12 (from 6 on)."""
    found, start = [], 0
    while length - start > shape.width:
        place = int(np.searchsorted(borders, start + shape.width, "right")) - 1
        border = int(borders[place]) if place >= 0 else 0
        end = border if border > start + shape.width // 2 else start + shape.width
        found.append(end)
        start = end - shape.overlap
    return found


def pieces_at(stream: Stream, cuts: pa.Array, shape: RowShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts of documents cut where `cuts` says of each document: (part, first token in it, tokens) of each piece.

    Beside the steps: rows that overlap by one token; tokens 0 to 9 of a document that is cut at 4 and 8, and tokens 2
    to 7 of one that is cut at 5. The pieces are tokens 0 to 3, 3 to 7 and 7 to 9, then 2 to 4 and 4 to 7."""
    lists = cuts.take(pa.array(stream.document))
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    flat = lists.flatten().to_numpy().astype(np.int64)  # 4 8 5
    part_of = np.repeat(np.arange(len(counts)), counts)  # 0 0 1
    stop = stream.start + stream.length  # 10 8
    inside = (flat > stream.start[part_of] + shape.overlap) & (flat < stop[part_of])
    flat, part_of = flat[inside], part_of[inside]
    cut = np.bincount(part_of, minlength=len(counts))  # 2 1
    part = np.repeat(np.arange(len(counts)), cut + 1)  # 0 0 0 1 1: the part of each piece
    first = np.cumsum(cut + 1) - cut - 1  # 0 3: the first piece of each part
    before = first[part_of] + numbers_within(cut)  # 0 1 3: the piece that ends at each cut
    begin, end = np.empty(len(part), np.int64), np.empty(len(part), np.int64)
    begin[first], begin[before + 1] = stream.start, flat - shape.overlap  # 0 3 7 2 4
    end[first + cut], end[before] = stop, flat  # 4 8 10 5 8
    return part, begin - stream.start[part], end - begin
