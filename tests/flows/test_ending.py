"""`sluice run` that something ends in the middle: its exit code, its last word, what is left running, and that the next
run goes on from there to the same values."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from flows.run import Run
from tasks.engine import ray_session
from tests import small, whole
from training import checkpoint, log

PATIENCE = 240
"""Seconds for what takes some on a quiet machine."""
END = 60
"""Seconds that an end may take on a machine that does other things; 15 are promised on a quiet one."""
SLUICE = str(Path(sys.executable).with_name("sluice"))
LONG = ("--set=training.steps=5000", "--set=mixture.epochs.default=1e8", "--set=training.checkpoint.every=0")
"""A training that does not end by itself, and saves nothing by itself."""


def marked(mark: str) -> list[psutil.Process]:
    """Processes that run with a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLUICE_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def waited(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether a condition came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


class Begun:
    """`sluice run --json` as a process group of its own, and what it said."""

    def __init__(self, folder: Path, *settings: str, **environment: str) -> None:
        self.folder, self.mark = folder, str(folder)
        home = {"SLUICE_TEST": self.mark, "PREFECT_HOME": str(folder / "prefect")}
        home["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = str(PATIENCE)
        known = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
        with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
            self.process = subprocess.Popen(
                # also where the tests run in the background, or under nohup, which ignore some signals
                ["env", "--default-signal", SLUICE, "run", str(folder / "small.yaml"), "--json", *settings],
                env=known | home | environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    @property
    def record(self) -> dict[str, Any]:
        """The JSON object on the last line of standard output."""
        found: dict[str, Any] = json.loads((self.folder / "out").read_text().splitlines()[-1])
        return found

    def says(self, text: str) -> None:
        """Wait until it has said a text."""
        assert waited(lambda: text in self.err or self.process.poll() is not None)
        assert text in self.err, self.err

    def signal(self, number: int, group: bool) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def ends(self, code: int) -> None:
        """It ends in time with an exit code, and nothing of it is left running."""
        assert self.process.wait(END) == code, self.err
        assert waited(lambda: not marked(self.mark)), [process.cmdline() for process in marked(self.mark)]

    def was_interrupted(self) -> None:
        """It ended as a run that a signal ended, in order."""
        self.ends(130)
        assert "Traceback" not in self.err
        assert self.record["error"] == "interrupted"


@contextmanager
def begun(folder: Path, *settings: str, **environment: str) -> Iterator[Begun]:
    """A run, of which nothing is left after the block whatever happens in it."""
    run = Begun(folder, *settings, **environment)
    try:
        yield run
    finally:
        for process in marked(run.mark):
            process.kill()


@pytest.mark.parametrize(
    ("number", "group"),
    [
        pytest.param(signal.SIGINT, True, id="Ctrl-C in a terminal"),
        pytest.param(signal.SIGTERM, False, id="SIGTERM to the run", marks=pytest.mark.chaos),
    ],
)
def test_a_run_that_a_signal_ends_says_so_and_leaves_nothing_running(tmp_path: Path, number: int, group: bool) -> None:
    small.corpus(tmp_path, files=2)
    with begun(tmp_path) as run:
        run.says("signals: 0 of")
        run.signal(number, group)
        run.was_interrupted()
    [record] = (tmp_path / "store" / "runs" / "records").glob("*/run.json")
    assert json.loads(record.read_bytes())["error"] == "run: interrupted"


@pytest.mark.chaos
def test_a_run_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    small.corpus(tmp_path, files=1)
    with begun(tmp_path, "--until=documents") as run:
        run.says("documents: 0 of")
        run.signal(signal.SIGKILL, False)
        run.ends(-signal.SIGKILL)
        assert marked(run.mark) == []


@pytest.mark.chaos
def test_a_run_whose_working_process_is_killed_says_so_in_json(tmp_path: Path) -> None:
    small.corpus(tmp_path, files=1)
    with begun(tmp_path, "--until=documents") as run:
        run.says("documents: 0 of")
        [child] = psutil.Process(run.process.pid).children()
        child.kill()
        run.ends(1)
    assert run.record["status"] == "failed"
    assert run.record["error"].startswith("the process of the run was killed, as when memory runs out")


def test_a_training_that_a_signal_ends_saves_a_checkpoint_and_goes_on_from_it(copied: Path) -> None:
    folder = copied.parent
    with begun(folder, *LONG) as run:
        run.says("train: loss")
        run.signal(signal.SIGTERM, True)
        run.was_interrupted()
    [trained] = [path.name for path in (folder / "store" / "runs").glob("small-*")]
    current = Run.of(str(copied))
    [step] = checkpoint.steps(current.store, trained)
    done = log.read(current.store, trained)
    assert [record["step"] for record in done] == list(range(1, step + 1))
    assert not (folder / "store" / "runs" / trained / "stop").exists()
    with begun(folder, *LONG) as run:
        run.says("train: loss")
        run.signal(signal.SIGHUP, False)
        run.was_interrupted()
    [start] = [r for r in log.records(current.store, trained) if r["kind"] == "start" and r["step"] >= 0]
    assert start["step"] == step
    assert max(checkpoint.steps(current.store, trained)) > step


@pytest.mark.chaos
def test_a_training_whose_ranks_answer_no_signal_is_ended_all_the_same(copied: Path) -> None:
    with begun(copied.parent, *LONG, "--set=training.grace=5") as run:
        run.says("train: loss")
        ranks = [each for each in marked(run.mark) if each.name().startswith("ray::RayTrainWorker")]
        assert ranks
        for rank in ranks:
            rank.suspend()  # as one that ignores SIGTERM, and saves nothing either
        run.signal(signal.SIGTERM, True)
        asked = time.monotonic()
        run.was_interrupted()
    took = time.monotonic() - asked
    print(f"ended after {took:.0f} s")
    assert took < 30


@pytest.mark.chaos
def test_a_second_signal_ends_a_run_at_once(copied: Path) -> None:
    with begun(copied.parent, *LONG, "--set=training.grace=600") as run:
        run.says("train: loss")
        for worker in marked(run.mark):
            if worker.name().startswith("ray::RayTrainWorker"):
                worker.suspend()  # so that no checkpoint can be waited for
        run.signal(signal.SIGINT, True)
        time.sleep(3)
        assert run.process.poll() is None
        run.signal(signal.SIGINT, True)
        run.was_interrupted()


@pytest.mark.chaos
def test_a_run_listens_on_loopback_alone_asks_nobody_and_its_token_is_its_owners(copied: Path) -> None:
    (copied.parent / "home").mkdir()
    with begun(copied.parent, *LONG, "--set=training.workers=2", HOME=str(copied.parent / "home")) as run:
        run.says("train: loss")
        heard, asked = [], list[str]()
        for process in marked(run.mark):
            try:
                asked += [part for part in process.cmdline() if "dashboard.py" in part]
                found = process.net_connections("inet")
                heard += [(process.name(), at.laddr.ip) for at in found if at.status == psutil.CONN_LISTEN]
            except psutil.Error:
                continue
        run.signal(signal.SIGTERM, False)
        run.was_interrupted()
    assert asked == []  # Ray's dashboard asks a cloud's metadata service
    assert {name for name, _ in heard} >= {"gcs_server", "raylet"}
    assert [name for name, ip in heard if ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")] == []
    assert (copied.parent / "home" / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["raylet", pytest.param("gcs_server", marks=pytest.mark.chaos)])
def test_a_ray_that_dies_is_one_line_with_the_remedy(tmp_path: Path, name: str) -> None:
    small.corpus(tmp_path, files=2)
    with begun(tmp_path, "--until=documents") as run:
        assert waited(lambda: [process for process in marked(run.mark) if process.name() == name])
        time.sleep(random.Random(name).uniform(0, 3))
        for process in marked(run.mark):
            if process.name() == name:
                process.kill()
        run.ends(1)
    assert run.record["status"] == "failed"
    assert "run again" in run.record["error"]
    assert "Traceback" not in run.err


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_ray_that_dies_while_a_training_runs_is_one_line_with_the_remedy(copied: Path, name: str) -> None:
    settings = (*LONG, "--set=training.checkpoint.every=2")
    with begun(copied.parent, *settings) as run:
        run.says("train: loss")
        for process in marked(run.mark):
            if process.name() == name:
                process.kill()
        died = time.monotonic()
        run.ends(1)
        print(f"ended within {time.monotonic() - died:.1f} s: {run.record['error']}")
    assert run.record["status"] == "failed"
    assert "run again to go on from" in run.record["error"]
    assert "Traceback" not in run.err
    with begun(copied.parent, *settings) as run:
        run.says("train: loss")
        run.signal(signal.SIGINT, True)
        run.was_interrupted()
    [trained] = [path.name for path in (copied.parent / "store" / "runs").glob("small-*")]
    starts = [r["step"] for r in log.records(Run.of(str(copied)).store, trained) if r["kind"] == "start"]
    assert starts[0] == -1
    assert starts[1] > 0


MOMENTS = {
    "reading": ("documents: 0 of", 2),
    "signals": ("signals: 0 of", 2),
    "duplicates": ("exact: 0 of", 2),
    "tokenizer": ("learn_tokenizer: 0 of", 2),
    "plan": ("for flow 'training'", 2),
    "start of training": ("Task run 'plan' - Finished", 10),
    "training": ("train: loss", 2),
}
"""What a run says when a stage has begun, and the seconds in which a signal comes then: also between two stages."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the small corpus and its training come to where nothing ends them."""
    run = whole.go(small.corpus(tmp_path_factory.mktemp("trained"), files=2), train=True)
    ray_session.stop()
    return whole.content(run)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_any_signal_ends_at_any_moment_goes_on_to_the_same_values(
    seed: int, trained: dict[str, Any], tmp_path: Path
) -> None:
    rng = random.Random(seed)
    spec = small.corpus(tmp_path, files=2)
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    moment, group = list(MOMENTS)[seed % len(MOMENTS)], rng.random() < 0.5
    text, seconds = MOMENTS[moment]
    if moment in ("plan", "start of training", "training"):
        whole.go(spec, until="tokens")
    with begun(tmp_path) as run:
        run.says(text)
        time.sleep(rng.uniform(0, seconds))
        if run.process.poll() is None:
            asked = time.monotonic()
            run.signal(number, group)
            if run.process.wait(END) == 0:  # the signal came after the run's last word
                assert run.record["status"] == "completed"
                run.ends(0)
            else:
                run.was_interrupted()
            print(f"{moment}: {signal.Signals(number).name}: ended within {time.monotonic() - asked:.1f} s")
    found = whole.go(spec, train="training" in moment)
    ray_session.stop()
    content = whole.content(found)
    assert orjson.dumps(content, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        {name: trained[name] for name in trained if name in content}, option=orjson.OPT_SORT_KEYS
    )
    assert content.keys() >= trained.keys() - {"training"}
