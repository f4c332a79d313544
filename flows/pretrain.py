"""The flows: which stage after which, and what Prefect's UI shows of them.

`pretrain` runs `corpus`, then `training`, each a flow of its own; `stage` computes one stage again and then what
depends on it. One task run per stage; a stage with nothing to do ends in the state Cached. The store is the truth and
Prefect a view: its result cache is off, and a flow that is retried or started again goes on where the store stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, wraps
from inspect import signature
from typing import Any, ParamSpec

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from data_specs import redaction
from data_specs.redaction import printable
from flows import artifacts, liveness
from flows.run import STOPS, Run
from tasks.engine.gates import GateError
from tasks.engine.runner import StageResult

redaction.guard()

DEMO = "data_specs/demo.yaml"

P = ParamSpec("P")
Ended = dict[str, Any] | State
"""A run's record, or the state of one that failed."""
MEANING = {
    "spec": "path of the spec",
    "store": "another store than the spec's",
    "settings": "`key=value` overrides",
    "run": "name of the run; made up by default",
    "start": "stage to compute again beside what exists",
    "stage": "stage to compute again beside what exists",
    "until": "last stage to run",
    "replace": "take the new values of a stage that is computed again, where they differ",
    "retrain": "pins to learn anew",
}
"""What the parameters of flows mean."""


class Progress:
    """Progress of one task run: an artifact, and a log line at most every ten seconds."""

    def __init__(self, key: str) -> None:
        self.key, self.said = key, 0.0
        self.artifact: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        share, about = 100.0 * done / max(1, total), f"{stage}: {done:,} of {total:,}"
        if self.artifact is None:
            self.artifact = create_progress_artifact(share, key=self.key, description=about)
        elif time.monotonic() - self.said > 10 or done == total:
            update_progress_artifact(self.artifact, share, about)
        if time.monotonic() - self.said > 10 and done < total:
            get_run_logger().info(about)
            self.said = time.monotonic()


def _ended(result: StageResult) -> State:
    """The state that the UI shows of a stage."""
    shards = f" in {result.shards:,} shards" if result.shards else ""
    message = printable(f"{result.rows:,} rows{shards}, {result.seconds:.1f} s. {result.note}".strip())
    name = {"cached": "Cached", "partial": "Partial"}.get(result.state, "Completed")
    if result.state == "partial":
        get_run_logger().warning("%s: %s", result.name, message)
    return Completed(name=name, message=message)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False, retries=0)
def run_stage(name: str, spec: str, work: Callable[[Progress], StageResult]) -> State:
    """One stage of a run. What the user can mend ends in a failed state with its message, without a traceback."""
    try:
        return _ended(work(Progress(artifacts.key(spec, f"progress-{name}"))))
    except STOPS as error:
        get_run_logger().error("%s", error)
        return Failed(
            name="Gate" if isinstance(error, GateError) else "Failed",
            message=printable(error),
            data=error.with_traceback(None),
        )


def _steps(current: Run, names: Sequence[str], work: Callable[[str, Progress], StageResult]) -> State | None:
    """Run stages as tasks until one fails; its state, or None."""
    for name in names:
        state = run_stage(name, current.spec.name, partial(work, name), return_state=True)
        if state.is_failed() or state.is_crashed():
            error = state.result(raise_on_failure=False)
            current.fail(name, error if isinstance(error, BaseException) else RuntimeError(str(state.message)))
            return Failed(message=f"{name}: {state.message}" if state.message else name)
    return None


def documented(steps: Callable[P, Ended]) -> Callable[P, Ended]:
    """A flow's steps, with what its parameters mean in the docstring, where the UI's form of a run has it from."""
    meanings = [f"    {name}: {MEANING[name]}." for name in signature(steps).parameters]
    steps.__doc__ = "\n".join([str(steps.__doc__), "", "Args:", *meanings])
    return steps


def plainly(steps: Callable[P, Ended]) -> Callable[P, Ended]:
    """A flow's steps, of which what the user can mend ends in a failed state with its message."""

    @wraps(steps)
    def ended(*args: P.args, **given: P.kwargs) -> Ended:
        try:
            with liveness.shown():
                return steps(*args, **given)
        except STOPS as error:
            return Failed(message=printable(error))

    return ended


@flow(name="corpus", persist_result=False)
@plainly
@documented
def corpus(
    spec: str = DEMO,
    store: str | None = None,
    settings: list[str] | None = None,
    run: str | None = None,
    start: str | None = None,
    until: str | None = None,
    replace: bool = False,
    retrain: list[str] | None = None,
) -> Ended:
    """The data half: from sources to tokens."""
    current = Run.of(spec, store, settings or (), run, retrain or ())
    names = current.corpus_stages(start, until)
    with current.working(alone=replace):  # another run may have read what is replaced
        current.begin()
        failed = _steps(current, names, lambda name, progress: current.stage(name, progress, name == start, replace))
        current.save(ended=run is None or until not in (None, "plan", "train"))
        artifacts.corpus(current)
    return failed or current.json()


@flow(name="training", persist_result=False)
@plainly
@documented
def training(
    spec: str = DEMO,
    store: str | None = None,
    settings: list[str] | None = None,
    run: str | None = None,
    until: str | None = None,
) -> Ended:
    """The training half: the run plan, then training on it."""
    current = Run.of(spec, store, settings or (), run)
    with current.working():
        current.resolve(anew=False)
        names = ["plan"] if until == "plan" else ["plan", "train"]
        failed = _steps(current, names, lambda name, progress: getattr(current, name)(progress))
        current.save(ended=True)
        artifacts.training(current)
    return failed or current.json()


@flow(name="pretrain", persist_result=False)
@plainly
@documented
def pretrain(
    spec: str = DEMO,
    store: str | None = None,
    settings: list[str] | None = None,
    run: str | None = None,
    start: str | None = None,
    until: str | None = None,
    replace: bool = False,
    retrain: list[str] | None = None,
) -> Ended:
    """From sources to a trained model."""
    current = Run.of(spec, store, settings or (), run)
    with nullcontext() if replace else current.store.shared():
        state = corpus(spec, store, settings, current.name, start, until, replace, retrain, return_state=True)
        if state.is_completed() and until in (None, "plan", "train"):
            state = training(spec, store, settings, current.name, until, return_state=True)
    return state.result() if state.is_completed() else Failed(message=state.message)


@flow(name="stage", persist_result=False)
@plainly
@documented
def stage(stage: str, spec: str = DEMO, store: str | None = None, replace: bool = False) -> Ended:
    """Compute one stage again, then what depends on it."""
    return pretrain(spec, store, None, start=stage, replace=replace)
