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
from tasks.arrays.hashing import seeded_hash
from tasks.dedup.centroids import DECIMALS, F32, ByCentroid, lists, vectors_of

LONGEST = 8192
CLUSTERS = 1024
"""Clusters on one path; more are cut, as every process walks through them when it begins: 100,000 of 384 numbers take
3 s."""


class Neighbours(ByCentroid):
    """`neighbours`: the place of a document on the path, a number to order by; `neighbours_cosine`: its cosine to the
    one before it, kept or not. Null without an embedding.

    Documents of a later generation have a path of their own, which follows in each cluster on those of earlier ones:
    the path of generation g lies between g / (g + 1) and (g + 1) / (g + 2) of the cluster's interval."""

    name, version = "neighbours", 3  # 3: paths of later generations follow on those of earlier ones
    shuffled = pa.schema(
        [
            ("position", pa.uint32()),
            ("key", pa.uint64()),
            ("cluster", pa.int64()),
            ("generations", pa.int64()),
            ("vector", pa.list_(pa.float32())),
        ]
    )
    state_key = "key"
    reduced = pa.schema([("place", pa.float64()), ("cosine", pa.float32())])
    writes = pa.schema([("neighbours", pa.float64()), ("neighbours_cosine", pa.float32())])
    scatters = ("embedding",)
    settings: stages.Neighbours

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | {"longest": LONGEST, "path": CLUSTERS}

    def setup(self) -> None:
        super().setup()
        self.rank = np.empty(len(self.centroids), np.int64)
        self.rank[walk(self.centroids, 2.0, CLUSTERS)] = np.arange(len(self.centroids))

    def map(self, batch: pa.Table) -> pa.Table:
        position, vectors, cluster, _ = self.placed(batch)
        rank = self.rank[cluster]
        found = {
            "position": position.astype(np.uint32),
            "key": seeded_hash(rank.astype(np.uint64), "neighbours"),
            "cluster": rank,
            "generations": np.zeros(len(rank), np.int64),
            "vector": lists(vectors),
            "partition": (rank % self.partitions).astype(np.int32),
        }
        return pa.table(found)

    def remember(self, rows: pa.Table) -> pa.Table:
        """A row for each cluster, with how many generations have a path in it."""
        cluster, generations = arrays(rows, "cluster", "generations")
        _, first, which = np.unique(cluster, return_index=True, return_inverse=True)
        total = np.bincount(which, generations).astype(np.int64) + (np.bincount(which, generations == 0) > 0)
        kept = rows.take(pa.array(first))
        nothing = pa.array([[]] * len(kept), rows.schema.field("vector").type)
        known = {"generations": pa.array(total), "vector": nothing}
        return pa.table({name: known.get(name, kept[name]) for name in kept.column_names})

    def reduce(self, rows: pa.Table) -> pa.Table:
        is_state = rows["generations"].to_numpy() > 0
        state, rows = rows.filter(is_state), rows.filter(~is_state)
        before = np.bincount(state["cluster"].to_numpy(), state["generations"].to_numpy(), len(self.centroids))
        cluster, shard, position = arrays(rows, "cluster", "shard", "position")
        order = np.argsort(cluster, kind="stable")
        vectors = vectors_of(rows)
        place, cosine = np.empty(len(order)), np.zeros(len(order), np.float32)
        for start, end in zip(*runs(cluster[order]), strict=True):
            group = order[start:end]
            way = group[walk(vectors[group], self.settings.apart, LONGEST)]
            here = before[cluster[way[0]]]
            begin, stop = here / (here + 1), (here + 1) / (here + 2)
            place[way] = cluster[way] + begin + (stop - begin) * np.arange(len(way)) / len(way)
            cosine[way[1:]] = np.round((vectors[way[1:]] * vectors[way[:-1]]).sum(1), DECIMALS)
        return pa.table({"shard": shard, "position": position, "place": place, "cosine": cosine})

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        place = np.full(batch.num_rows, np.nan)
        cosine = np.full(batch.num_rows, np.nan, np.float32)
        about = rows["position"].to_numpy()
        place[about], cosine[about] = rows["place"].to_numpy(), rows["cosine"].to_numpy()
        columns = [pa.array(place, from_pandas=True), pa.array(cosine, from_pandas=True)]
        return pa.table(columns, schema=self.writes)


def walk(vectors: F32, apart: float, longest: int) -> np.ndarray:
    """The order of a path through vectors, of which more than `longest` are cut into parts, each with its own."""
    return np.concatenate([part[path(vectors[part], apart)] for part in _parts(vectors, longest)])


def _parts(vectors: F32, longest: int) -> list[np.ndarray]:
    """Vectors in parts of at most `longest`, along the direction in which they differ most."""
    if len(vectors) <= longest:
        return [np.arange(len(vectors))]
    middle = vectors - vectors.mean(0)
    direction = np.linalg.eigh(middle.T @ middle)[1][:, -1]
    along = np.argsort(middle @ direction, kind="stable")
    return np.array_split(along, -(-len(vectors) // longest))


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
