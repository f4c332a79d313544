"""The election among duplicates: who survives, and who survives in the place of each other one.

Documents are asked in the order of preference. One whose text no survivor is alike to survives, and removes what comes
later of its own text and of those that it is alike to. Where a is alike to b, and b to c, in this order: a survives and
removes b, and c survives. Whole clusters are elected at once, and a cluster may be most of a corpus: so the documents'
columns are read a block at a time, and what is held beside them are some 80 bytes for a document and 8 for a pair that
it lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrays.addresses import SIMILAR_ADDRESS, U64, addresses, arrays, true
from tasks.arrays.groups import I64, explode, numbers_within, runs

BLOCK = 1 << 16
"""Documents whose addresses and pairs are read at a time."""

Removed = tuple[I64, I64, NDArray[np.float32]]
"""Rows that are removed, for each of them the row that survives in its place, and their similarity."""


class Election:
    """Rows of whole clusters: their texts, which copies have in common, and which texts are alike."""

    def __init__(self, rows: pa.Table, one_sided: bool) -> None:
        """Where pairs are `one_sided`, only one of both lists the other."""
        self.rows = rows
        self.text, self.first, self.partner, self.similarity = _graph(rows, one_sided)
        texts = len(self.first) - 1
        self.winner = np.full(texts, -1, np.int32)
        """Of each text the row that survives in its place; -1 while there is none."""
        self.score = np.ones(texts, np.float32)
        """How similar that row is to the text."""

    def ranked(self, preferred: Sequence[tuple[str, str]]) -> I64:
        """The rows, hubs first, then by the preferred columns, then by id."""
        is_hub = np.zeros(len(self.winner), bool)
        is_hub[self.text[true(self.rows["hub"])]] = True
        rows = self.rows.set_column(self.rows.schema.get_field_index("hub"), "hub", [is_hub[self.text]])
        rows = rows.append_column("older", rows["id"].is_null())
        keys = [("older", "descending"), ("hub", "descending"), *preferred, ("id", "ascending")]
        return pc.sort_indices(rows, sort_keys=keys).to_numpy()

    def hold(self, order: I64, older: NDArray[np.bool_]) -> None:
        """Ask rows in an order. One that survives does so in the place of its own text, and of those alike to it that
        nothing survives for so far; `older` ones survive in any case."""
        text, first, partner, similarity = self.text.data, self.first.data, self.partner.data, self.similarity.data
        winner, stays = self.winner.data, older.data
        score: memoryview[Any] = self.score.data
        for block in _blocks(len(order)):
            for row in order[block].tolist():
                own = text[row]
                if winner[own] >= 0 and not stays[row]:
                    continue
                winner[own], score[own] = row, 1.0
                for edge in range(first[own], first[own + 1]):
                    if winner[partner[edge]] < 0:
                        winner[partner[edge]], score[partner[edge]] = row, similarity[edge]

    def answer(self, asked: I64) -> Removed:
        """Of some rows those in whose place another one survives."""
        winner = self.winner[self.text[asked]]
        removed = asked[(winner >= 0) & (winner != asked)]
        text = self.text[removed]
        return removed, self.winner[text].astype(np.int64), self.score[text]


def elected(rows: pa.Table, eligible: NDArray[np.bool_], preferred: Sequence[tuple[str, str]]) -> Removed:
    """Rows of whole clusters, which of them may survive, and the columns that say who is preferred -> who is removed.

    Older documents, which have no `id`, have survived, and what they are alike to does not list them: it is listed by
    newer ones."""
    older = rows["id"].is_null().to_numpy()
    election = Election(rows, one_sided=bool(older.any()))
    order = election.ranked(preferred)
    election.hold(order[eligible[order]], older)
    return election.answer(np.flatnonzero(eligible & ~older))


def seen(rows: pa.Table) -> Removed:
    """New held-out documents of the same text as an older one that was kept, or alike to it -> their rows, those of the
    older ones, and their similarity."""
    older = rows["id"].is_null().to_numpy()
    kept = np.flatnonzero(older & rows["passes"].to_numpy())
    held_out = np.flatnonzero(true(rows["held_out"]) & ~older)
    if not (len(kept) and len(held_out)):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    election = Election(rows, one_sided=True)
    election.winner[election.text[kept]] = kept
    election.hold(kept, older)
    return election.answer(held_out)


def _graph(rows: pa.Table, one_sided: bool) -> tuple[NDArray[np.int32], I64, NDArray[np.int32], NDArray[np.float32]]:
    """Documents -> (the number of each one's text, the same for copies; where the partners of each text begin; the
    partners, by number; how similar they are)."""
    shards = np.unique(np.concatenate([_NONE, *(np.unique(shard) for shard, _ in _texts(rows))]))
    keys = np.concatenate([_NONE, *(_keys(shards, *each) for each in _texts(rows))])
    texts = np.unique(keys)
    text = np.concatenate(
        [np.empty(0, np.int32), *(np.searchsorted(texts, keys[block]).astype(np.int32) for block in _blocks(len(keys)))]
    )
    del keys
    ways = (False, True) if one_sided else (False,)
    degree = np.zeros(len(texts), np.int64)
    for backward in ways:
        for lists, _, _ in _pairs(rows, text, texts, shards, backward):
            np.add.at(degree, lists, 1)
    first = np.cumsum(np.append(0, degree))
    partner, similarity = np.empty(first[-1], np.int32), np.empty(first[-1], np.float32)
    free = first[:-1].copy()  # of each text the place of its next partner
    for backward in ways:
        for lists, others, scores in _pairs(rows, text, texts, shards, backward):
            order = np.argsort(lists, kind="stable")
            starts, ends = runs(lists[order])
            place = free[lists[order]] + numbers_within(ends - starts)
            partner[place], similarity[place] = others[order], scores[order]
            free[lists[order[starts]]] += ends - starts
    return text, first, partner, similarity


_NONE = np.empty(0, np.uint64)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def _texts(rows: pa.Table) -> Iterator[tuple[U64, NDArray[np.uint32]]]:
    """Block by block the address of each document's text, the first of copies: shards and positions."""
    for start in range(0, rows.num_rows, BLOCK):
        block = rows.select(["shard", "position", "copy_of"]).slice(start, BLOCK)
        text = pc.coalesce(block["copy_of"].combine_chunks(), addresses(*arrays(block, "shard", "position")))
        yield pc.struct_field(text, "shard").to_numpy(), pc.struct_field(text, "position").to_numpy()


def _keys(shards: U64, shard: U64, position: NDArray[np.uint32]) -> U64:
    """Addresses in shards that are among `shards`, as one number each."""
    return np.searchsorted(shards, shard).astype(np.uint64) << np.uint64(32) | position


def _pairs(
    rows: pa.Table, text: NDArray[np.int32], texts: U64, shards: U64, backward: bool
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]]:
    """Block by block the pairs that documents list: the text of either one, and their similarity; `backward`: the other
    one's text first. Partners that are not among the documents are left out."""
    for start in range(0, rows.num_rows, BLOCK):
        row, partners = explode(rows["alike"].slice(start, BLOCK))
        shard, position, similarity = (pc.struct_field(partners, field.name).to_numpy() for field in SIMILAR_ADDRESS)
        known = np.isin(shard, shards)
        key = _keys(shards, shard[known], position[known])
        place = np.minimum(np.searchsorted(texts, key), len(texts) - 1).astype(np.int32)
        here = texts[place] == key
        one, other, scores = text[start + row[known][here]], place[here], similarity[known][here]
        yield (other, one, scores) if backward else (one, other, scores)
