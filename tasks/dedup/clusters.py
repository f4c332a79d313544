"""The last of the stages of duplicates: clusters, which number what copies and alike pairs connect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.dedup import Duplicates
from tasks.arrays.addresses import ADDRESS, U64, addresses, arrays, as_numbers, factorize, partners
from tasks.arrays.groups import I64, scatter_by_position
from tasks.arrays.hashing import seeded_hash
from tasks.dedup.base import DuplicatesStage, as_table
from tasks.engine.stage import AskingStage, RepeatedStage


class Clusters(DuplicatesStage, RepeatedStage, AskingStage):
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
        return as_table(position=position, other=_addresses(others))

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
        return as_table(position=edges["position"].to_numpy(), other=others)

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
        return as_table(
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
        return as_table(shard=shard[~older], position=position[~older], cluster=cluster[~older])

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
    return seeded_hash(as_numbers(shard, position), use)


def _components(one: I64, other: I64, nodes: int) -> NDArray[np.int32]:
    """Edges between `nodes` nodes -> the number of each node's connected component."""
    from scipy.sparse import coo_array  # here, as these take a quarter of a second
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(one), bool), (one, other)), shape=(nodes, nodes))
    return connected_components(edges, directed=False)[1] if nodes else np.empty(0, np.int32)


def _first_of(labels: NDArray[np.integer[Any]]) -> I64:
    """The first index of each label, by label."""
    return np.unique(labels, return_index=True)[1]
