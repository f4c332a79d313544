"""Exact and near duplicates, in stages that leave their evidence as columns.

`exact` finds texts of the same units (tasks/text/units.py): copies of one another but for case, spacing and
punctuation. `candidates` finds, among one text of each set of copies, those that may be similar: MinHash-LSH. `pairs`
(tasks/dedup/pairs.py) compares them by the true Jaccard similarity of their shingle sets and keeps those that reach the
floor; `alike` takes of these those that reach the threshold, without reading a text. `clusters`
(tasks/dedup/clusters.py) numbers what copies and alike pairs connect. Who stays is decided later, by the verdict
(tasks/decision/verdict.py).

How documents are dealt into shards, and the number of partitions, change only which of several copies is called the
first and how clusters are numbered. Memory of a reduction is bounded by `partitions`, and a popular text makes no pairs
without end: copies take part once, and of the texts that meet at one leader only `HUBS` are compared with all others.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrays.addresses import ADDRESS, addresses, arrays
from tasks.arrays.groups import (
    changes,
    lists_by_position,
    numbers_within,
    runs,
    scatter_by_position,
)
from tasks.dedup import minhash
from tasks.dedup.base import DuplicatesStage, as_table, texts
from tasks.text import units

HUBS = 64
"""Of the texts that meet at one leader, as many are compared with all others, its hubs: nodes through which the graph
of alike texts is connected, and the first of a group by a hash of their content. Up to this many, every pair is
compared. The verdict elects hubs first, so that what they are alike to is removed: where a share f of n texts passes
the rules, about f n exp(-64 f) of them, at most n / 174, may find no hub that stays."""


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
        found = {number: digest for number, digest in enumerate(units.digests(texts(batch), symbols)) if digest}
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

    Documents whose signatures agree in a band share a bucket; its leader, the member that names it (as in Hartigan's
    leader clustering), is the one of the least content, a hash of all its shingles. `candidates` are the leaders'
    contents of a document's buckets of two or more, sorted: documents that share one are to be compared. Null without
    any, and for copies, for whom their first stands.
    """

    name = "candidates"
    meets = True
    version = minhash.VERSION
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
            texts(batch), settings.words, settings.characters, bands, rows, self.symbols(batch)
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
        return pa.table([leaders_by_position(rows, batch.num_rows)], schema=self.writes)


def leaders_by_position(rows: pa.Table, count: int) -> pa.ListArray:
    """Rows of `position` and `leader` -> the leaders of each of `count` positions, sorted."""
    position, leader = arrays(rows, "position", "leader")
    order = np.lexsort((leader, position))
    rows = rows.take(order[changes(position[order], leader[order])])
    return lists_by_position(rows, rows["leader"].combine_chunks(), count)
