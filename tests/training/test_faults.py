"""What a training does about a rank that dies, is silent or ignores its end: and that nothing is lost by it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed import HashStore

from tasks.storage.store import Store
from tests import training_plan
from tests.training.test_torchrun import launched, losses, planned, written
from tests.training_plan import PLAN, spec
from tests.training_ranks import Ranks, _rank
from training import checkpoint, launch, log, watchdog
from training.ranks import fresh


def report(rank: int, count: int, *stack: str) -> dict[str, Any]:
    of = {"place": f"place {count}", "seconds": 9.0, "host": "here", "pid": 100 + rank}
    return {"rank": rank, "count": count, "stack": list(stack), **of}


def test_the_silent_rank_is_the_one_that_came_least_far_and_does_not_wait_for_others() -> None:
    waiting = "/lib/torch/distributed/distributed_c10d.py:5 in all_reduce"
    found = {0: report(0, 7, waiting), 1: report(1, 6, "rows.py:3 in batch"), 2: report(2, 7, waiting)}
    assert watchdog.silent(found, 3, 8).startswith(
        "rank 1 of 3 (process 101 on here) is silent for 9 s at place 6, in rows.py:3 in batch; the training ends"
    )
    found[1] = report(1, 7, "model.py:3 in forward")  # as at ZeRO 3, whose forward passes wait for others
    assert watchdog.silent(found, 3, 8).startswith("rank 1 of 3")
    del found[1]
    assert "and rank 1 of 3 does not answer: its process is stopped or gone" in watchdog.silent(found, 3, 8)


def _hanging(rank: int, world: int, *given: Any) -> None:
    """A rank, of which the last never comes back from reading the rows of its third step."""
    from training.rows import Rows

    read, calls = Rows.batch, []

    def batch(self: Rows, first: int, count: int) -> Any:
        calls.append(first)
        if rank == world - 1 and self.phase is not None and first >= 16:
            threading.Event().wait()
        return read(self, first, count)

    Rows.batch = batch  # type: ignore[method-assign]
    _rank(rank, world, *given)


def ended(processes: list[Any], seconds: float = 120) -> list[int | None]:
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


def test_a_rank_that_hangs_ends_the_group_is_named_with_its_stack_and_the_next_run_says_so(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(6,))
    made = spec(workers=2, micro=4, watchdog=3, checkpoint={"every": 1})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deepspeed", "training.loop", "transformers.models.llama.modeling_llama"])
    meeting = f"{tempfile.mkdtemp(dir=tmp_path)}/meeting"
    given = (meeting, str(tmp_path), [(made, PLAN, "r", False)], context.SimpleQueue())
    processes = [context.Process(target=_hanging, args=(rank, 2, *given)) for rank in range(2)]
    for process in processes:
        process.start()
    assert ended(processes) == [watchdog.ENDED] * 2
    said = watchdog.last_word(store, "r")
    assert said.startswith("rank 1 of 2 (process ")
    assert "at reading rows 20 to 24 of step 3, in " in said
    stack = store.json(f"{watchdog.folder('r')}/00001.json")["stack"]
    assert any(frame.endswith("in batch") for frame in stack)
    assert Ranks(tmp_path, 2, [(made, PLAN, "r", True)]).wait() == []
    [warning] = log.read(store, "r", "warning")
    assert warning["message"] == f"before this start, {said}"
    assert len(losses(store, "r")) == 6
    assert not store.list(watchdog.folder("r"))


def test_a_rank_whose_process_is_stopped_is_named_by_the_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(5000,))
    made = spec(workers=2, micro=4, watchdog=2)
    ranks = Ranks(tmp_path, 2, [(made, PLAN, "r", False)])
    until(lambda: log.read(store, "r"), ranks.processes[0].is_alive)
    os.kill(ranks.processes[1].pid, signal.SIGSTOP)
    assert ended(ranks.processes[:1]) == [watchdog.ENDED]
    ranks.kill()
    assert "and rank 1 of 2 does not answer" in watchdog.last_word(store, "r")


def until(condition: Callable[[], Any], alive: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that a launcher has started, in their order."""
    found = []
    for each in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
        try:
            if "RANK" in each.environ() and "training" in each.cmdline():
                found.append((int(each.environ()["RANK"]), each))
        except psutil.Error:
            continue
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def writing(store: Store, run: str) -> bool:
    """Whether a checkpoint is half written: a shard of it is there, and no list."""
    names = store.list(checkpoint.folder(run))
    return any(name.endswith(".safetensors") and f"{name[:8]}.json" not in names for name in names)


