"""Pairs of documents that are alike, with their true similarity: what LSH only suspects is compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.dedup import Duplicates
from tasks.arrays.addresses import SIMILAR_ADDRESS, U64, arrays
from tasks.arrays.groups import I64, changes, explode, lists_by_position, runs
from tasks.dedup import minhash
from tasks.dedup.base import DuplicatesStage, as_table, texts
from tasks.dedup.comparison import alike
from tasks.dedup.duplicates import CandidateGroups, Exact, leaders_by_position
from tasks.engine.blockwise import Blocks, BlockwiseStage
from tasks.engine.stage import CorpusStage, RecallingStage, Stage


def evidence(settings: Duplicates) -> list[Stage | CorpusStage]:
    """The stages that say which documents are copies, and which are alike."""
    pairs = [VerifiedPairs(settings), AlikePairs(settings)] if settings.keeps_pairs else [AlikeAlone(settings)]
    return [Exact(settings), CandidateGroups(settings), *pairs]


class VerifiedPairs(DuplicatesStage, RecallingStage, BlockwiseStage):
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

    def reduce_blocks(self, blocks: Blocks) -> Iterator[pa.Table]:
        return alike(blocks, self.settings.compared_from)

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
