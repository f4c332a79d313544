"""Exact and near duplicates, in four corpus stages that leave their evidence as columns.

`exact` finds texts of the same units (tasks/text/units.py): copies of one another but for case, spacing and
punctuation. `candidates` finds, among one text of each set of copies, those that may be similar: MinHash-LSH. `alike`
compares them by the true Jaccard similarity of their shingle sets and keeps the pairs that reach the threshold; with a
floor below it, `pairs` keeps those that reach the floor, and `alike` takes its own of them without reading a text.
`clusters` (tasks/dedup/clusters.py) numbers what copies and alike pairs connect. Who stays is decided later, by the
verdict (tasks/decision/verdict.py).

How documents are dealt into shards, and the number of partitions, change only which of several copies is called the
first and how clusters are numbered. Memory of a reduction is bounded by `partitions`, and a popular text makes no pairs
without end: copies take part once, and of the texts that meet at one leader only `HUBS` are compared with all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.dedup import Duplicates
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS, U64, addresses, arrays
from tasks.arrays.groups import (
    I64,
    changes,
    explode,
    lists_by_position,
    numbers_within,
    runs,
    scatter_by_position,
)
from tasks.arrays.hashing import seeded_hash
from tasks.dedup import minhash
from tasks.dedup.base import DuplicatesStage, as_table
from tasks.engine.stage import RecallingStage, Stage
from tasks.text import units

HUBS = 64
"""Of the texts that meet at one leader, as many (the first by a hash of their content) are compared with all others;
up to this many, every pair is compared. The verdict elects hubs first, so that what they are alike to is removed: where
a share f of n texts passes the rules, about f n exp(-64 f) of them, at most n / 174, may find no hub that stays."""


class Exact(DuplicatesStage):
    """Copies: documents of the same units in the same order, by a 128-bit BLAKE2b hash; where symbols count, of the
    same text.

    `copy_of` is the address of the first document (by generation, shard, position) of these units; null for that one
    itself, for a document without copies and for a text without units. `text_length` is in characters: the verdict may
    prefer the longer of two texts.
    """

    name = "exact"
    meets = True
    unhashed = frozenset({"threshold", "hashes", "words", "characters", "keep", "partitions"})
    reads = ("text",)
    scatters = ("text",)
    shuffled = pa.schema([("position", pa.uint32()), ("low", pa.uint64()), ("high", pa.uint64())])
    reduced = pa.schema([("copy_of", ADDRESS)])
    writes = pa.schema([("copy_of", ADDRESS), ("text_length", pa.uint32())])
    state_key = "low"

    def map(self, batch: pa.Table) -> pa.Table:
        symbols = self.symbols(batch)
        found = {number: digest for number, digest in enumerate(units.digests(_texts(batch), symbols)) if digest}
        for number in np.flatnonzero(symbols).tolist() if symbols is not None else ():
            if number in found:
                text = batch["text"][number].as_py().encode()
                found[number] = hashlib.blake2b(text, digest_size=16, person=b"text").digest()
        position = np.array([*found], np.int64)
        low, high = np.frombuffer(b"".join(found.values()), "<u8").reshape(-1, 2).T
        low = low ^ self.scope(batch)[position]
        return as_table(position=position, low=low, high=high, partition=low % self.partitions)

    def reduce(self, rows: pa.Table) -> pa.Table:
        low, high, shard, position = arrays(rows, "low", "high", "shard", "position")
        order = np.lexsort((high, low))  # stable, and rows come by generation, shard and position
        first = changes(low[order], high[order])
        copy, origin = order[~first], order[first][np.cumsum(first) - 1][~first]
        return as_table(shard=shard[copy], position=position[copy], copy_of=addresses(shard[origin], position[origin]))

    def remember(self, rows: pa.Table) -> pa.Table:
        """The first of each text."""
        low, high = arrays(rows, "low", "high")
        order = np.lexsort((high, low))
        return rows.take(order[changes(low[order], high[order])])

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        copy_of = scatter_by_position(rows, rows["copy_of"], batch.num_rows)
        return pa.table([copy_of, pc.utf8_length(batch["text"]).cast(pa.uint32())], schema=self.writes)


class CandidateGroups(DuplicatesStage):
    """Documents that may be alike: MinHash-LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, ch. 3).

    Documents whose signatures agree in a band share a bucket; its leader is the member of the least content, a hash of
    all its shingles. `candidates` are the leaders' contents of a document's buckets of two or more, sorted: documents
    that share one are to be compared. Null without any, and for copies, for whom their first stands.
    """

    name = "candidates"
    meets = True
    version = 2  # more bands of fewer rows: a missed pair weighs more than one compared in vain
    unhashed = frozenset({"keep", "partitions"})
    reads = ("text", "copy_of")
    scatters = ("copy_of",)
    shuffled = pa.schema([("position", pa.uint32()), ("key", pa.uint64()), ("content", pa.uint64())])
    reduced = pa.schema([("leader", pa.uint64())])
    writes = pa.schema([("candidates", pa.list_(pa.uint64()))])
    state_key = "key"

    def map(self, batch: pa.Table) -> pa.Table:
        settings = self.settings
        bands, rows = minhash.bands_and_rows(settings.compared_from, settings.hashes)
        first = np.flatnonzero(batch["copy_of"].is_null())
        batch = batch.take(first)
        found, content, keys = minhash.sketches(
            _texts(batch), settings.words, settings.characters, bands, rows, self.symbols(batch)
        )
        scope = self.scope(batch)[found]
        content, keys = content ^ scope, keys ^ scope[:, None]
        return as_table(
            position=first[found].repeat(bands),
            key=keys.ravel(),
            content=content.repeat(bands),
            partition=keys.ravel() % self.partitions,
        )

    def reduce(self, rows: pa.Table) -> pa.Table:
        key, content, shard, position = arrays(rows, "key", "content", "shard", "position")
        order = np.lexsort((content, key))
        first = changes(key[order])
        bucket = np.cumsum(first) - 1
        shared = np.bincount(bucket)[bucket] > 1
        member, leader = order[shared], content[order[first]][bucket[shared]]
        return as_table(shard=shard[member], position=position[member], leader=leader)

    def remember(self, rows: pa.Table) -> pa.Table:
        """Of each bucket those that are compared with all others."""
        key, content = arrays(rows, "key", "content")
        order = np.lexsort((content, key))
        starts, ends = runs(key[order])
        return rows.take(order[numbers_within(ends - starts) < HUBS])

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        return pa.table([_leaders(rows, batch.num_rows)], schema=self.writes)


def _leaders(rows: pa.Table, count: int) -> pa.ListArray:
    """Rows of `position` and `leader` -> the leaders of each of `count` positions, sorted."""
    position, leader = arrays(rows, "position", "leader")
    order = np.lexsort((leader, position))
    rows = rows.take(order[changes(position[order], leader[order])])
    return lists_by_position(rows, rows["leader"].combine_chunks(), count)


class VerifiedPairs(DuplicatesStage, RecallingStage):
    """Pairs of candidates whose shingle sets have a Jaccard similarity of at least `compared_from`, which without a
    floor is the threshold.

    `alike` lists them with both documents, the most similar first, then by address; null without any. `hub` is true for
    a document that is alike to others which were compared with hubs only. A document sends its shingles, 8 bytes each,
    once to each partition where it meets others, which are no more than there are bands.
    """

    name = "alike"
    unhashed = frozenset({"hashes", "keep", "partitions", "where"})
    reads = ("text", "candidates")
    scatters = ("candidates",)
    shuffled = pa.schema(
        [("position", pa.uint32()), ("leaders", pa.list_(pa.uint64())), ("shingles", pa.list_(pa.uint64()))]
    )
    reduced = pa.schema([("other", SIMILAR_ADDRESS), ("hub", pa.bool_())])
    writes = pa.schema([("alike", pa.list_(SIMILAR_ADDRESS)), ("hub", pa.bool_())])
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
                _texts(batch), self.settings.words, self.settings.characters, self.symbols(batch)
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
        leaders = _leaders(
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


class Pairs(VerifiedPairs):
    """The same down to a floor, of which `alike` are some: `pairs`."""

    name = "pairs"
    writes = pa.schema([(name, pa.list_(SIMILAR_ADDRESS)), ("hub", pa.bool_())])


class AlikePairs(Stage):
    """Of the pairs down to a floor those that reach the threshold: `alike`; null without any. A similarity is stored in
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


def _texts(batch: pa.Table) -> Iterator[str]:
    return (text.as_py() for text in batch["text"])


def _joined(parts: list[U64]) -> tuple[U64, I64]:
    """Arrays -> (all values, where each array ends)."""
    return np.concatenate([np.empty(0, np.uint64), *parts]), np.cumsum([len(part) for part in parts], dtype=np.int64)


def _lists(values: U64, ends: I64) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.insert(ends, 0, 0).astype(np.int32), values)
