"""Near duplicates: documents per second of one core beside datasketch, rensa and datatrove, and recall and precision
against brute force.

`python -m benchmarks.duplicates FILE.jsonl.gz ...`: lines with `text`. Rates are medians of interleaved rounds, so that
a busy machine slows all alike; the ratio is to be compared, not the rate. From texts to clusters ours verifies each
pair, which none of the others does. For recall, each document gets an edited twin
(0.2 to 5 % of its words replaced); true similarities come from shingles made by a loop in Python, all pairs compared.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import xxhash
from datasketch import MinHash
from datatrove.pipeline.dedup.minhash import MinhashDedupSignature
from scipy.sparse import csr_array, triu

from benchmarks import duplicates_peers as peers
from benchmarks.duplicates_peers import word_shingles
from data_specs.dedup import Duplicates
from tasks.dedup import minhash
from tasks.dedup.clusters import Clusters
from tasks.dedup.pairs import evidence
from tasks.text import units
from tests import corpus_runner

ROUNDS = 5
SETTINGS = Duplicates()
ALONE = Duplicates(floor=SETTINGS.threshold)
"""Pairs are kept that reach the threshold, and no others: what peers do."""


def texts(paths: list[str]) -> Iterator[str]:
    """Texts of 500 to 2,000 words, about 1,000 on average: the size that rates of peers are stated for."""
    for path in paths:
        with gzip.open(path, "rt") as lines:
            yield from (text for line in lines if 500 <= len((text := json.loads(line)["text"]).split()) <= 2000)


def true_shingles(text: str) -> set[tuple[str, ...]]:
    """Shingles of five units as they are defined, by a loop over characters: of words, and of characters of scripts
    written without spaces."""
    alone = {character for character in set(text) if any(low <= ord(character) <= high for low, high in units.UNSPACED)}
    apart = "".join(f" {each} " if each in alone else each for each in text)
    folded = map(units.folding, apart)
    words = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in folded).split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def rates(documents: list[str]) -> None:
    """Texts to clusters, texts to signatures, and shingles that are ready to signatures; each beside ours."""
    bands, rows = minhash.bands_and_rows(SETTINGS.threshold, SETTINGS.hashes)
    some = documents[: len(documents) // 20]
    ready = list(minhash.shingles(documents, 5, 5))
    ready_bytes = [[shingle.encode() for shingle in word_shingles(text)] for text in documents]
    theirs = MinhashDedupSignature(tempfile.gettempdir(), peers.DATATROVE)
    ready_datatrove = [theirs.get_shingles(text) for text in documents[:200]]

    def in_bulk(shingles: list[list[bytes]]) -> None:
        MinHash.bulk(shingles, num_perm=128, hashfunc=xxhash.xxh32_intdigest)

    groups: list[dict[str, tuple[int, Callable[[], object]]]] = [
        {
            "Sluice, text to clusters, pairs from .5 on": (len(documents), lambda: clusters(documents)),
            "Sluice, the same from .8 on": (len(documents), lambda: clusters(documents, ALONE)),
            "datasketch in bulk with xxh32, its LSH": (
                len(documents),
                lambda: peers.datasketch(documents, bands, rows),
            ),
            "rensa in a matrix, its LSH: flags": (len(documents), lambda: peers.rensa(documents)),
            "datatrove, its four steps": (len(some), lambda: peers.datatrove(some)),
        },
        {
            "Sluice, text to bands": (len(documents), lambda: minhash.sketches(documents, 5, 5, bands, rows)),
            "datasketch, text to signature": (
                len(documents),
                lambda: in_bulk([[shingle.encode() for shingle in word_shingles(text)] for text in documents]),
            ),
            "datatrove, text to signature": (
                len(some),
                lambda: [theirs.get_signature(theirs.get_shingles(text)) for text in some],
            ),
        },
        {
            "Sluice, shingles to 128 hashes": (
                len(documents),
                lambda: [minhash.signatures(*each, 128) for each in ready],
            ),
            "datasketch, shingles to 128 hashes (32 bits)": (len(documents), lambda: in_bulk(ready_bytes)),
            "rensa, the same shingles, values of 32 bits": (
                len(documents),
                lambda: [peers.rensa_values(*each) for each in ready],
            ),
            "rensa, left in its matrix": (
                len(documents),
                lambda: [peers.rensa_signatures(*each) for each in ready],
            ),
            "datatrove, shingles to 128 hashes": (
                len(ready_datatrove),
                lambda: [theirs.get_signature(each) for each in ready_datatrove],
            ),
        },
    ]
    if peers.RMinHash is None:
        print("rensa is not installed: it is left out")
        groups = [{name: each for name, each in group.items() if "rensa" not in name} for group in groups]
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, (count, work) in (each for group in groups for each in group.items()):
            started = time.process_time()
            work()
            seconds.setdefault(name, []).append((time.process_time() - started) / count)
    words = sum(len(text.split()) for text in documents) / len(documents)
    print(f"{len(documents):,} documents of {words:,.0f} words on average, CPU time, median of {ROUNDS} rounds")
    for group in groups:
        ours = seconds[next(iter(group))]
        for name in group:
            ratio = median(a / b for a, b in zip(seconds[name], ours, strict=True))
            print(f"  {name:46} {1 / median(seconds[name]):10,.0f} documents/s   {ratio:6.1f} x our time")


def clusters(documents: list[str], settings: Duplicates = SETTINGS) -> pa.Table:
    """One shard from texts to clusters, in memory."""
    table = pa.table({"text": documents})
    for stage in (*evidence(settings), Clusters(settings)):
        [table] = corpus_runner.run(stage, [table])
    return table


def quality(documents: list[str]) -> None:
    chance = random.Random(1)
    edited = []
    for text in documents:
        words = text.split()
        for at in chance.sample(
            range(len(words)), max(1, round(chance.choice([0.002, 0.01, 0.03, 0.05]) * len(words)))
        ):
            words[at] = chance.choice(words)
        edited.append(" ".join(words))
    everything = documents + edited
    started = time.perf_counter()
    table = clusters(everything)
    ours = time.perf_counter() - started
    found = {
        (index, pair["position"]): pair["similarity"]
        for index, pairs in enumerate(table["alike"].to_pylist())
        for pair in pairs or ()
        if index < pair["position"]
    }
    copies = set(np.flatnonzero(table["copy_of"].is_valid()).tolist())
    true = {pair: value for pair, value in similarities(everything).items() if not copies.intersection(pair)}
    right = sum(np.float32(true[pair]) == value for pair, value in found.items())
    print(f"{len(everything):,} documents, half of them edited, in {ours:.1f} s; beside all pairs by brute force:")
    print(f"  {len(copies):,} copies; {len(found):,} pairs found, {right:,} of them with their true similarity")
    bands, rows = minhash.bands_and_rows(SETTINGS.compared_from, SETTINGS.hashes)
    for low, high in itertools.pairwise([0.8, 0.85, 0.9, 0.95, 1.01]):
        inside = {pair: value for pair, value in true.items() if low <= value < high}
        recall = len(inside.keys() & found.keys()) / max(len(inside), 1)
        theory = np.mean([1 - (1 - value**rows) ** bands for value in inside.values()]) if inside else 0
        print(f"  similarity from {low:.2f}: {len(inside):5,} true pairs, recall {recall:.3f}, in theory {theory:.3f}")


def similarities(everything: list[str]) -> dict[tuple[int, int], float]:
    """Jaccard similarity of all pairs that have a shingle in common, by counting common ones."""
    numbers: dict[tuple[str, ...], int] = {}
    sets = [[numbers.setdefault(each, len(numbers)) for each in true_shingles(text)] for text in everything]
    sizes = np.array([len(each) for each in sets])
    rows = np.repeat(np.arange(len(sets)), sizes)
    matrix = csr_array((np.ones(len(rows)), (rows, np.concatenate(sets))), shape=(len(sets), len(numbers)))
    common = triu(matrix @ matrix.T, k=1).tocoo()
    value = common.data / (sizes[common.row] + sizes[common.col] - common.data)
    return dict(zip(zip(common.row.tolist(), common.col.tolist(), strict=True), value.tolist(), strict=True))


def main() -> None:
    if len(sys.argv) < 2 or not all(Path(path).is_file() for path in sys.argv[1:]):
        sys.exit("usage: python -m benchmarks.duplicates FILE.jsonl.gz ...")
    documents = list(itertools.islice(texts(sys.argv[1:]), 1000))
    rates(documents)
    quality(documents)


if __name__ == "__main__":
    main()
