"""Pairs of documents that are alike, with their true similarity: what LSH only suspects is compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.dedup import Duplicates
from tasks.arrays.addresses import SIMILAR_ADDRESS, U64, arrays
from tasks.arrays.groups import I64, changes, explode, lists_by_position, runs
from tasks.arrays.hashing import seeded_hash
from tasks.dedup import minhash
from tasks.dedup.base import DuplicatesStage, as_table, texts
from tasks.dedup.duplicates import HUBS, CandidateGroups, Exact, leaders_by_position
from tasks.engine.stage import CorpusStage, RecallingStage, Stage


def evidence(settings: Duplicates) -> list[Stage | CorpusStage]:
    """The stages that say which documents are copies, and which are alike."""
    pairs = [VerifiedPairs(settings), AlikePairs(settings)] if settings.keeps_pairs else [AlikeAlone(settings)]
    return [Exact(settings), CandidateGroups(settings), *pairs]


class VerifiedPairs(DuplicatesStage, RecallingStage):
    """Pairs of candidates whose shingle sets have a Jaccard similarity of at least `compared_from`.

    `pairs` lists them with both documents, the most similar first, then by address; null without any. `hub` is true for
    a document that is alike to others which were compared with hubs only. A document sends its shingles, 8 bytes each,
    once to each partition where it meets others, which are no more than there are bands.
    """

    name = "pairs"
    unhashed = frozenset({"hashes", "keep", "partitions", "where"})
    reads = ("text", "candidates")
    scatters = ("candidates",)
    shuffled = pa.schema(
        [("position", pa.uint32()), ("leaders", pa.list_(pa.uint64())), ("shingles", pa.list_(pa.uint64()))]
    )
    reduced = pa.schema([("other", SIMILAR_ADDRESS), ("hub", pa.bool_())])
    writes = pa.schema([(name, pa.list_(SIMILAR_ADDRESS)), ("hub", pa.bool_())])
    named_by = "candidates"

    def __init__(self, settings: Duplicates) -> None:
        super().__init__(settings)
        self.recalls = ("text", *self.of_symbols)

    def map(self, batch: pa.Table) -> pa.Table:
        chosen = np.flatnonzero(batch["candidates"].is_valid())
        batch = batch.take(chosen)
        sets = [
            np.unique(hashes[start:end])
            for hashes, offsets in minhash.shingles(
                texts(batch), self.settings.words, self.settings.characters, self.symbols(batch)
            )
            for start, end in pairwise(offsets)
        ]
        text, leaders = explode(batch["candidates"])
        leader = leaders.to_numpy()
        partition = leader % self.partitions
        order = np.lexsort((partition, text))
        starts, ends = runs(text[order], partition[order])
        sender = order[starts]
        return as_table(
            position=chosen[text[sender]],
            leaders=_lists(leader[order], ends),
            shingles=_lists(*_joined([sets[number] for number in text[sender]])),
            partition=partition[sender],
        )

    def recall(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Older documents that share a bucket with new ones, as if they were mapped with these."""
        position = batch["position"].to_numpy()
        row = np.searchsorted(position, rows["position"].to_numpy()).astype(np.uint32)
        leaders = leaders_by_position(
            rows.set_column(rows.schema.get_field_index("position"), "position", pa.array(row)), len(batch)
        )
        mapped = self.map(batch.select([*self.recalls]).append_column("candidates", leaders))
        own = pa.array(position[mapped["position"].to_numpy()])
        mapped = mapped.set_column(mapped.schema.get_field_index("position"), "position", own)
        return mapped.append_column("shard", pa.array(np.full(len(mapped), batch["shard"][0].as_py(), np.uint64)))

    def reduce(self, rows: pa.Table) -> pa.Table:
        sets = [each.values.to_numpy() for each in rows["shingles"]]
        content = seeded_hash(np.array([each.sum() for each in sets], np.uint64), "content")
        member, leaders = explode(rows["leaders"])
        leader = leaders.to_numpy()
        order = np.lexsort((content[member], leader))
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, bool))]
        for start, end in zip(*runs(leader[order]), strict=True):
            found += self._pairs(member[order[start:end]], sets)
        one, other, similarity, hub = (np.concatenate(part) for part in zip(*found, strict=True))
        shard, position = arrays(rows, "shard", "position")
        others = pa.StructArray.from_arrays([shard[other], position[other], similarity], fields=list(SIMILAR_ADDRESS))
        return as_table(shard=shard[one], position=position[one], other=others, hub=hub)

    def _pairs(self, group: I64, sets: list[U64]) -> Iterator[tuple[I64, I64, NDArray[np.float32], NDArray[np.bool_]]]:
        """Rows that share a leader, by content -> alike pairs in both directions: (row, other row, similarity, whether
        the row is a hub to the other).

        One row after another is compared with all behind it. Beside the steps: the sets {1 2 3}, {2 3 4} and {3 9}, and
        the first of them compared with the others."""
        values, ends = _joined([sets[row] for row in group])  # 1 2 3 2 3 4 3 9, and 3 6 8
        distinct, shingle = np.unique(values, return_inverse=True)  # 1 2 3 4 9, and 0 1 2 1 2 3 2 4
        sizes = np.diff(ends, prepend=0)  # 3 3 2
        starts = ends - sizes  # 0 3 6
        crowded = len(group) > HUBS
        for rank in range(min(len(group) - 1, HUBS)):
            mine = np.zeros(len(distinct), bool)
            mine[shingle[starts[rank] : ends[rank]]] = True  # 1 1 1 0 0
            behind = shingle[ends[rank] :]  # 1 2 3 2 4: the shingles of those behind, which begin at 0 and 3
            shared = np.add.reduceat(mine[behind], starts[rank + 1 :] - ends[rank], dtype=np.int64)  # 2 1
            jaccard = shared / (sizes[rank] + sizes[rank + 1 :] - shared)  # 2/4 1/4
            near = np.flatnonzero(jaccard >= self.settings.compared_from)
            similarity = jaccard[near].astype(np.float32)
            one, others = np.full(len(near), group[rank]), group[rank + 1 + near]
            yield one, others, similarity, np.full(len(near), crowded)
            yield others, one, similarity, np.zeros(len(near), bool)

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        position, hub = arrays(rows, "position", "hub")
        others = rows["other"].combine_chunks()
        shard, other, similarity = (values.to_numpy() for values in others.flatten())
        order = np.lexsort((other, shard, -similarity, position))
        distinct = order[changes(position[order], shard[order], other[order])]
        alike = lists_by_position(rows.take(distinct), others.take(distinct), batch.num_rows)
        hubs = np.bincount(position, weights=hub, minlength=batch.num_rows) > 0
        return pa.table([alike, hubs], schema=self.writes)


