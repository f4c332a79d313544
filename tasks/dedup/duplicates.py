"""Exact and near duplicates, in four corpus stages that leave their evidence as columns.

`exact` finds texts of the same units (tasks/dedup/minhash.py): copies of one another but for case, spacing and
punctuation. `candidates` finds, among one text of each set of copies, those that may be similar: MinHash-LSH. `alike`
compares them by the true Jaccard similarity of their shingle sets and keeps the pairs that reach the threshold.
`clusters` numbers what copies and alike pairs connect. Who stays is decided later, by the verdict
(tasks/decision/verdict.py).

How documents are dealt into shards, and the number of partitions, change only which of several copies is called the
first and how clusters are numbered. Memory of a reduction is bounded by `partitions`, and a popular text makes no pairs
without end: copies take part once, and of the texts that meet at one leader only `HUBS` are compared with all others.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_specs.stages import Duplicates
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS, U64, addresses, arrays, factorize, partners
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
from tasks.engine.stage import CorpusStage, RepeatedStage

HUBS = 64
"""Of the texts that meet at one leader, as many (the first by a hash of their content) are compared with all others;
up to this many, every pair is compared. The verdict elects hubs first, so that what they are alike to is removed: where
a share f of n texts passes the rules, about f n exp(-64 f) of them, at most n / 174, may find no hub that stays."""


class _Stage(CorpusStage):
    """What the four share: settings, and Unicode's version, which shapes how texts are read."""

    settings: Duplicates

    def __init__(self, settings: Duplicates) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where if "where" not in self.unhashed else None

    def hashed_settings(self) -> dict[str, Any]:
        unicode = {"unicode": unicodedata.unidata_version} if "text" in self.reads else {}
        return super().hashed_settings() | unicode


class Exact(_Stage):
    """Copies: documents of the same units in the same order, by a 128-bit BLAKE2b hash.

    `copy_of` is the address of the first document (by generation, shard, position) of these units; null for that one
    itself, for a document without copies and for a text without units. `text_length` is in characters: the verdict may
    prefer the longer of two texts.
    """

    name = "exact"
    unhashed = frozenset({"threshold", "hashes", "words", "characters", "keep", "partitions"})
    reads = ("text",)
    scatters = ("text",)
    shuffled = pa.schema([("position", pa.uint32()), ("low", pa.uint64()), ("high", pa.uint64())])
    reduced = pa.schema([("copy_of", ADDRESS)])
    writes = pa.schema([("copy_of", ADDRESS), ("text_length", pa.uint32())])
    state_key = "low"

    def map(self, batch: pa.Table) -> pa.Table:
        digests, lengths = [], []
        for hashes, offsets, _ in minhash.units(_texts(batch)):
            lengths.append(np.diff(offsets))
            for start, end in pairwise(offsets):
                digests.append(hashlib.blake2b(hashes[start:end].data, digest_size=16).digest())
        position = np.flatnonzero(np.concatenate([[], *lengths]))
        low, high = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)[position].T
        return _table(position=position, low=low, high=high, partition=low % self.partitions)

    def reduce(self, rows: pa.Table) -> pa.Table:
        low, high, shard, position = arrays(rows, "low", "high", "shard", "position")
        order = np.lexsort((high, low))  # stable, and rows come by generation, shard and position
        first = changes(low[order], high[order])
        copy, origin = order[~first], order[first][np.cumsum(first) - 1][~first]
        return _table(shard=shard[copy], position=position[copy], copy_of=addresses(shard[origin], position[origin]))

    def remember(self, rows: pa.Table) -> pa.Table:
        """The first of each text."""
        low, high = arrays(rows, "low", "high")
        order = np.lexsort((high, low))
        return rows.take(order[changes(low[order], high[order])])

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        copy_of = scatter_by_position(rows, rows["copy_of"], batch.num_rows)
        return pa.table([copy_of, pc.utf8_length(batch["text"]).cast(pa.uint32())], schema=self.writes)


