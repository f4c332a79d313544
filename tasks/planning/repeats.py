"""How often each document stands in an epoch: cells of a corpus that are read more often or less, documents of which a
crawl had many copies (rehydration), and hosts of which no more than so many tokens are read.

A document that stands three times is three entries, with hashes of their own, so that its copies are spread over the
epoch as other documents are; one that stands half a time stands in every epoch or in none, by a hash of its id. All
that follows (usage, caps, packing) is of entries; usage tables are of documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_specs.spec import Spec
from tasks.arrays.groups import changes, numbers_within
from tasks.arrays.hashing import seeded_hash
from tasks.planning.packing import Documents


def asked(spec: Spec) -> bool:
    """Whether a spec's documents stand otherwise than once each."""
    mixture = spec.mixture
    return bool(mixture.repeat or mixture.rehydration or mixture.host_tokens)


def times(spec: Spec, cells: Sequence[np.ndarray], cluster_size: np.ndarray | None, count: int) -> np.ndarray:
    """How often each of `count` documents stands in an epoch, float64. `cells`: which are in each cell of
    `mixture.repeat`, bool, of which the first counts; `cluster_size`: documents of each one's cluster of duplicates."""
    found = np.ones(count)
    free = np.ones(count, bool)
    for cell, inside in zip(spec.mixture.repeat, cells, strict=True):
        found[inside & free] = cell.times
        free &= ~inside
    if cluster_size is not None:
        table = {1: 1.0, **spec.mixture.cluster_times}
        sizes = sorted(table)
        place = np.searchsorted(sizes, np.maximum(cluster_size, 1), "right") - 1
        found *= np.array([table[size] for size in sizes])[place]
    return found


def entries(documents: Documents, spec: Spec) -> tuple[Documents, np.ndarray]:
    """The entries of a channel's documents (with `times`, and hosts where they are capped), and which document each is
    (int64)."""
    seed, whole = spec.seed, np.floor(documents.extra["times"])
    chance = seeded_hash(documents.hash, seed, "times").astype(np.float64) / 2.0**64
    more = chance < documents.extra["times"] - whole
    count = whole.astype(np.int64) + more
    if spec.mixture.host_tokens:
        count[~_under(documents, count, spec.mixture.host_tokens, seed)] = 0
    origin = np.repeat(np.arange(len(count)), count)
    copy = numbers_within(count)
    hashes = np.where(
        copy > 0, seeded_hash(documents.hash[origin] + copy.astype(np.uint64), "copy"), documents.hash[origin]
    )
    found = documents.take(origin)
    seen = found.seen
    if seen is not None:  # those that were read first are behind those that were not
        each = count[origin]
        seen = ((seen + each - 1 - copy) // each).astype(np.int32)
    return replace(found, hash=hashes, seen=seen, extra={}), origin


def _under(documents: Documents, count: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Which documents are, with their host's others before them in the order of a hash, of at most so many tokens; all
    of those without a host.

    Beside the steps: at most 30 tokens; documents of 10, 20 and 5 tokens of one host and one of 30 without; by the hash
    the third comes before the second and that before the first."""
    host = documents.extra["host"]
    order = np.lexsort((seeded_hash(documents.hash, seed, "host"), host))
    tokens = (documents.length.astype(np.int64) * count)[order]  # 30, 5 20 10
    total = np.cumsum(tokens)  # 30, 35 55 65
    starts = np.flatnonzero(changes(host[order]))  # 0 1: where each host begins
    before = np.repeat(total[starts] - tokens[starts], np.diff(np.append(starts, len(order))))  # 0, 30 30 30
    under = np.empty(len(order), bool)
    under[order] = total - before <= most  # 5 and 25 are, 35 is not
    return under | (host == 0)
