"""How many documents are in a cluster of duplicates: what a crawl had often may be read more often (rehydration)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from tasks.arrays.addresses import arrays
from tasks.arrays.external import Sorted, folded, joined
from tasks.arrays.groups import runs
from tasks.dedup.base import DuplicatesStage, as_table
from tasks.engine.blockwise import Blocks, BlockwiseStage


class ClusterSizes(DuplicatesStage, BlockwiseStage):
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

    def reduce_blocks(self, blocks: Blocks) -> Iterator[pa.Table]:
        rows, found = Sorted(("cluster", "ascending")), Sorted(("shard", "ascending"), ("position", "ascending"))
        for batch in blocks:
            rows.add(pa.table(batch).take(np.arange(batch.num_rows)))
        sizes = (
            each.select(["cluster", "documents"]).rename_columns(["cluster", "size"]) for each in folded(rows, _one)
        )
        for each in joined(rows, sizes, "cluster"):
            found.add(each.select(["shard", "position", "size"]))
        return iter(found)

    def remember_blocks(self, read: Callable[[], Blocks]) -> Iterator[pa.Table]:
        """A row for each cluster, with how many documents it has."""
        rows = Sorted(("cluster", "ascending"))
        for batch in read():
            rows.add(pa.table(batch).take(np.arange(batch.num_rows)))
        return folded(rows, _one)

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        found = np.ones(batch.num_rows, np.int64)
        found[rows["position"].to_numpy()] = rows["size"].to_numpy()
        return pa.table([pa.array(found)], schema=self.writes)


def _one(rows: pa.Table) -> pa.Table:
    """Rows by cluster -> the first of each, with the documents of all."""
    cluster, documents = arrays(rows, "cluster", "documents")
    starts, _ = runs(cluster)
    total = pa.array(np.add.reduceat(documents, starts))
    return rows.take(starts).set_column(rows.schema.get_field_index("documents"), "documents", total)