def killed(store: Store, path: Path, run: str, kills: int, steps: int) -> list[str]:
    """Train under torchrun, which starts the ranks again, with kill -9 of one of them at seeded moments -> which."""
    rng, moments = random.Random(kills), []
    restarts = ("--max-restarts", str(kills + 1), "--monitor-interval", "0.1")
    process, said = launched(path, run, launcher=restarts), list[str]()
    listening = threading.Thread(target=lambda: said.extend(process.stdout or ()))  # else they wait for a full pipe
    listening.start()
    try:
        for number in range(kills):
            at = (number + 1) * steps // (kills + 1) + rng.randrange(2)
            until(lambda at=at: max(checkpoint.steps(store, run), default=0) >= at, lambda: process.poll() is None)
            middle = number % 2 == 0
            if middle:
                until(lambda: writing(store, run), lambda: process.poll() is None)
            else:
                time.sleep(rng.uniform(0, 0.2))
            rank = rng.randrange(2)
            if len(ranks := children(process)) == 2:
                ranks[rank].kill()
                moments.append(f"rank {rank} after step {at}{', in the middle of a checkpoint' if middle else ''}")
        process.wait(timeout=400)
    finally:
        for each in (*children(process), process):
            each.kill()
        listening.join()
    assert process.returncode == 0, "".join(said)
    return moments


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.chaos)])
def test_ranks_that_are_killed_at_any_moment_change_no_bit(tmp_path: Path, kills: int) -> None:
    steps = 30 * kills
    made, store = spec(rows=8, micro=2, workers=2, checkpoint={"every": 2}), planned(tmp_path, steps)
    assert Ranks(tmp_path, 2, [(made, PLAN, "straight", False)]).wait() == []
    moments = killed(store, written(store, made), "killed", kills, steps)
    print("\n".join(moments))
    assert len(moments) == kills
    assert losses(store, "killed") == losses(store, "straight")
    assert len(log.read(store, "killed", "start")) == kills + 1
    assert final(store, "killed") == final(store, "straight")


def final(store: Store, run: str) -> list[Any]:
    """The digests of the last checkpoint's shards, and the sums of all losses: those of bytes are known only to a
    training that has a tokenizer."""
    last = checkpoint.load(store, run, max(checkpoint.steps(store, run)))
    sums = {name: each[:2] for name, each in (last.sums or {})[""].items()}
    return [last.cursor, [sha for _, _, sha in last.shards], sums]


def test_a_worker_that_dies_is_started_again_from_the_newest_checkpoint_inside_one_training(tmp_path: Path) -> None:
    store, killed = Store(str(tmp_path)), []
    training_plan.write(store, phases=(400,))  # seconds, so that it is seen while it goes on
    made = spec(workers=2, micro=4, checkpoint={"every": 50}, restarts=1)
    assert Ranks(tmp_path, 2, [(made, PLAN, "straight", False)]).wait() == []

    def follow(record: dict[str, Any]) -> None:
        if record["kind"] == "step" and not killed:
            workers = [
                each
                for each in psutil.Process().children(recursive=True)
                if each.name().startswith("ray::RayTrainWorker")
            ]
            killed.append(random.Random(1).choice(workers))
            killed[0].kill()

    summary = launch.train(made, str(tmp_path), PLAN, "r", training_plan.pin(store), False, follow)
    assert killed
    assert summary["steps"] == 400
    assert losses(store, "r") == losses(store, "straight")


def test_an_error_of_ours_is_not_tried_again_nor_is_a_mistake_of_the_code_and_a_death_is() -> None:
    from ray.exceptions import RayActorError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    died, lost = WorkerHealthCheckFailedError("failed", RayActorError()), OSError("reset")
    assert launch._died([lost, died])
    assert launch._died([lost])  # of the worker that died Ray may not know yet
    assert not launch._died([checkpoint.CheckpointError("broken"), died])
    assert not launch._died([KeyError("name")])
    assert not launch._died([])


@pytest.mark.chaos
def test_ranks_that_ignore_sigterm_are_gone_soon_after_torchrun_is_told_to_end(tmp_path: Path) -> None:
    made, store = spec(rows=8, micro=2, checkpoint={"every": 0}), planned(tmp_path, 5000)
    ignoring = tmp_path / "ignoring"
    ignoring.mkdir()
    (ignoring / "sitecustomize.py").write_text(
        "import signal, sys\n"
        "if '-m' in sys.orig_argv and sys.orig_argv[sys.orig_argv.index('-m') + 1] == 'training':\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    signal.signal = lambda *_: None\n"
    )
    process = launched(written(store, made), "r", before=[str(ignoring)])
    until(lambda: log.read(store, "r"), lambda: process.poll() is None)
    ranks = children(process)
    assert len(ranks) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    _, alive = psutil.wait_procs(ranks, timeout=5)
    assert alive == []


def test_ranks_that_are_started_again_meet_in_a_part_of_the_store_of_their_own() -> None:
    store, met = HashStore(), []

    def start(rank: int) -> None:
        met.append((rank, fresh(store, rank, 3)))

    for attempt in range(3):
        threads = [threading.Thread(target=start, args=(rank,)) for rank in (1, 2, 0)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)  # the others come first, and find what an earlier attempt left
        for thread in threads:
            thread.join(60)
        found = dict(met[3 * attempt :])
        found[0].set("address", str(attempt))
        assert [found[rank].get("address") for rank in (1, 2)] == [str(attempt).encode()] * 2
