"""Clusters of synthetic near-duplicates: the rounds they take, and the peak memory of the largest reduction and of an
election.

`python -m benchmarks.clusters [DOCUMENTS]`: 10 million documents by default, all of them in clusters, in 100 shards
(needs some GB of disk). Each job runs in a process of its own; its memory is its peak above that of one that does
nothing, pages of mapped files included. Then the rounds of graphs that are hard, of 100,000 documents; and the election
of one cluster of a tenth as many documents, and of one of four times that, with six pairs each.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.base import Settings
from data_specs.dedup import Duplicates
from data_specs.spec import Spec
from tasks import registry
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS
from tasks.decision.verdict import Verdict
from tasks.dedup.clusters import Clusters
from tasks.dedup.duplicates import Exact
from tasks.dedup.pairs import AlikePairs
from tasks.engine import worker
from tasks.engine.job import Job
from tasks.engine.nodes import Node
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import Execution
from tasks.engine.stage import DOCUMENTS, Stage
from tasks.sources import InputShard
from tasks.storage import columns
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import Store

SHARDS = 100
KEEP = ("quality", "length")


class Given(Stage):
    """The columns that clusters are made of."""

    name = "given"
    reads = ("text",)
    writes = pa.schema([Exact.writes.field("copy_of"), AlikePairs.writes.field("alike")])

    def __call__(self, batch: pa.Table) -> pa.Table:
        raise AssertionError("nothing is computed here")


def pipeline(folder: str, stage: Clusters) -> Pipeline:
    settings = {"name": "synthetic", "store": folder, "channels": {"all": "true"}}
    spec = Spec.model_validate(settings | {"sources": {"web": {"kind": "text", "paths": "x"}}})
    given = Given(Settings())
    nodes = [Node("given", given), Node("clusters", stage)]
    made = Pipeline(spec, Store(folder), "benchmark", lambda *_: nodes, registry.readers(spec))
    made.shards = [InputShard("web", f"web-{n:06d}", f"{n:032x}", ()) for n in range(SHARDS)]
    return made


def write(folder: str, one: np.ndarray, other: np.ndarray, documents: int) -> None:
    """A store in which documents, dealt in turn to shards, are alike as edges say."""
    made = pipeline(folder, Clusters(Duplicates()))
    ids = [f"{(n + 1) * 0x9E3779B97F4A7C15 % 2**64:016x}{n:016x}" for n in range(SHARDS)]
    keys = made.documents().index.keys
    rows = [len(range(shard, documents, SHARDS)) for shard in range(SHARDS)]
    digests = dict.fromkeys(DOCUMENTS.names, "0" * 32)
    Manifest(made.store, made.outputs["documents"].folders[0]).append(
        [entry(key, n, rows[n], digests | {"id": ids[n]}) for n, key in enumerate(keys)]
    )
    made.documents()
    output = made.resolve(made.node("given"))
    uids = np.array([int(each[:16], 16) for each in ids], np.uint64)
    one, other = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.lexsort((one, one % SHARDS))
    one, other = one[order], other[order]
    ends = np.searchsorted(one % SHARDS, np.arange(SHARDS + 1))
    entries = []
    for shard in range(SHARDS):
        mine, others = one[ends[shard] : ends[shard + 1]], other[ends[shard] : ends[shard + 1]]
        similarity = np.ones(len(others), np.float32)
        place = (others // SHARDS).astype(np.uint32)
        pairs = pa.StructArray.from_arrays([uids[others % SHARDS], place, similarity], fields=list(SIMILAR_ADDRESS))
        offsets = np.searchsorted(mine // SHARDS, np.arange(rows[shard] + 1)).astype(np.int32)
        alike = pa.ListArray.from_arrays(offsets, pairs, mask=pa.array(np.diff(offsets) == 0))
        table = pa.table([pa.nulls(rows[shard], Given.writes.types[0]), alike], schema=Given.writes)
        found = entry(output.index.keys[shard], shard, rows[shard], columns.digests(table)) | {"ids": ids[shard]}
        columns.write(made.store, output.path(shard), table, found)
        entries.append(found)
    Manifest(made.store, output.folders[0]).append(entries)


def entry(key: str | None, shard: int, rows: int, digests: dict[str, str]) -> Entry:
    known = {"key": key, "shard": f"web-{shard:06d}", "ids": digests.get("id"), "rows": rows, "columns": digests}
    return known | {"bytes": 1000, "seconds": 0.0, "run": "benchmark"}


def alone(task: Callable[[], Any]) -> tuple[Any, int, float]:
    """What a task returns, done in a process of its own, and that process's peak memory in bytes and CPU seconds."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, pickle.dumps(task()))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        data = file.read()
    usage = os.wait4(child, 0)[2]
    return pickle.loads(data), usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


