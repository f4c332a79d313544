"""Who survives among duplicates is the same by 1, 2 and 4 workers, in any order of jobs, and after any kill."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.engine import fanout, ray_session
from tests import generations
from tests.whole import go

ROOT = Path(__file__).parents[3]
FILES = generations.pages(6, 60, seed=4)
COLUMNS = ("exact", "candidates", "alike", "clusters", "verdict")
Survivors = dict[str, list[bytes]]
"""Digests of what the stages of duplicates wrote, and of who survives, shard by shard."""


@contextmanager
def workers_that_die(most: int) -> Iterator[list[int]]:
    """Kill so many of the workers of a local Ray, each while it does a job; their numbers."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while len(killed) < most and not ended.wait(0.01):
            for process in psutil.Process().children(recursive=True):
                try:
                    if len(killed) < most and process.name().startswith("ray::_run"):
                        process.kill()
                        killed.append(process.pid)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def shuffled(seed: int) -> Any:
    """The fan-out on Ray, to which jobs come in an order of chance."""
    chance = random.Random(seed)

    def fan(stage: Any, stage_key: str, jobs: Any, *more: Any) -> int:
        return fanout.run(stage, stage_key, chance.sample(jobs, len(jobs)), *more)

    return fan


def survivors(path: Path, store: Path, workers: int, fan: Any) -> Survivors:
    settings = [f"store={store}", f"cluster.cpus={workers}", "cluster.shard_memory=64MiB"]
    try:
        run = go(path, settings, fan=fan, until="verdict")
    finally:
        ray_session.stop()
    outputs = run.pipeline.outputs
    found = {
        f"{name}.{column}": sorted(row.tobytes() for row in digests)
        for name in COLUMNS
        for column, digests in outputs[name].index.digests.items()
    }
    assert len(found["verdict.kept"]) == len(run.pipeline.shards)
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generations.corpus(tmp_path_factory.mktemp("survivors"), FILES)


@pytest.fixture(scope="module")
def alone(corpus: Path) -> Survivors:
    """By one worker."""
    return survivors(corpus, corpus.parent / "alone", 1, fanout.run)


@pytest.mark.parametrize("workers", [2, 4])
def test_survivors_are_those_of_one_worker_also_where_workers_die(corpus, alone, workers) -> None:
    with workers_that_die(most=workers) as killed:
        assert survivors(corpus, corpus.parent / f"by-{workers}", workers, shuffled(workers)) == alone
    assert killed


def test_survivors_are_the_same_where_the_driver_is_killed_in_the_middle(corpus, alone) -> None:
    store = corpus.parent / "killed"
    for stage in ("exact", "alike"):
        command = [sys.executable, "-m", "tests.whole", str(corpus), f"store={store}", "cluster.cpus=2"]
        driver = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while not [*store.glob(f"columns/{stage}@*/map/*.arrow")]:
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
    assert not [*store.glob("columns/verdict@*")]
    assert survivors(corpus, store, 2, fanout.run) == alone
