"""What becomes of runs that are killed or cancelled under a real Prefect server, and of a run that loses its server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Completed, Crashed, Pending, Running, Scheduled

from flows import liveness
from tests import small, whole
from tests.flows.test_ending import LONG, begun, marked, waited
from tests.prefect_server import BIN, free_port, get, process, served, wait_for
from training import checkpoint, log

PATIENCE = 180
"""Seconds for what takes some on a quiet machine."""
GRACE = 10
"""Seconds from a SIGTERM to a SIGKILL."""
HALF_MINUTE = 30
"""Seconds in which no process is left of a run that is cancelled."""
MINUTE = 75
"""Seconds in which a lost run is scheduled again: a minute, and what a busy server takes to look."""


class Deployed:
    """The deployment `full` on a small spec whose corpus is computed: what is shown of its runs, and its training."""

    def __init__(self, folder: Path, api: str, environment: dict[str, str]) -> None:
        self.folder, self.api, self.mark = folder, api, str(folder)
        self.environment = environment | {"SLUICE_TEST": self.mark}
        self.spec = small.corpus(folder, files=1)
        self.store = whole.go(self.spec, until="tokens").store

    def worker(self, number: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        command = [str(BIN / "prefect"), "worker", "start", "--pool", "sluice"]
        return process(command, self.environment, self.folder / f"worker-{number}.log")

    def begin(self, *settings: str) -> str:
        """Have it train without end; the flow run."""
        deployments = get(f"{self.api}/deployments/filter", {})
        [deployment] = [each["id"] for each in deployments if each["name"] == "full"]
        parameters = {"spec": str(self.spec), "set": [*(each.removeprefix("--set=") for each in LONG), *settings]}
        found = get(f"{self.api}/deployments/{deployment}/create_flow_run", {"parameters": parameters})
        return str(found["id"])

    def take_away(self, number: int) -> None:
        """All processes get a signal, and those that are left soon after are killed, as where a machine shuts down."""
        for sent in (number, signal.SIGKILL):
            for ending in marked(self.mark):
                with suppress(psutil.NoSuchProcess):
                    ending.send_signal(sent)
            waited(lambda: not marked(self.mark), GRACE)

    def states(self) -> dict[str, str]:
        """Name of the state of each flow run."""
        return {run["id"]: run["state"]["name"] for run in get(f"{self.api}/flow_runs/filter", {})}

    @property
    def run(self) -> str:
        """The training's name; "" before it has begun."""
        return next((name for name in self.store.folders("runs") if name.startswith("small-")), "")

    def steps(self) -> int:
        """The last step that the training's log has."""
        return max((record["step"] for record in log.read(self.store, self.run)), default=0) if self.run else 0

    def saved(self) -> int:
        """The step of the last checkpoint."""
        return max(checkpoint.steps(self.store, self.run), default=0)

    def wait(self, condition: Callable[[], object], seconds: float) -> float:
        """Seconds until a condition came true; fails where that takes longer than it may."""
        began = time.monotonic()
        while not condition():
            logs = "\n".join(path.read_text()[-3000:] for path in self.folder.glob("worker-*.log"))
            said = [(r["state"]["name"], r["state"]["message"]) for r in get(f"{self.api}/flow_runs/filter", {})]
            assert time.monotonic() - began < seconds, f"{said}, step {self.steps()}\n{logs}"
            time.sleep(0.5)
        return time.monotonic() - began


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    with served(tmp_path) as (api, environment):
        found = Deployed(tmp_path, api, environment)
        yield found
    for left in marked(found.mark):
        left.kill()


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_the_run_of_a_machine_that_is_taken_away_is_scheduled_again_and_goes_on_from_its_checkpoint(
    deployed: Deployed, number: signal.Signals
) -> None:
    with deployed.worker(1):
        run = deployed.begin("training.checkpoint.every=5")
        deployed.wait(lambda: checkpoint.steps(deployed.store, deployed.run) if deployed.run else (), PATIENCE)
        deployed.take_away(number)
        took = deployed.wait(lambda: deployed.states()[run] == "AwaitingRetry", MINUTE)
        print(f"scheduled again after {took:.0f} s: {deployed.states()}")
    deployed.wait(lambda: "Running" not in deployed.states().values(), MINUTE)
    saved, attempts = deployed.saved(), log.attempts(deployed.store, deployed.run)
    with deployed.worker(2):
        deployed.wait(lambda: log.attempts(deployed.store, deployed.run) > attempts, PATIENCE)
        [*_, start] = [record for record in log.records(deployed.store, deployed.run) if record["kind"] == "start"]
        assert start["step"] == saved
        deployed.wait(lambda: deployed.saved() > saved, PATIENCE)
        get(f"{deployed.api}/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        deployed.wait(lambda: deployed.states()[run] == "Cancelled", MINUTE)
        time.sleep(MINUTE)
        assert deployed.states()[run] == "Cancelled"


@pytest.mark.chaos
def test_a_run_that_is_cancelled_ends_as_such_with_a_checkpoint_and_nothing_left(deployed: Deployed) -> None:
    with deployed.worker(1) as worker:
        run = deployed.begin()
        deployed.wait(lambda: deployed.steps() > 0, PATIENCE)
        get(f"{deployed.api}/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        took = deployed.wait(lambda: deployed.states()[run] == "Cancelled", MINUTE)
        deployed.wait(lambda: [each.pid for each in marked(deployed.mark)] == [worker.pid], MINUTE)
    states = deployed.states()
    print(f"cancelled after {took:.0f} s: {states}")
    assert "Running" not in states.values()
    assert checkpoint.steps(deployed.store, deployed.run) == [deployed.steps()]


@pytest.mark.chaos
def test_a_run_that_is_cancelled_leaves_nothing_after_half_a_minute_though_a_rank_ignores_its_end(
    deployed: Deployed,
) -> None:
    with deployed.worker(1) as worker:
        run = deployed.begin()
        deployed.wait(lambda: deployed.steps() > 0, PATIENCE)
        ranks = [each for each in marked(deployed.mark) if each.name().startswith("ray::RayTrainWorker")]
        assert ranks
        for rank in ranks:
            rank.suspend()  # which answers no signal but SIGKILL, and saves nothing either
        get(f"{deployed.api}/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        took = deployed.wait(lambda: [each.pid for each in marked(deployed.mark)] == [worker.pid], 3 * HALF_MINUTE)
        deployed.wait(lambda: deployed.states()[run] == "Cancelled", MINUTE)
    print(f"nothing left after {took:.0f} s: {deployed.states()}")
    assert took < HALF_MINUTE
    assert "Running" not in deployed.states().values()


def test_a_run_is_dead_whose_process_on_this_machine_is_gone_or_is_another_now() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = liveness._process()
    cases = [
        (own, False),
        (own | {"sluice.pid": ended.pid}, True),
        (own | {"sluice.started": psutil.Process().create_time() - 60}, True),
        (own | {"sluice.host": f"not {socket.gethostname()}", "sluice.pid": ended.pid}, False),
        ({}, False),
    ]
    for labels, dead in cases:
        assert liveness._is_dead(FlowRun(flow_id=uuid.uuid4(), labels=labels)) is dead


@pytest.mark.chaos
def test_a_server_that_dies_in_the_middle_of_a_run_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    small.corpus(tmp_path, files=2)
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "server"), "PREFECT_API_URL": api}
    server = [str(BIN / "prefect"), "server", "start", "--port", str(port)]
    with process(server, environment, tmp_path / "server.log") as serving:
        wait_for(f"{api}/health", tmp_path / "server.log")
        with begun(tmp_path, "--until=clusters", PREFECT_API_URL=api) as run:
            run.says("signals: 0 of")
            for child in psutil.Process(serving.pid).children(recursive=True):
                child.kill()
            serving.kill()
            died = time.monotonic()
            run.ends(1)
            print(f"ended {time.monotonic() - died:.0f} s later: {run.record['error']}")
    assert run.record["status"] == "failed"
    assert "no longer answers" in run.record["error"]
    assert "start it again, and run again to go on from here" in run.record["error"]
    assert "Traceback" not in run.err


def in_order(states: Sequence[State], minutes: Sequence[int] = ()) -> list[State]:
    """States one after another, each some minutes after the one before it."""
    at = accumulate(minutes or [1] * len(states))
    begin = datetime.now(UTC)
    return [s.model_copy(update={"timestamp": begin + timedelta(minutes=m)}) for s, m in zip(states, at, strict=True)]


def test_a_run_that_is_lost_soon_after_its_start_time_after_time_stays_crashed() -> None:
    states = list[State]()
    minutes = list[int]()

    def become(state: State, after: int) -> int:
        states.append(state)
        minutes.append(after)
        return liveness.lost_in_a_row(in_order(states, minutes))

    def lost(after: int) -> int:
        become(Running(), 1)
        become(Crashed(), after)
        return become(AwaitingRetry(message=liveness.LOST), 1)

    assert become(Scheduled(), 0) == 0
    assert [lost(5), lost(5), lost(200), lost(5), lost(5)] == [1, 2, 0, 1, 2]
    assert become(Scheduled(name="Late"), 1) == 2
    assert lost(5) == liveness.TRIES
    assert become(AwaitingRetry(), 60) == 0  # as a person's Retry


def test_a_run_that_had_ended_when_it_was_taken_for_lost_ends_so_again_unless_a_person_runs_it() -> None:
    lost, asked = State.model_validate(AwaitingRetry(message=liveness.LOST)), State.model_validate(AwaitingRetry())
    begun: list[State] = [Scheduled(), Running()]
    again: list[State] = [Scheduled(name="Late"), Pending(), Running()]
    cases = [
        ([*begun, lost], None),
        ([*begun, Crashed(), lost], None),
        ([*begun, Completed(), asked], None),
        ([*begun, Completed(), lost], "Completed"),
        ([*begun, Cancelling(), Cancelled(), lost], "Cancelled"),
        ([*begun, Completed(), lost, *again, Completed(), asked], None),
    ]
    for states, name in cases:
        found = liveness.ended_all_the_same(in_order([*states, *again]))
        assert (found.name if found else None) == name


def test_a_run_that_is_tried_again_names_its_new_process_before_runs_of_dead_ones_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    client = SimpleNamespace(update_flow_run_labels=lambda *_: said.append("named"))
    context = SimpleNamespace(flow_run=FlowRun(flow_id=uuid.uuid4()))
    monkeypatch.setattr(liveness, "get_client", lambda **_: client)
    monkeypatch.setattr(liveness, "close_dead", lambda _: said.append("closed"))
    monkeypatch.setattr(liveness, "FlowRunContext", SimpleNamespace(get=lambda: context))
    monkeypatch.setattr(liveness, "get_current_settings", lambda: SimpleNamespace(api=SimpleNamespace(url=None)))
    with liveness.shown():
        assert said == ["named", "closed"]
