"""Who survives among duplicates is the same by 1, 2 and 4 workers, in any order of jobs, and after any kill."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.engine import fanout, ray_session
from tests import generations
from tests.whole import go

ROOT = Path(__file__).parents[3]
FILES = generations.pages(6, 60, seed=4)
BUSY, IDLE = "ray::_run", "ray::IDLE"
"""What Ray calls the processes of its workers; the others that it names so it cannot do without."""
COLUMNS = ("exact", "candidates", "pairs", "alike", "clusters", "verdict")
Survivors = dict[str, list[bytes]]
"""Digests of what the stages of duplicates wrote, and of who survives, shard by shard."""


@contextmanager
def worker_that_dies(killed: list[int]) -> Iterator[None]:
    """Kill one of the workers of a local Ray, one that does a job where there is one; note its number."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.01):
            named = {each.name(): each for each in psutil.Process().children(recursive=True)}
            if worker := named.get(BUSY) or named.get(IDLE):
                worker.kill()
                killed.append(worker.pid)
                return

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(kill)
        try:
            yield
        finally:
            ended.set()
            with suppress(psutil.Error):  # of a process that ended by itself meanwhile
                done.result()


def shuffled(seed: int, killed: list[int]) -> Any:
    """The fan-out on Ray, to which jobs come in an order of chance, and of which a worker dies in each step of the
    stages of duplicates."""
    chance = random.Random(seed)

    def fan(stage: Any, stage_key: str, jobs: Any, *more: Any) -> int:
        with worker_that_dies(killed) if getattr(stage, "name", "") in COLUMNS else nullcontext():
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
    killed: list[int] = []
    assert survivors(corpus, corpus.parent / f"by-{workers}", workers, shuffled(workers, killed)) == alone
    assert len(killed) > len(COLUMNS)


def test_survivors_are_the_same_where_the_driver_is_killed_in_the_middle(corpus, alone) -> None:
    store = corpus.parent / "killed"
    for stage in ("exact", "pairs"):
        command = [sys.executable, "-m", "tests.whole", str(corpus), f"store={store}", "cluster.cpus=2"]
        driver = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while not [*store.glob(f"columns/{stage}@*/map/*.arrow")]:
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
    assert not [*store.glob("columns/verdict@*")]
    assert survivors(corpus, store, 2, fanout.run) == alone
