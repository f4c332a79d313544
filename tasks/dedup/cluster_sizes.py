"""How many documents are in a cluster of duplicates: what a crawl had often may be read more often (rehydration)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.arrays.addresses import arrays
from tasks.arrays.groups import changes, runs
from tasks.dedup.base import DuplicatesStage, as_table


class ClusterSizes(DuplicatesStage):
    """`cluster_size`: documents of this one's cluster, kept or not; 1 for one that is alone. Of a later generation's
    documents those of an older cluster count, too, but not an older one that was alone until they came; older ones
    have the sizes that they had, until a rebase."""

    name, version = "cluster_size", 1
    unhashed = frozenset(("threshold", "hashes", "words", "characters", "keep", "partitions"))
    reads = ("cluster",)
    scatters = ("cluster",)
    shuffled = pa.schema([("position", pa.uint32()), ("cluster", pa.uint64()), ("documents", pa.int64())])
    reduced = pa.schema([("size", pa.int64())])
    writes = pa.schema([("cluster_size", pa.int64())])
    state_key = "cluster"

    def map(self, batch: pa.Table) -> pa.Table:
        position = np.flatnonzero(batch["cluster"].is_valid())
        cluster = batch["cluster"].drop_null().to_numpy()
        documents = np.ones(len(cluster), np.int64)
        return as_table(
            position=position, cluster=cluster, documents=documents, partition=cluster % np.uint64(self.partitions)
        )

    def reduce(self, rows: pa.Table) -> pa.Table:
        cluster, documents, shard, position = arrays(rows, "cluster", "documents", "shard", "position")
        order, starts, ends = _by_cluster(rows)
        size = np.empty(len(cluster), np.int64)
        if len(order):
            size[order] = np.repeat(np.add.reduceat(documents[order], starts), ends - starts)
        return as_table(shard=shard, position=position, size=size)

    def remember(self, rows: pa.Table) -> pa.Table:
        """A row for each cluster, with how many documents it has."""
        cluster, documents = arrays(rows, "cluster", "documents")
        order, starts, _ = _by_cluster(rows)
        if not len(order):
            return rows
        first = order[changes(cluster[order])]
        total = np.add.reduceat(documents[order], starts)
        kept = rows.take(pa.array(first))
        return kept.set_column(kept.schema.get_field_index("documents"), "documents", pa.array(total))

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        found = np.ones(batch.num_rows, np.int64)
        found[rows["position"].to_numpy()] = rows["size"].to_numpy()
        return pa.table([pa.array(found)], schema=self.writes)


def _by_cluster(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows by cluster, each cluster's in their order, and where clusters start and end."""
    cluster = rows["cluster"].to_numpy()
    order = np.argsort(cluster, kind="stable")
    return order, *runs(cluster[order])
