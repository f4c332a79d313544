"""Flow runs whose process is gone (kill -9, no memory, no power) are closed, where Prefect would say Running for ever
and a deployment's slot would stay taken.

A flow run says on which machine and by which process it is run: the next run on that machine crashes, in Prefect's
sense, those whose process is no more. Under a Prefect server it also gives a sign of life every ten seconds, and the
automation `CLOSING`, which the first run makes, crashes one whose signs stop for 45: from any machine, with no next
run. Either way Retry, or the next run, goes on where the store stands.

A deployment's run whose signs stop, and that did not complete, fail or be cancelled, is scheduled again by another
automation, `GOING_ON`: the next worker of the pool goes on with it. That is for machines that are taken away, and
depends on nothing that a dying process or one event has to say: a SIGTERM that is obeyed in order, a kill -9 and no
power come to the same. Where a run is lost again within `SOON` of its start, as one without memory is, it is scheduled
`TRIES` times; after that it stays Crashed. The count begins anew when a person runs it again.

A server on SQLite loses single events where many come together, so it may take for lost what ended a moment ago. Such a
run is scheduled, sees from its states that it had ended, and is as it was.

What Prefect takes for dead may live, as on a machine without network. The lock of a training's folder (`Run.train`) has
the second wait for the first.
"""

from __future__ import annotations

import contextvars
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import psutil
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import Abort
from prefect.settings import get_current_settings
from prefect.states import Crashed

CLOSING = "sluice: crash runs whose process is gone"
GOING_ON = "sluice: go on with runs whose process is gone"
FLOWS = ["pretrain", "corpus", "training", "stage"]
LAST, AGAIN, ENDED = (f"sluice.flow-run.{name}" for name in ("alive.crashes-if-lost", "alive.goes-on-if-lost", "ended"))
EVERY, WITHIN = 10.0, timedelta(seconds=45)
TRIES, SOON = 3, timedelta(hours=1)
MADE = "Made by Sluice; remove it to have Sluice make it again."
LOST = "Its process or its machine is gone. The next worker of its pool goes on from here."
GONE = "The process that ran it is gone: killed, out of memory, or its machine is down. Run again to go on from here."
ENDS = {
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Cancelled", "Cancelling", "Scheduled", "AwaitingRetry", "Pending")
}
"""What else becomes of a run than that it is lost."""

log = logging.getLogger("sluice")


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
        for each in (closing(), going_on()) if served else ():
            if not client.read_automations_by_name(each.name):
                client.create_automation(each)
    if not served:
        yield
        return
    over, again = threading.Event(), run.deployment_id is not None and _goes_on(client, run.id)
    beside = contextvars.copy_context().run
    threading.Thread(target=beside, args=(_give_signs, run, over, again), daemon=True).start()
    try:
        yield
        _emit(ENDED, run)
    except BaseException as why:
        if isinstance(why, Exception) or client.read_flow_run(run.id).state_type == StateType.CANCELLING:
            _emit(ENDED, run)
        raise
    finally:
        over.set()


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
    crash = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=GONE, force=False)
    return _where_signs_stop(CLOSING, LAST, {*ENDS, "prefect.flow-run.Crashed"}, crash)


def going_on() -> AutomationCore:
    """What schedules a deployment's runs again that give no sign of life, also those that crashed in order."""
    schedule = ChangeFlowRunState(name="AwaitingRetry", state=StateType.SCHEDULED, message=LOST, force=False)
    return _where_signs_stop(GOING_ON, AGAIN, ENDS, schedule)


def _where_signs_stop(name: str, sign: str, ends: set[str], action: ChangeFlowRunState) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=MADE,
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            after={sign},
            expect={LAST, AGAIN, ENDED, *ends},
            posture=Posture.Proactive,
            threshold=1,
            within=WITHIN,
        ),
        actions=[action],
    )


def lost_in_a_row(states: Sequence[State]) -> int:
    """How often at last a run was lost within `SOON` of its start, of its states since a person asked for it."""
    count, began = 0, None
    for state in sorted(states, key=lambda state: state.timestamp):
        if state.type == StateType.RUNNING:
            began = state.timestamp
        elif state.message == LOST:
            count = count + 1 if began and state.timestamp - began < SOON else 0
        elif state.name in ("Scheduled", "AwaitingRetry"):
            count = 0
    return count


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


def ended_all_the_same(states: Sequence[State]) -> State | None:
    """The state in which a run had ended when it was taken for lost, as where the server missed that; else None."""
    end = last = None
    for state in sorted(states, key=lambda state: state.timestamp):
        if state.message == LOST:
            end = last if last and last.is_final() and not last.is_crashed() else None
        elif state.name in ("Scheduled", "AwaitingRetry"):
            end = None
        last = state
    return end


def _goes_on(client: SyncPrefectClient, run: UUID) -> bool:
    """Whether a run is to be scheduled again if it is lost soon. One that had ended is as it was, and aborted."""
    states = client.read_flow_run_states(run)
    if end := ended_all_the_same(states):
        client.set_flow_run_state(run, State(type=end.type, name=end.name, message=end.message), force=True)
        raise Abort(f"it had ended before, as {end.name}")
    lost = lost_in_a_row(states)
    if lost < TRIES:
        return True
    soon = SOON.total_seconds() / 60
    log.warning("it was lost %d times, each soon after its start; if it is within %.0f min, it stays so", lost, soon)
    return False


def _give_signs(run: FlowRun, over: threading.Event, again: bool) -> None:
    """Until it is over; of a deployment's run, signs that it goes on if it is lost `again`, or after a while."""
    began = time.monotonic()
    while True:
        lasts = run.deployment_id is not None and time.monotonic() - began > SOON.total_seconds()
        _emit(AGAIN if again or lasts else LAST, run)
        if over.wait(EVERY):
            return


def _emit(event: str, run: FlowRun) -> None:
    emit_event(event, {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name})
