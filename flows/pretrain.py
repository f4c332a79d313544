"""The flows: which stage after which, and what Prefect's UI shows of them.

`pretrain` runs `corpus`, then `training`, each a flow of its own; `stage` computes one stage again and then what
depends on it, up to the version of the corpus. One task run per stage; a stage with nothing to do ends in the state
Cached. The store is the truth and Prefect a view: its result cache is off, and a flow that is retried or started again
goes on where the store stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, wraps
from inspect import signature
from typing import Any, Literal, ParamSpec

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from data_specs import redaction
from data_specs.amounts import plural
from data_specs.load import SpecError
from data_specs.redaction import printable
from flows import artifacts, liveness, prefect_patches, prefect_ui
from flows.errors import USER_ERRORS
from flows.prefect_ui import Progress
from flows.run import Run
from flows.training_page import LiveLosses
from tasks.engine.gates import GateError
from tasks.engine.runner import StageResult
from tasks.storage import locks

redaction.guard()

DEMO = "data_specs/demo.yaml"

P = ParamSpec("P")
Ended = dict[str, Any] | State
"""A run's record, or the state of one that failed."""
MEANING = {
    "spec": "path of the spec",
    "store": "another store than the spec's",
    "set": "`key=value` overrides of settings",
    "run": "name of the run's record; made up by default",
    "from_stage": "stage to compute again beside what exists, then what depends on it",
    "stage": "stage to compute again beside what exists, then what depends on it; of duplicates `exact` has the exact "
    "ones, `candidates` LSH candidate groups, `pairs` pairs from the floor on, `alike` near-duplicate pairs, "
    "`clusters` connected components",
    "until": "last stage to run: one of the corpus, `version`, `plan` or `train`",
    "replace": "take the new values of a stage that is computed again, where they differ",
    "retrain": "pins to learn anew: domain, quality, tokenizer, ...",
    "version": "accepted version of the corpus to train on as it is; by default the corpus is brought up to date first",
}
"""What the parameters of flows mean. They are called as the options of `sluice run`, but `from`, which is a word of
Python's."""
COLUMN_STAGES = Literal[
    "documents",
    "held_out",
    "language",
    "signals",
    "composition",
    "style",
    "domain",
    "quality",
    "exact",
    "candidates",
    "pairs",
    "alike",
    "clusters",
    "channel",
    "verdict",
    "tokens",
    "token_estimate",
]
"""Stages that can be computed again, by name: what a form offers. Any other name can be typed there, too."""
Named = COLUMN_STAGES | str


def _ended(result: StageResult) -> State:
    """The state that the UI shows of a stage."""
    shards = f" in {plural(result.shards, 'shard')}" if result.shards else ""
    if 0 < result.computed < result.shards:
        shards += f", {result.computed:,} of them computed"
    message = printable(f"{plural(result.rows, 'row')}{shards}, {result.seconds:.1f} s. {result.note}".strip())
    name = {"cached": "Cached", "partial": "Partial"}.get(result.state, "Completed")
    if result.state == "partial":
        get_run_logger().warning("%s: %s", result.name, message)
    return Completed(name=name, message=message)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False, retries=0)
def run_stage(name: str, work: Callable[[], StageResult]) -> State:
    """One stage of a run. What the user can mend ends in a failed state with its message, without a traceback."""
    try:
        return _ended(work())
    except USER_ERRORS as error:
        get_run_logger().error("%s", error)
        return Failed(
            name="Gate" if isinstance(error, GateError) else "Failed",
            message=printable(error),
            data=error.with_traceback(None),
        )


def _steps(current: Run, names: Sequence[str], progress: Progress, work: Callable[[str], StageResult]) -> State | None:
    """Run stages as tasks until one fails; its state, or None."""
    for name in names:
        progress.begin()
        state = run_stage(name, partial(work, name), return_state=True)
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


def fails_without_traceback(steps: Callable[P, Ended]) -> Callable[P, Ended]:
    """A flow's steps, of which what the user can mend ends in a failed state with its message."""

    @wraps(steps)
    def ended(*args: P.args, **given: P.kwargs) -> Ended:
        prefect_patches.say_failures_once()
        try:
            with liveness.shown():
                return steps(*args, **given)
        except USER_ERRORS as error:
            return Failed(message=printable(error))

    return ended


@flow(name="corpus", flow_run_name=prefect_ui.run_name, persist_result=False)
@fails_without_traceback
@documented
def corpus(
    spec: str = DEMO,
    store: str | None = None,
    from_stage: Named | None = None,
    until: Named | None = None,
    replace: bool = False,
    set: list[str] | None = None,  # noqa: A002 (as the option is called)
    retrain: list[str] | None = None,
    run: str | None = None,
) -> Ended:
    """The data half: from sources to tokens."""
    current = Run.of(spec, store, set or (), run or prefect_ui.record_name(), retrain or ())
    ended = run is None or until not in (None, "plan", "train")
    return _make_corpus(current, until, ended, from_stage, replace)


