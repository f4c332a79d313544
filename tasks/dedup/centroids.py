"""Documents by what they are about: centroids of their embeddings (spherical k-means), learned from a sample and
pinned, and which centroid each document is nearest to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_specs import stages
from data_specs.dedup import EACH
from tasks.arrays.sampling import smallest
from tasks.engine.stage import CorpusStage, Estimator
from tasks.storage.columns import value_digest

F32 = NDArray[np.float32]

ROUNDS = 25
"""Of k-means, at most: it ends where no document moves any more."""
CHUNK = 4096
"""Documents that are compared with all centroids at once."""
DECIMALS = 5
"""Of a cosine: its last digits hang on the processor, and on what else is multiplied with it."""


class CentroidsEstimator(Estimator):
    """The centroids of a stage that goes by them; a file of numpy's."""

    name, version = "centroids", 1
    suffix = ".npy"
    reads = ("id", "embedding")
    settings: stages.Semantic | stages.Neighbours

    def __init__(self, settings: stages.Semantic | stages.Neighbours, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"clusters", "sample"})

    def sample(self, batch: pa.Table) -> pa.Table:
        rows = batch.select(["id", "embedding"])
        return self.downsample(rows.filter(rows["embedding"].is_valid()))

    def downsample(self, rows: pa.Table) -> pa.Table:
        return smallest(rows, self.settings.sample, (), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: documents, clusters, the mean cosine of documents to their centroids, digest of the sample. Raises
        ValueError where no document has an embedding."""
        rows = self.downsample(rows)
        if not rows.num_rows:
            raise ValueError(f"stages.{self.label}: no document has an embedding to learn from")
        vectors = matrix(rows["embedding"])
        found = kmeans(vectors, min(self.settings.clusters, -(-len(vectors) // EACH)), self.seed)
        buffer = io.BytesIO()
        np.save(buffer, found)
        _, cosine = nearest(vectors, found)
        facts = {"documents": len(vectors), "clusters": len(found), "cosine": round(float(cosine.mean()), 4)}
        return buffer.getvalue(), facts | {"sample": value_digest(rows["id"])}


class ByCentroid(CorpusStage):
    """What goes by centroids: a document meets those of its own."""

    reads: tuple[str, ...] = ("embedding",)
    unhashed = frozenset({"partitions", "clusters", "sample"})  # the file of the centroids is in the fingerprint
    settings: stages.Semantic | stages.Neighbours

    def __init__(self, settings: stages.Semantic | stages.Neighbours, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, files)
        self.partitions = settings.partitions
        self.where = settings.where

    def setup(self) -> None:
        [path] = self.files
        self.centroids: F32 = np.load(io.BytesIO(Path(path).read_bytes()))

    def placed(self, batch: pa.Table) -> tuple[NDArray[np.int64], F32, NDArray[np.int64], F32]:
        """Documents that have an embedding: their positions, embeddings, nearest centroids, and cosines to these."""
        position = np.flatnonzero(batch["embedding"].is_valid().to_numpy())
        vectors = matrix(batch["embedding"].take(pa.array(position)))
        if len(vectors) and vectors.shape[1] != self.centroids.shape[1]:
            raise ValueError(
                f"stages.{self.label}: its clusters were learned of embeddings of {self.centroids.shape[1]} numbers, "
                f"these have {vectors.shape[1]}; --retrain {self.label} learns them anew"
            )
        return position, vectors, *nearest(vectors, self.centroids)


def matrix(column: pa.ChunkedArray) -> F32:
    """Vectors without nulls, as rows of length one."""
    values = column.combine_chunks()
    return unit(values.flatten().to_numpy().reshape(len(values), -1)) if len(values) else np.empty((0, 1), np.float32)


def vectors_of(rows: pa.Table) -> F32:
    """The column `vector` of shuffled rows."""
    return matrix(rows["vector"])


def lists(vectors: F32) -> pa.ListArray:
    """Rows of a matrix as lists."""
    count, size = vectors.shape
    return pa.ListArray.from_arrays(
        np.arange(0, (count + 1) * size, size, dtype=np.int32)[: count + 1], vectors.ravel()
    )


def nearest(vectors: F32, centroids: F32) -> tuple[NDArray[np.int64], F32]:
    """The nearest centroid of each vector, and their cosine."""
    found, cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), CHUNK):
        products = vectors[start : start + CHUNK] @ centroids.T
        best = products.argmax(1)
        found[start : start + CHUNK] = best
        cosine[start : start + CHUNK] = np.round(products[np.arange(len(best)), best], DECIMALS)
    return found, cosine


def kmeans(vectors: F32, clusters: int, seed: int) -> F32:
    """Centroids of length one (Dhillon & Modha 2001), begun by k-means++ (Arthur & Vassilvitskii 2007); fewer where
    there are fewer different vectors."""
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(vectors)))]
    distance = np.maximum(1 - vectors @ vectors[chosen[0]], 0).astype(np.float64)
    while len(chosen) < clusters and distance.max() > 1e-5:
        chosen.append(int(rng.choice(len(vectors), p=distance / distance.sum())))
        distance = np.minimum(distance, np.maximum(1 - vectors @ vectors[chosen[-1]], 0))
    centroids = unit(vectors[chosen])
    before = np.full(len(vectors), -1)
    for _ in range(ROUNDS):
        which, _ = nearest(vectors, centroids)
        if (which == before).all():
            break
        before = which
        sums = np.zeros(centroids.shape)
        np.add.at(sums, which, vectors)
        filled = np.bincount(which, minlength=len(centroids)) > 0
        centroids[filled] = unit(sums[filled])
    return centroids


def unit(vectors: NDArray[Any]) -> F32:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
