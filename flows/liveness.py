"""Flow runs whose process is gone (kill -9, no memory, no power) are closed, where Prefect would say Running for ever
and a deployment's slot would stay taken.

A flow run says on which machine and by which process it is run: the next run on that machine crashes, in Prefect's
sense, those whose process is no more. Under a Prefect server it also gives a sign of life every ten seconds, and the
automation `AUTOMATION`, which the first run makes, crashes one whose signs stop for 45: from any machine, with no next
run. Either way Retry, or the next run, goes on where the store stands.

A run of a deployment that gets a SIGTERM, as all processes of a machine do before a preemption, says so at once. Where
it then crashes, in order or as its process is gone, another automation, `PREEMPTED`, schedules it again: the next
worker of the pool goes on with it. One that is killed before it can say so stays Crashed. What was cancelled, failed
or was killed unasked is left to people, as it might end so again and again.
"""

from __future__ import annotations

import contextvars
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import psutil
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import Event, Resource, ResourceSpecification
from prefect.settings import get_current_settings
from prefect.states import Crashed

AUTOMATION = "sluice: close runs whose process is gone"
FLOWS = ["pretrain", "corpus", "training", "stage"]
PREEMPTED = "sluice: go on with runs whose machine was taken away"
SIGN, ENDED, TOLD = (f"sluice.flow-run.{name}" for name in ("alive", "ended", "told-to-end"))
EVERY, WITHIN = 10.0, timedelta(seconds=45)
AFTER = timedelta(minutes=30)
"""Between a SIGTERM and the end of what it ends, at most."""
SAID = 3.0
"""Seconds in which a server takes an event."""
MADE = "Made by Sluice; remove it to have Sluice make it again."
TAKEN = "Preempted: its machine was told to end. The next worker of its pool goes on from here."
GONE = "The process that ran it is gone: killed, out of memory, or its machine is down. Run again to go on from here."


@contextmanager
def shown() -> Iterator[None]:
    """While the block runs, the flow run in it can be told from a dead one; first those that are dead are closed."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    run, served = context.flow_run, get_current_settings().api.url is not None
    client = get_client(sync_client=True)
    client.update_flow_run_labels(run.id, _process())  # before it takes one that is tried again for dead
    if run.parent_task_run_id is None:
        close_dead(client)
        for each in (closing(), rescheduling()) if served else ():
            if not client.read_automations_by_name(each.name):
                client.create_automation(each)
    if not served:
        yield
        return
    over = threading.Event()
    threading.Thread(target=contextvars.copy_context().run, args=(_give_signs, run, over), daemon=True).start()
    try:
        with _saying_that_it_is_told_to_end(run):
            yield
    finally:
        over.set()
        _emit(ENDED, run)


def close_dead(client: SyncPrefectClient) -> list[FlowRun]:
    """Crash the flow runs of this machine that are Running in a process that is no more -> those runs."""
    running = {"state": {"type": {"any_": [StateType.RUNNING]}}}
    ours, alive = FlowFilter(name=FlowFilterName(any_=FLOWS)), FlowRunFilter.model_validate(running)
    dead = [run for run in client.read_flow_runs(flow_filter=ours, flow_run_filter=alive) if _is_dead(run)]
    for run in dead:
        tasks = TaskRunFilter.model_validate({"flow_run_id": {"any_": [run.id]}, **running})
        for task in client.read_task_runs(task_run_filter=tasks):
            client.set_task_run_state(task.id, Crashed(message=GONE), force=True)
        client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)
    return dead


def closing() -> AutomationCore:
    """What closes the runs of a server that give no sign of life."""
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling")}
    return AutomationCore(
        name=AUTOMATION,
        description=MADE,
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            after={SIGN},
            expect={SIGN, ENDED, *ends},
            posture=Posture.Proactive,
            threshold=1,
            within=WITHIN,
        ),
        actions=[ChangeFlowRunState(name=None, state=StateType.CRASHED, message=GONE, force=False)],
    )


def rescheduling() -> AutomationCore:
    """What schedules runs again that crashed after a SIGTERM."""
    return AutomationCore(
        name=PREEMPTED,
        description=MADE,
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            after={TOLD},
            expect={"prefect.flow-run.Crashed"},
            posture=Posture.Reactive,
            threshold=1,
            within=AFTER,
        ),
        actions=[ChangeFlowRunState(name="AwaitingRetry", state=StateType.SCHEDULED, message=TAKEN, force=False)],
    )


@contextmanager
def _saying_that_it_is_told_to_end(run: FlowRun) -> Iterator[None]:
    """While the block runs, a SIGTERM is said of a deployment's run before it is obeyed. Each flow inside it says so
    anew: Prefect has a handler of its own for each."""
    if run.deployment_id is not None:
        _deployed.append(run)
    before, ours = signal.getsignal(signal.SIGTERM), [*_deployed]
    client = get_client(sync_client=True)

    def told(number: int, frame: FrameType | None) -> None:
        _say_at_once(client, TOLD, ours[0])
        if callable(before):
            before(number, frame)

    heard = bool(ours) and callable(before) and threading.current_thread() is threading.main_thread()
    if heard:
        signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        if heard and signal.getsignal(signal.SIGTERM) is told:
            signal.signal(signal.SIGTERM, before)
        if run in _deployed:
            _deployed.remove(run)


_deployed: list[FlowRun] = []
"""The run of a deployment that this process is for."""


def _process() -> dict[str, str | int | float]:
    """This process, told from any other of any time."""
    process = psutil.Process()
    return {
        "sluice.host": socket.gethostname(),
        "sluice.pid": process.pid,
        "sluice.started": process.create_time(),
    }


def _is_dead(run: FlowRun) -> bool:
    labels = run.labels
    if labels.get("sluice.host") != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(int(labels["sluice.pid"])).create_time() - float(labels["sluice.started"])) > 1
    except psutil.NoSuchProcess:
        return True


def _give_signs(run: FlowRun, over: threading.Event) -> None:
    while True:
        _emit(SIGN, run)
        if over.wait(EVERY):
            return


def _say_at_once(client: SyncPrefectClient, event: str, run: FlowRun) -> None:
    """An event that has arrived when this returns, or after some seconds will not: the process may be killed next."""
    made = Event(event=event, resource=Resource.model_validate(_resource(run)))
    body = [made.model_dump(mode="json")]
    sending = threading.Thread(target=client.request, args=("POST", "/events"), kwargs={"json": body}, daemon=True)
    sending.start()
    sending.join(SAID)


def _resource(run: FlowRun) -> dict[str, str]:
    return {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}


def _emit(event: str, run: FlowRun) -> None:
    emit_event(event, _resource(run))