class Watched:
    """A fan-out of one process a job, which notes the kind, peak memory and CPU seconds of each."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, int, float]] = []
        self.kinds_run: list[str] = []

    def __call__(self, stage: Any, stage_key: str, jobs: Sequence[Job], store: Store, cluster: Any, commit: Any) -> int:
        del stage_key, cluster
        self.kinds_run.append(jobs[0].kind)
        stage = worker.prepare(stage, store)
        nothing = alone(lambda: None)[1]
        entries = []
        for job in jobs:
            found, peak, seconds = alone(lambda job=job: worker.run(stage, job, store))  # type: ignore[misc]
            self.jobs.append((job.kind, peak - nothing, seconds))
            entries.append(found)
        commit(entries)
        return 0


def clustered(folder: str, partitions: int, rows_per_reduce: int, fan: Any) -> bytes:
    """Find the clusters of a store anew; returns their digests."""
    stage = Clusters(Duplicates(partitions=partitions))
    stage.rows_per_reduce = rows_per_reduce
    made = pipeline(folder, stage)
    made.documents()
    made.resolve(made.node("given"))
    Execution(made, run_jobs=fan).stage("clusters")
    made.store.remove(*made.store.walk(made.folder(stage)))
    return made.outputs["clusters"].index.digests["cluster"].tobytes()


def memory(documents: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        alone(lambda: write(folder, *near_duplicates(documents), documents))
        print(f"{documents:,} documents in clusters, {SHARDS} shards; peak memory in MiB:")
        values = set()
        for partitions, rows_per_reduce in ((1, documents), (16, 1), (64, 1)):
            watched = Watched()
            values.add(clustered(folder, partitions, rows_per_reduce, watched))
            kinds = [kind for kind, _, _ in watched.jobs]
            peaks = {kind: max(p for k, p, _ in watched.jobs if k == kind) / 2**20 for kind in dict.fromkeys(kinds)}
            print(
                f"{kinds.count('reduce'):3} reductions, {watched.kinds_run.count('round'):2} rounds:",
                ", ".join(f"{kind} {value:,.0f}" for kind, value in peaks.items()),
                f"; {sum(seconds for _, _, seconds in watched.jobs):,.0f} CPU s",
                flush=True,
            )
        assert len(values) == 1


def rounds() -> None:
    kinds_run: list[str] = []

    def fan(stage: Any, stage_key: str, jobs: Sequence[Job], store: Store, cluster: Any, commit: Any) -> int:
        del stage_key, cluster
        kinds_run.append(jobs[0].kind)
        commit([worker.run(stage, job, store) for job in jobs])
        return 0

    for name, graph in graphs().items():
        with tempfile.TemporaryDirectory() as folder:
            write(folder, *graph)
            counts = {}
            for partitions in (16, 64):
                kinds_run.clear()
                clustered(folder, partitions, 1, fan)
                counts[partitions] = kinds_run.count("round")
        print(f"{name}: {' and '.join(f'{n} rounds in {p} partitions' for p, n in counts.items())}", flush=True)


def election(documents: int) -> None:
    """Print what the election of one cluster takes: the memory that is the process's own, without pages of files."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.arrow")
        alone(lambda: one_cluster(path, documents))

        def elect() -> tuple[int, int]:
            batches = pa.ipc.open_file(pa.memory_map(path)).read_all().to_batches(2**14)
            return held(lambda: sum(map(len, Verdict((), KEEP).reduce_blocks(batches))))

        (removed, most), _, seconds = alone(elect)
        print(
            f"one cluster of {documents:,} documents, {removed:,} removed: {most / 2**20:.0f} MiB; {seconds:.0f} CPU s",
            flush=True,
        )


