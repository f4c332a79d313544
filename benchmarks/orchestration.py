"""What orchestration costs: Prefect, Ray, manifests and commits, beside the stages' own work.

First, the corpus stages of a spec by `sluice run` in a fresh store, against the same stages called directly by as many
processes, each in turn, in another; limit: 20 s + 3 %. Then 10,000 trivial shards through the fan-out: what a shard
costs beside its work, as a share of a shard of one minute (shards are sized to minutes of work); limit: 1 %.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_specs.base import Settings
from data_specs.cluster import Cluster
from flows import embedded
from flows.run import Run
from tasks.engine import fanout, ray_session, worker
from tasks.engine.job import Job
from tasks.engine.stage import Stage
from tasks.storage import columns
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import Store

SHARDS, SHARD_SECONDS = 10_000, 60.0
_held: tuple[str, Any] = ("", None)


def _job(stage_key: str, stage: Any, job: Job, store: Store) -> Entry:
    global _held
    if _held[0] != stage_key:
        if hasattr(_held[1], "close"):
            _held[1].close()
        _held = (stage_key, worker.prepare(stage, store))
    return worker.run(_held[1], job, store)


def directly(pool: Any) -> Callable[..., int]:
    """A fan-out that is a plain pool of processes."""

    def fan(stage: Any, stage_key: str, jobs: Sequence[Job], store: Store, cluster: Cluster, commit: Any) -> int:
        del cluster
        ordered = sorted(jobs, key=lambda job: -job.cost)
        commit(pool.starmap(_job, [(stage_key, stage, job, store) for job in ordered], chunksize=1))
        return 0

    return fan


def corpus_directly(spec: str, store: str) -> tuple[float, str]:
    """Seconds of the corpus stages of a spec, called directly by as many processes as there are cores; the last one."""
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        run = Run.of(spec, store)
        run.execution.run_jobs = directly(pool)
        for name in run.corpus_stages():
            run.stage(name, lambda *_: None, False, False)
    return time.perf_counter() - started, name


def corpus_orchestrated(spec: str, store: str, last: str) -> float:
    """Seconds of `sluice run` up to the last corpus stage."""
    command = [str(Path(sys.executable).parent / "sluice"), "run", spec, "--store", store, "--until", last]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


class Trivial(Stage):
    """One number a row."""

    name = "trivial"
    reads = ("text",)
    writes = pa.schema([("number", pa.int32())])

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table({"number": pa.array([1] * batch.num_rows, pa.int32())})


def trivial_shards() -> float:
    """Seconds that a trivial shard costs in the fan-out: task, read, commit, manifest."""
    with tempfile.TemporaryDirectory() as folder:
        store, ids = Store(folder), "0" * 32
        columns.write(store, "documents.parquet", pa.table({"text": ["one", "two"]}), {"ids": ids})
        inputs = (("documents.parquet", (("text", "text"),)),)
        keys = [f"{number:032x}" for number in range(SHARDS)]
        jobs = [Job("shard", k, f"columns/trivial/{k}.parquet", k, "b", ids, 2, inputs) for k in keys]
        manifest, stage = Manifest(store, "columns/trivial"), Trivial(Settings())
        with ray_session.running(Cluster()):
            started = time.perf_counter()
            failed = fanout.run(stage, "trivial", jobs, store, Cluster(), manifest.append)
            seconds = time.perf_counter() - started
        assert failed == 0
        assert sum(1 for _ in manifest.entries()) == SHARDS
    return seconds / SHARDS


def main() -> None:
    embedded.prepare()
    spec = sys.argv[1] if len(sys.argv) > 1 else "data_specs/demo.yaml"
    with tempfile.TemporaryDirectory() as folder:
        direct, last = corpus_directly(spec, f"{folder}/direct")
        orchestrated = corpus_orchestrated(spec, f"{folder}/orchestrated", last)
    cost, limit = orchestrated - direct, 20 + 0.03 * direct
    print(f"corpus stages: directly {direct:.1f} s, by sluice run {orchestrated:.1f} s")
    print(f"orchestration: {cost:.1f} s (limit {limit:.1f})")
    seconds = trivial_shards()
    share, cores = seconds / SHARD_SECONDS, os.cpu_count()
    print(f"{SHARDS:,} trivial shards, {cores} cores: {1e3 * seconds:.2f} ms each, {share:.3%} of a minute (limit 1 %)")


if __name__ == "__main__":
    main()
