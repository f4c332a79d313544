"""What others do from texts to duplicates, as their users call them: each takes texts and finds which belong together.

rensa is no part of the environment: `pip install -e .[bench]`.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from datasketch import MinHash, MinHashLSH
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from loguru import logger
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # rensa's threads: one core, as all others have
try:
    from rensa import RMinHash, RMinHashLSH
except ImportError:
    RMinHash = None

logger.disable("datatrove")
HASHES = 128
DATATROVE = MinhashConfig(num_buckets=16, hashes_per_bucket=8)


def word_shingles(text: str) -> set[str]:
    """Shingles as users of these libraries make them: five words each."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())
    return {" ".join(words[at : at + 5]) for at in range(len(words) - 4)}


def datasketch(texts: list[str], bands: int, rows: int) -> np.ndarray:
    """The number of each text's cluster: signatures in bulk by the fastest hash function, LSH, connected components."""
    shingles = [[shingle.encode() for shingle in word_shingles(text)] for text in texts]
    signatures = MinHash.bulk(shingles, num_perm=HASHES, hashfunc=xxhash.xxh32_intdigest)
    lsh = MinHashLSH(params=(bands, rows), num_perm=HASHES)
    with lsh.insertion_session() as session:
        for number, each in enumerate(signatures):
            session.insert(number, each, check_duplication=False)
    return _components(
        ((number, other) for number, each in enumerate(signatures) for other in lsh.query(each)), len(texts)
    )


def rensa(texts: list[str]) -> list[bool]:
    """Which texts are like an earlier or a later one, by its LSH, in the form that its authors call the fastest without
    sampling: whole matrices."""
    shingles = [list(word_shingles(text)) for text in texts]
    matrix = RMinHash.digest_matrix_from_token_sets(shingles, num_perm=HASHES, seed=1)
    return list(RMinHashLSH(0.8, HASHES, 16).insert_matrix_and_query_duplicate_flags(matrix))


def rensa_signatures(hashes: np.ndarray, offsets: np.ndarray) -> Any:
    """Signatures of 64-bit hashes that are ready, in a matrix of its own."""
    return RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), num_perm=HASHES, seed=1)


def rensa_values(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The same as values, [texts, HASHES], which its matrix gives out as lists alone."""
    return np.array(rensa_signatures(hashes, offsets).to_rows(), np.uint32)


def datatrove(texts: list[str]) -> int:
    """Its four steps, one after the other in this process; how many texts are left."""
    with tempfile.TemporaryDirectory() as folder:
        signatures, buckets, removed = (str(Path(folder, name)) for name in ("signatures", "buckets", "removed"))
        documents = [Document(text, str(number)) for number, text in enumerate(texts)]
        MinhashDedupSignature(signatures, DATATROVE).run(iter(documents))
        for bucket in range(DATATROVE.num_buckets):
            MinhashDedupBuckets(signatures, buckets, config=DATATROVE).run(
                rank=bucket, world_size=DATATROVE.num_buckets
            )
        MinhashDedupCluster(buckets, removed, config=DATATROVE).run()
        return sum(1 for _ in MinhashDedupFilter(removed).run(iter(documents)))


def _components(pairs: Iterable[tuple[int, int]], count: int) -> np.ndarray:
    found = np.array(list(pairs), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(found), bool), found.T), shape=(count, count))
    return connected_components(graph, directed=False)[1]