@flow(name="rebase", flow_run_name=prefect_ui.run_name, persist_result=False)
@fails_without_traceback
@documented
def rebase(
    spec: str = DEMO,
    store: str | None = None,
    set: list[str] | None = None,  # noqa: A002 (as the option is called)
    run: str | None = None,
) -> Ended:
    """The generations of a corpus become one, as if all of its files had come at once."""
    current = Run.of(spec, store, set or (), run or prefect_ui.record_name())
    current.pipeline.rebasing = True
    return _make_corpus(current)


@flow(name="training", flow_run_name=prefect_ui.run_name, persist_result=False)
@fails_without_traceback
@documented
def training(
    spec: str = DEMO,
    store: str | None = None,
    until: str | None = None,
    set: list[str] | None = None,  # noqa: A002 (as the option is called)
    run: str | None = None,
    version: int | None = None,
) -> Ended:
    """The training half: the run plan, then training on it."""
    current = Run.of(spec, store, set or (), run or prefect_ui.record_name())
    names = _training_stages(until)
    with current.working(), prefect_ui.progress(current, len(names)) as progress:
        if version is None:
            current.resolve(anew=False)
        else:
            current.train_on(version)
            current.begin()
        prefect_ui.name_by_version(current)
        current.watch = LiveLosses(current)
        failed = _steps(current, names, progress, lambda name: getattr(current, name)(progress))
        current.save(ended=True)
        artifacts.training(current)
        artifacts.spikes(current)
    return failed or current.json()


def _make_corpus(
    current: Run, until: str | None = None, ended: bool = True, start: str | None = None, replace: bool = False
) -> Ended:
    """The stages of the corpus up to `until`, of which `start` is computed again, and its version; the run has `ended`
    where no other half follows."""
    names = current.corpus_stages(start, until)
    last = ["version"] if _makes_version(until) else []
    # Alone with `replace`, as another run may have read what is replaced.
    with current.working(alone=replace), prefect_ui.progress(current, len(names + last)) as progress:
        current.begin()
        failed = _steps(current, names, progress, lambda name: current.stage(name, progress, name == start, replace))
        failed = failed or _steps(current, last, progress, lambda _: current.version(progress))
        chosen = bool(last) and not failed and current.chooses
        if chosen:
            failed = _steps(current, ["budget"], progress, lambda _: _chosen(current))
        prefect_ui.name_by_version(current)
        current.save(ended and not chosen)
        artifacts.corpus(current)
    if chosen and not failed:
        return _make_corpus(current.reloaded(), until, ended)
    return failed or current.json()


def _chosen(current: Run) -> StageResult:
    """Choose thresholds by the budget."""
    from flows.commands import budget  # which few runs need

    return budget.choose(current)


def _makes_version(until: str | None) -> bool:
    """Whether a run up to `until` comes to the version of the corpus."""
    return until in (None, "version", "plan", "train")


def _training_stages(until: str | None) -> list[str]:
    """Stages of the training half up to `until`."""
    return ["plan", "train"] if until in (None, "train") else ["plan"] if until == "plan" else []


def _halves(
    spec: str,
    store: str | None,
    start: str | None = None,
    until: str | None = None,
    replace: bool = False,
    settings: list[str] | None = None,
    retrain: list[str] | None = None,
    run: str | None = None,
    version: int | None = None,
) -> Ended:
    """Both halves, each a flow of its own inside the one at work; of a `version` that is there the second alone."""
    current = Run.of(spec, store, settings or (), run or prefect_ui.record_name())
    later = _training_stages(until)
    if version is not None:
        if start or replace or retrain or not later:
            raise SpecError(["version: it is trained on as it is; of these parameters only `until: plan` goes with it"])
        with prefect_ui.progress(current, len(later)):
            state = training(spec, store, until, settings, current.name, version, return_state=True)
        return state.result() if state.is_completed() else Failed(message=state.message)
    stages = len(current.corpus_stages(start, until)) + _makes_version(until) + len(later)
    with prefect_ui.progress(current, stages), nullcontext() if replace else locks.shared(current.store):
        state = corpus(spec, store, start, until, replace, settings, retrain, current.name, return_state=True)
        if state.is_completed() and later:
            state = training(spec, store, until, settings, current.name, return_state=True)
    return state.result() if state.is_completed() else Failed(message=state.message)


@flow(name="pretrain", flow_run_name=prefect_ui.run_name, persist_result=False)
@fails_without_traceback
@documented
def pretrain(
    spec: str = DEMO,
    store: str | None = None,
    from_stage: Named | None = None,
    until: Named | None = None,
    replace: bool = False,
    set: list[str] | None = None,  # noqa: A002 (as the option is called)
    retrain: list[str] | None = None,
    run: str | None = None,
    version: int | None = None,
) -> Ended:
    """From sources to a trained model."""
    return _halves(spec, store, from_stage, until, replace, set, retrain, run, version)


@flow(name="stage", flow_run_name=prefect_ui.run_name, persist_result=False)
@fails_without_traceback
@documented
def stage(
    stage: Named, spec: str = DEMO, store: str | None = None, replace: bool = False, until: Named = "version"
) -> Ended:
    """Compute one stage again, then what depends on it; a training only where `until` says so."""
    return _halves(spec, store, stage, until, replace)