def held(task: Callable[[], int]) -> tuple[int, int]:
    """What a task returns, and the most bytes of its own that the process had meanwhile, above those before."""
    ended, found = threading.Event(), [own_bytes()]

    def watch() -> None:
        while not ended.wait(0.01):
            found.append(own_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        result = task()
    finally:
        ended.set()
        watching.join()
    return result, max(found) - found[0]


def own_bytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))


def one_cluster(path: str, documents: int) -> None:
    """Write the rows that the verdict's election reads, of documents that are alike to six others each on average."""
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, documents, (2, 3 * documents))
    one, other = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.argsort(one, kind="stable")
    one, other = one[order], other[order]
    shards = rng.integers(0, 2**63, SHARDS).astype(np.uint64)
    similarity = np.full(len(other), 0.9, np.float32)
    place = (other // SHARDS).astype(np.uint32)
    pairs = pa.StructArray.from_arrays([shards[other % SHARDS], place, similarity], fields=list(SIMILAR_ADDRESS))
    offsets = np.searchsorted(one, np.arange(documents + 1)).astype(np.int32)
    numbers = np.arange(documents)
    columns = {
        "position": (numbers // SHARDS).astype(np.uint32),
        "id": pa.array([each.to_bytes(16, "big") for each in range(documents)], pa.binary(16)),
        "cluster": np.zeros(documents, np.uint64),
        "copy_of": pa.nulls(documents, ADDRESS),
        "alike": pa.ListArray.from_arrays(offsets, pairs),
        "hub": np.zeros(documents, bool),
        "held_out": np.zeros(documents, bool),
        "passes": np.ones(documents, bool),
        "quality": rng.random(documents).astype(np.float32),
        "text_length": rng.integers(0, 5000, documents).astype(np.uint32),
        "shard": shards[numbers % SHARDS],
    }
    rows = pa.table(columns).select([*Verdict((), KEEP).shuffled.names, "shard"])
    with pa.ipc.new_file(path, rows.schema) as file:
        file.write_table(rows)


def near_duplicates(documents: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of two or more, their sizes by a power law up to a million: each document but the first of a cluster is
    alike to one before it."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.zipf(2.0, documents // 3) + 1, 10**6)
    sizes = sizes[np.cumsum(sizes) <= documents]
    cluster, start = np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes) - sizes
    rank = np.arange(len(cluster)) - start[cluster]
    later = np.flatnonzero(rank)
    order = rng.permutation(documents)
    return order[later], order[start[cluster[later]] + rng.integers(0, rank[later])]


def graphs() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    rng, count = np.random.default_rng(1), 100_000
    order, numbers = rng.permutation(count), np.arange(count - 1)
    chance = rng.integers(0, count, (3, 2, count))
    return {
        "chain of 1,000 in order": (numbers[:999], numbers[:999] + 1, 1000),
        "chain of 1,000": (order[order < 1000][:-1], order[order < 1000][1:], 1000),
        "chain of 100,000": (order[:-1], order[1:], count),
        "star of 100,000": (np.full(count - 1, count // 2), np.delete(np.arange(count), count // 2), count),
        "random, 0.5 pairs a document": (*chance[0][:, : count // 2], count),
        "random, 1 pair a document": (*chance[1], count),
    }


def main() -> None:
    pa.chunked_array([[1]]).to_numpy()  # loads what a worker loads once
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    memory(documents)
    rounds()
    for count in (documents // 10, 4 * documents // 10):
        election(count)


if __name__ == "__main__":
    main()
