"""Seeded 64-bit hashes of document ids: the only source of chance in what is sampled, held out and ordered.

A choice by hash depends on the document and the seed alone, never on position, shard, worker or library version. Ids
are 128-bit hashes already; SplitMix64's finaliser (Steele, Lea & Flood 2014) mixes the seed into them.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import pyarrow as pa


def words(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """binary(16) ids without nulls -> their first 64 bits, uint64 [n]."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if array.type != pa.binary(16) or array.null_count:
        raise ValueError(f"ids must be binary(16) without nulls; got {array.type} with {array.null_count} nulls")
    if not len(array):
        return np.empty(0, np.uint64)
    return np.frombuffer(array.buffers()[1], "<u8")[2 * array.offset : 2 * (array.offset + len(array)) : 2].copy()


def seeded_hash(values: np.ndarray, *key: int | str) -> np.ndarray:
    """uint64 [n] -> uint64 [n], a bijection for each key, with keys giving independent ones; .8 billion values/s."""
    return mix(values ^ salt(*key))


def mix(z: np.ndarray) -> np.ndarray:
    """uint64 [n] -> the same array, its values mixed."""
    z ^= (shifted := z >> np.uint64(30))
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= np.right_shift(z, np.uint64(27), out=shifted)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= np.right_shift(z, np.uint64(31), out=shifted)
    return z


@lru_cache(2**10, typed=True)
def salt(*key: int | str) -> np.uint64:
    """64 bits of a key."""
    return np.frombuffer(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "<u8")[0]


def below(values: np.ndarray, share: float) -> np.ndarray:
    """Which hashes fall into the first `share` (0 to 1) of the 64-bit range; bool [n]."""
    return values.astype(np.float64) < share * 2.0**64