class CandidateGroups(_Stage):
    """Documents that may be alike: MinHash-LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, ch. 3).

    Documents whose signatures agree in a band share a bucket; its leader is the member of the least content, a hash of
    all its shingles. `candidates` are the leaders' contents of a document's buckets of two or more, sorted: documents
    that share one are to be compared. Null without any, and for copies, for whom their first stands.
    """

    name = "candidates"
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
        bands, rows = minhash.bands_and_rows(settings.threshold, settings.hashes)
        first = np.flatnonzero(batch["copy_of"].is_null())
        texts = _texts(batch.take(first))
        found, content, keys = minhash.sketches(texts, settings.words, settings.characters, bands, rows)
        return _table(
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
        return _table(shard=shard[member], position=position[member], leader=leader)

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


class VerifiedPairs(_Stage):
    """Pairs of candidates whose shingle sets have a Jaccard similarity of at least the threshold.

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
    recalls = ("text",)

    def map(self, batch: pa.Table) -> pa.Table:
        chosen = np.flatnonzero(batch["candidates"].is_valid())
        batch = batch.take(chosen)
        sets = [
            np.unique(hashes[start:end])
            for hashes, offsets in minhash.shingles(_texts(batch), self.settings.words, self.settings.characters)
            for start, end in pairwise(offsets)
        ]
        text, leaders = explode(batch["candidates"])
        leader = leaders.to_numpy()
        partition = leader % self.partitions
        order = np.lexsort((partition, text))
        starts, ends = runs(text[order], partition[order])
        sender = order[starts]
        return _table(
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
        mapped = self.map(pa.table({"text": batch["text"], "candidates": leaders}))
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
        return _table(shard=shard[one], position=position[one], other=others, hub=hub)

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
            near = np.flatnonzero(jaccard >= self.settings.threshold)
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


class Clusters(_Stage, RepeatedStage):
    """Clusters: what copies and alike pairs connect, directly or through others.

    `cluster` is a hash of the address of its first document; null for a document that is alone. A document of a later
    generation has the cluster of an older one that it is connected with; two older clusters stay two. A row is an edge
    from a document to an earlier one, in the partition of the later one. A round connects each document with the first
    that it reaches by the rows that meet (large and small star of Kiveris et al. 2014 in one, as in Kim et al. 2022).
    Of the documents that a reduction connects with the same first, one also goes to the partition of that first,
    which answers with what it was connected with itself (requests are combined as by Yan et al. 2015): when nothing
    changes any more, no first has an earlier one. So of any document a reduction reads at most two rows from each file,
    and a large cluster is spread over the partitions as many small ones are.

    Near duplicates take about 10 rounds, chains of 1,000 documents 11 to 14, stars 3. A row needs 200 bytes of memory:
    for 10 million documents in clusters of up to a million, 2.1 GiB in one reduction, 208 MiB in the largest of 16,
    77 MiB in that of 64 (benchmarks/clusters.py).
    """

    name = "clusters"
    unhashed = frozenset(Duplicates.model_fields)
    reads = ("copy_of", "alike")
    scatters = ("copy_of",)
    shuffled = pa.schema([("position", pa.uint32()), ("other", ADDRESS)])
    reduced = pa.schema([("cluster", pa.uint64())])
    writes = pa.schema([("cluster", pa.uint64())])
    asks = ("copy_of", "alike")
    recalls = ("cluster",)
    answers = pa.schema(
        [("by_position", pa.uint32()), ("shard", pa.uint64()), ("position", pa.uint32()), ("cluster", pa.uint64())]
    )

    def map(self, batch: pa.Table) -> pa.Table:
        position, others = partners(batch.select(["copy_of", "alike"]))
        return _table(position=position, other=_addresses(others))

    def recall(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """The clusters of older documents; one that was alone gets the one that it would begin."""
        own = addresses(*arrays(batch, "shard", "position"))
        cluster = pc.coalesce(batch["cluster"].combine_chunks(), pa.array(_hashed(own, "cluster")))
        row = np.searchsorted(batch["position"].to_numpy(), rows["position"].to_numpy())
        shard = pa.array(np.full(len(rows), batch["shard"][0].as_py(), np.uint64))
        return rows.append_column("shard", shard).append_column("cluster", cluster.take(row))

    def map_recalled(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Edges to older documents lead to their clusters: addresses at the position `_OLDER`."""
        edges = self.map(batch)
        known = addresses(*arrays(rows, "shard", "position"))
        _, number = factorize(edges["other"].combine_chunks(), known)
        mine, older = np.split(number, [edges.num_rows])
        cluster_of = np.zeros(number.max() + 1, np.uint64)
        cluster_of[older] = rows["cluster"].to_numpy()
        is_older = np.isin(mine, older)
        shard, position = (values.to_numpy() for values in edges["other"].combine_chunks().flatten())
        others = addresses(
            np.where(is_older, cluster_of[mine], shard), np.where(is_older, _OLDER, position).astype(np.uint32)
        )
        return _table(position=edges["position"].to_numpy(), other=others)

    def iterate(self, rows: pa.Table, partition_range: range) -> pa.Table:
        """Edges of the partitions `partition_range` -> what is known of each of their documents after this round.

        Documents 1 and 3 are of partition A, 4 is of B, with edges 3-1 (in A) and 4-3 (in B). B connects 4 with
        3, which is A's: it keeps 4-3 and asks A by sending it 4-3. A then connects 3 and 4 with 1: it keeps 3-1 and
        answers B with 4-1. B keeps 4-1 and asks A again, which knows nothing earlier than 1 and does not answer; so
        nothing changes any more."""
        documents, one, other, first = _connected(rows)
        partition = (_hashed(documents, "partition") % np.uint64(self.partitions)).astype(np.int32)
        mine = (partition >= partition_range.start) & (partition < partition_range.stop)
        later = first != np.arange(len(first))  # documents that are connected with an earlier one
        known = np.zeros(len(first), bool)
        known[one[other == first[one]]] = True  # documents that came connected with that one
        question = known & ~mine & mine[first]  # these are another partition's questions, to which there is no answer
        kept = np.flatnonzero(later & ~question)
        asking = np.flatnonzero(later & mine & ~mine[first])
        asking = asking[_first_of(first[asking])]  # one question for each first of another partition
        edge = np.append(kept, asking)
        shard, position = (values.to_numpy()[edge] for values in documents.flatten())
        return _table(
            shard=shard,
            position=position,
            other=documents.take(first[edge]),
            partition=np.append(partition[kept], partition[first[asking]]),
        )

    def reduce(self, rows: pa.Table) -> pa.Table:
        documents, _, _, first = _connected(rows)
        shard, position = (values.to_numpy() for values in documents.flatten())
        older = position == _OLDER
        cluster = np.where(older, shard, _hashed(documents, "cluster"))[first]
        return _table(shard=shard[~older], position=position[~older], cluster=cluster[~older])

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        return pa.table([scatter_by_position(rows, rows["cluster"], batch.num_rows)], schema=self.writes)


_OLDER = np.uint32(2**32 - 1)
"""Position of an address that stands for a cluster of earlier generations; its number is in the place of a shard's."""


def _connected(rows: pa.Table) -> tuple[pa.StructArray, I64, I64, I64]:
    """Edges -> (the distinct documents, in order, older clusters before them; both ends of each edge, by number; for
    each document, the first that edges connect it to)."""
    documents, number = factorize(addresses(*arrays(rows, "shard", "position")), rows["other"].combine_chunks())
    later = pc.struct_field(documents, "position").to_numpy() != _OLDER
    if not later.all():
        order = np.argsort(later, kind="stable")
        documents, number = documents.take(pa.array(order)), np.argsort(order)[number]
    one, other = np.split(number, 2)
    label = _components(one, other, len(documents))
    return documents, one, other, _first_of(label)[label]


def _addresses(similar: pa.StructArray) -> pa.StructArray:
    return addresses(*(pc.struct_field(similar, field.name) for field in ADDRESS))


def _hashed(documents: pa.StructArray, use: str) -> U64:
    shard, position = (values.to_numpy() for values in documents.flatten())
    return seeded_hash(shard + seeded_hash(position.astype(np.uint64), "position"), use)


def _texts(batch: pa.Table) -> Iterator[str]:
    return (text.as_py() for text in batch["text"])


def _table(**columns: NDArray[Any] | pa.Array) -> pa.Table:
    types = {"position": np.uint32, "partition": np.int32}
    return pa.table({name: column.astype(types[name]) if name in types else column for name, column in columns.items()})


def _joined(parts: list[U64]) -> tuple[U64, I64]:
    """Arrays -> (all values, where each array ends)."""
    return np.concatenate([np.empty(0, np.uint64), *parts]), np.cumsum([len(part) for part in parts], dtype=np.int64)


def _lists(values: U64, ends: I64) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.insert(ends, 0, 0).astype(np.int32), values)


def _components(one: I64, other: I64, nodes: int) -> NDArray[np.int32]:
    """Edges between `nodes` nodes -> the number of each node's connected component."""
    edges = coo_array((np.ones(len(one), bool), (one, other)), shape=(nodes, nodes))
    return connected_components(edges, directed=False)[1] if nodes else np.empty(0, np.int32)


def _first_of(labels: NDArray[np.integer[Any]]) -> I64:
    """The first index of each label, by label."""
    return np.unique(labels, return_index=True)[1]
