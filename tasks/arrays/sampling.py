"""Which documents a model is learned from: the smallest seeded hashes of their ids, so many of each group.

The choice does not depend on how documents lie in shards: choosing from each shard, then from all that was chosen,
gives what choosing from all documents at once gives. So a shard returns a bounded sample without knowing the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrays.hashing import seeded_hash, words


def smallest(rows: pa.Table, count: int, by: Sequence[str], *key: int | str) -> pa.Table:
    """The rows whose hash of (`id`, key) is among the `count` smallest of their group (equal values of the columns
    `by`, nulls a value of their own), in the order of the hash: a seeded shuffle. 2M rows/s on one core."""
    rank = seeded_hash(words(rows["id"]), *key)
    group = np.zeros(rows.num_rows, np.int64)
    for name in by:
        codes = pc.dictionary_encode(rows[name].combine_chunks(), null_encoding="encode")
        group = group * max(len(codes.dictionary), 1) + codes.indices.to_numpy()
    order = np.lexsort((rank, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    chosen = order[place < count]
    return rows.take(chosen[np.argsort(rank[chosen], kind="stable")])