class AlikeAlone(VerifiedPairs):
    """The same where none are kept but those that reach the threshold: `alike`."""

    name = "alike"
    writes = pa.schema([(name, pa.list_(SIMILAR_ADDRESS)), ("hub", pa.bool_())])


class AlikePairs(Stage):
    """Of the pairs those that reach the threshold: `alike`; null without any. A similarity is stored in
    float32 and so compared: rounding moves none of two sets of up to a million shingles over a threshold."""

    name = "alike"
    reads = ("pairs",)
    writes = pa.schema([("alike", pa.list_(SIMILAR_ADDRESS))])
    settings: Duplicates

    def hashed_settings(self) -> dict[str, Any]:
        return {"threshold": self.settings.threshold}

    def __call__(self, batch: pa.Table) -> pa.Table:
        row, pairs = explode(batch["pairs"])
        near = np.flatnonzero(pc.struct_field(pairs, "similarity").to_numpy() >= np.float32(self.settings.threshold))
        rows = as_table(position=row[near])
        return pa.table([lists_by_position(rows, pairs.take(near), batch.num_rows)], schema=self.writes)


def _joined(parts: list[U64]) -> tuple[U64, I64]:
    """Arrays -> (all values, where each array ends)."""
    return np.concatenate([np.empty(0, np.uint64), *parts]), np.cumsum([len(part) for part in parts], dtype=np.int64)


def _lists(values: U64, ends: I64) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.insert(ends, 0, 0).astype(np.int32), values)
