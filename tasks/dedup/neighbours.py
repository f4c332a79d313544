"""An order in which documents stand beside what is about the same (in-context pretraining; Shi et al. 2023): a path
through the embeddings of each cluster of k-means, and through the clusters.

The path goes from a document to the nearest that it has not visited, each once; not to one that is nearly the same, as
long as there are others, since a text after its own copy teaches to copy. Clusters of more than `LONGEST` documents are
cut along their main direction, which bounds the cost: 8,192 documents of 384 numbers take some 4 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import stages
from tasks.arrays.addresses import arrays
from tasks.arrays.groups import runs
from tasks.dedup.centroids import DECIMALS, F32, ByCentroid, lists, vectors_of

LONGEST = 8192


class Neighbours(ByCentroid):
    """`neighbours`: the place of a document on the path, a number to order by; `neighbours_cosine`: its cosine to the
    one before it. Null without an embedding. Documents of a later generation have a path of their own."""

    name, version = "neighbours", 2  # 2: cosines are rounded
    shuffled = pa.schema([("position", pa.uint32()), ("cluster", pa.int64()), ("vector", pa.list_(pa.float32()))])
    reduced = pa.schema([("place", pa.float64()), ("cosine", pa.float32())])
    writes = pa.schema([("neighbours", pa.float64()), ("neighbours_cosine", pa.float32())])
    scatters = ("embedding",)
    settings: stages.Neighbours

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | {"longest": LONGEST}

    def setup(self) -> None:
        super().setup()
        self.rank = np.empty(len(self.centroids), np.int64)
        self.rank[path(self.centroids, 2.0)] = np.arange(len(self.centroids))

    def map(self, batch: pa.Table) -> pa.Table:
        position, vectors, cluster, _ = self.placed(batch)
        found = {
            "position": position.astype(np.uint32),
            "cluster": self.rank[cluster],
            "vector": lists(vectors),
            "partition": (self.rank[cluster] % self.partitions).astype(np.int32),
        }
        return pa.table(found)

    def reduce(self, rows: pa.Table) -> pa.Table:
        cluster, shard, position = arrays(rows, "cluster", "shard", "position")
        order = np.argsort(cluster, kind="stable")
        vectors = vectors_of(rows)
        place, cosine = np.empty(len(order)), np.zeros(len(order), np.float32)
        for start, end in zip(*runs(cluster[order]), strict=True):
            group = order[start:end]
            way = group[
                np.concatenate(
                    [part[path(vectors[group[part]], self.settings.apart)] for part in _parts(vectors[group])]
                )
            ]
            place[way] = cluster[way] + np.arange(len(way)) / len(way)
            cosine[way[1:]] = np.round((vectors[way[1:]] * vectors[way[:-1]]).sum(1), DECIMALS)
        return pa.table({"shard": shard, "position": position, "place": place, "cosine": cosine})

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        place = np.full(batch.num_rows, np.nan)
        cosine = np.full(batch.num_rows, np.nan, np.float32)
        about = rows["position"].to_numpy()
        place[about], cosine[about] = rows["place"].to_numpy(), rows["cosine"].to_numpy()
        columns = [pa.array(place, from_pandas=True), pa.array(cosine, from_pandas=True)]
        return pa.table(columns, schema=self.writes)


def _parts(vectors: F32) -> list[np.ndarray]:
    """The documents of a cluster in parts of at most `LONGEST`, along the direction in which they differ most."""
    if len(vectors) <= LONGEST:
        return [np.arange(len(vectors))]
    middle = vectors - vectors.mean(0)
    direction = np.linalg.eigh(middle.T @ middle)[1][:, -1]
    along = np.argsort(middle @ direction, kind="stable")
    return np.array_split(along, -(-len(vectors) // LONGEST))


def path(vectors: F32, apart: float) -> np.ndarray:
    """The order of a walk through vectors, from the one that is least like their mean on: each time to the nearest that
    is left, of which the cosine is below `apart` where there is such a one."""
    left = np.ones(len(vectors), bool)
    here = int((vectors @ vectors.mean(0)).argmin()) if len(vectors) else 0
    found = np.empty(len(vectors), np.int64)
    for number in range(len(vectors)):
        found[number] = here
        left[here] = False
        cosine = np.where(left, vectors @ vectors[here], -np.inf)
        other = np.where(cosine < apart, cosine, -np.inf)
        here = int((other if np.isfinite(other).any() else cosine).argmax())
    return found
