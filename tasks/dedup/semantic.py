"""Semantic duplicates (SemDeDup; Abbas et al. 2023): documents that say the same in other words, by the cosine of their
embeddings, inside clusters of k-means.

Pairs of which the two are in different clusters are not seen, nor any that an encoder does not see. As with pages of
one address a column says which document stays, and a rule drops the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS, arrays
from tasks.arrays.groups import runs, scatter_by_position
from tasks.arrays.hashing import seeded_hash
from tasks.arrays.numbers import as_float
from tasks.dedup.centroids import DECIMALS, F32, ByCentroid, lists, vectors_of


class Semantic(ByCentroid):
    """`semantic`: the document that stays in the place of this one; `semantic_similarity`: their cosine. Both are null
    for one that stays.

    Documents of a cluster are asked in the order of preference: by the column `keep`, the highest first, or else the
    farthest from the centroid first; those of earlier generations before all others. One that is alike to none that
    stays stays, too. So each that goes is alike to one that stays, at any higher cosine that a rule may ask for."""

    name, version = "semantic", 2  # 2: later generations are held against all that stay; cosines are rounded
    shuffled = pa.schema(
        [
            ("position", pa.uint32()),
            ("cluster", pa.uint64()),
            ("preference", pa.float64()),
            ("stands", pa.bool_()),
            ("vector", pa.list_(pa.float32())),
        ]
    )
    reduced = pa.schema([("semantic", SIMILAR_ADDRESS)])
    writes = pa.schema([("semantic", ADDRESS), ("semantic_similarity", pa.float32())])
    scatters = ("embedding",)
    state_key = "cluster"
    settings: stages.Semantic

    def __init__(self, settings: stages.Semantic, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, files)
        if settings.keep:
            self.reads = ("embedding", settings.keep)

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | {"keep": self.settings.keep is not None}

    def map(self, batch: pa.Table) -> pa.Table:
        position, vectors, cluster, cosine = self.placed(batch)
        preference = -cosine.astype(np.float64)
        if self.settings.keep:
            column = as_float(batch[self.settings.keep]).take(pa.array(position))
            preference = pc.fill_null(column, -np.inf).to_numpy()
        key = seeded_hash(cluster.astype(np.uint64), "semantic")
        found = {
            "position": position.astype(np.uint32),
            "cluster": key,
            "preference": preference,
            "stands": np.zeros(len(position), bool),
            "vector": lists(vectors),
            "partition": (key % np.uint64(self.partitions)).astype(np.int32),
        }
        return pa.table(found)

    def reduce(self, rows: pa.Table) -> pa.Table:
        goes, stays, cosine = self._elected(rows)
        shard, position = arrays(rows, "shard", "position")
        fields = list(SIMILAR_ADDRESS)
        kept = pa.StructArray.from_arrays([shard[stays], position[stays], cosine.astype(np.float32)], fields=fields)
        return pa.table({"shard": shard[goes], "position": position[goes], "semantic": kept})

    def remember(self, rows: pa.Table) -> pa.Table:
        """All, in the order in which they were asked: which of them stay hangs on those before, which are not here."""
        kept = rows.take(pa.array(self._order(rows)))
        place = kept.schema.get_field_index("stands")
        return kept.set_column(place, "stands", pa.array(np.ones(kept.num_rows, bool)))

    @staticmethod
    def _order(rows: pa.Table) -> np.ndarray:
        """Rows by cluster, those of a cluster in the order in which they are asked: what `stands`, as it was."""
        cluster, preference, stands = arrays(rows, "cluster", "preference", "stands")
        return np.lexsort((np.arange(rows.num_rows), np.where(stands, 0, -preference), ~stands, cluster))

    def _elected(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows that go, for each the row that stays in its place, and their cosine."""
        order, vectors = self._order(rows), vectors_of(rows)
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        for start, end in zip(*runs(rows["cluster"].to_numpy()[order]), strict=True):
            group = order[start:end]
            goes, stays, cosine = elected(vectors[group], self.settings.similarity)
            found.append((group[goes], group[stays], cosine))
        goes, stays, cosine = (np.concatenate(part) for part in zip(*found, strict=True))
        return goes, stays, cosine

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        named = scatter_by_position(rows, rows["semantic"], batch.num_rows)
        shard, position, similarity = (pc.struct_field(named, field.name) for field in SIMILAR_ADDRESS)
        others = pa.StructArray.from_arrays([shard, position], fields=list(ADDRESS), mask=named.is_null())
        return pa.table([others, similarity], schema=self.writes)


def elected(vectors: F32, similarity: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors in the order in which they are asked -> those that go, for each the one that stays in its place, the most
    alike that was asked before it, and their cosine."""
    gone = np.zeros(len(vectors), bool)
    best, whose = np.full(len(vectors), -1.0), np.full(len(vectors), -1)
    for number in range(len(vectors)):
        if gone[number]:
            continue
        cosine = np.round(vectors[number + 1 :] @ vectors[number], DECIMALS)
        later = number + 1 + np.flatnonzero((cosine >= similarity) & (cosine > best[number + 1 :]))
        best[later], whose[later], gone[later] = cosine[later - number - 1], number, True
    goes = np.flatnonzero(gone)
    return goes, whose[goes], np.minimum(best[goes], 1.0)
