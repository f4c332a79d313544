"""The flows: which stage after which, and what Prefect's UI shows of them.

`pretrain` runs `corpus`, then `training`, each a flow of its own; `stage` computes one stage again and then what depends
on it. One task run per stage; a stage with nothing to do ends in the state Cached. The store is the truth and Prefect a
view: its result cache is off, and a flow that is retried or started again goes on where the store stands.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows import artifacts
from flows.run import Run

DEMO = "data_specs/demo.yaml"
_OFF = {"cache_policy": NO_CACHE, "persist_result": False, "retries": 0}


class Progress:
    """Progress of one task run: an artifact, and a log line at most every ten seconds."""

    def __init__(self, name: str) -> None:
        self.name, self.artifact, self.said = name, None, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        share = 100.0 * done / max(1, total)
        if self.artifact is None:
            key = artifacts.key(f"progress-{self.name}")
            self.artifact = create_progress_artifact(share, key=key, description=f"{stage}: {total} jobs")
        elif time.monotonic() - self.said > 10 or done == total:
            update_progress_artifact(self.artifact, share)
        if time.monotonic() - self.said > 10 and done < total:
            get_run_logger().info("%s: %d of %d", stage, done, total)
            self.said = time.monotonic()


def _ended(result: Any) -> State:
    """The state that the UI shows of a stage."""
    message = f"{result.rows:,} rows in {result.shards:,} shards, {result.seconds:.1f} s. {result.note}".strip()
    name = {"cached": "Cached", "partial": "Partial"}.get(result.state, "Completed")
    logger = get_run_logger()
    (logger.warning if result.state == "partial" else logger.info)("%s: %s, %s", result.name, result.state, message)
    return Completed(name=name, message=message)


@task(task_run_name="{name}", **_OFF)
def run_stage(name: str, work: Callable[[Progress], Any]) -> State:
    """One stage of a run."""
    return _ended(work(Progress(name)))


def _step(name: str, work: Callable[[Progress], Any]) -> None:
    """Run a stage as a task; its error is raised here as it was."""
    state = run_stage(name, work, return_state=True)
    if state.is_failed() or state.is_crashed():
        state.result()


@flow(name="corpus", log_prints=False, persist_result=False)
def corpus(
    spec: str = DEMO,
    store: str | None = None,
    settings: list[str] | None = None,
    run: str | None = None,
    start: str | None = None,
    until: str | None = None,
    replace: bool = False,
    retrain: list[str] | None = None,
) -> dict[str, Any]:
    """The data half: from sources to tokens.

    Args:
        spec: path of the spec.
        store: another store than the spec's.
        settings: `key=value` overrides.
        run: name of the run; made up by default.
        start: stage to compute again beside what exists.
        until: last stage to run.
        replace: take the values of `start` where they differ.
        retrain: pins to learn anew.
    """
    current = Run.of(spec, store, settings or (), run, retrain or ())
    try:
        for name in current.corpus_stages(until):
            again = name == start
            _step(name, lambda progress, name=name, again=again: current.stage(name, progress, again, replace))
    finally:
        current.save()
        artifacts.corpus(current)
    return current.json()


@flow(name="training", log_prints=False, persist_result=False)
def training(
    spec: str = DEMO,
    store: str | None = None,
    settings: list[str] | None = None,
    run: str | None = None,
    until: str | None = None,
) -> dict[str, Any]:
    """The training half: the run plan, then training on it.

    Args:
        spec: path of the spec.
        store: another store than the spec's.
        settings: `key=value` overrides.
        run: name of the run; made up by default.
        until: `plan` to stop before training.
    """
    current = Run.of(spec, store, settings or (), run)
    current.resolve()
    try:
        _step("plan", current.plan)
        if until != "plan":
            _step("train", current.train)
    finally:
        current.save()
        artifacts.training(current)
    return current.json()


@flow(name="pretrain", log_prints=False, persist_result=False)
def pretrain(
    spec: str = DEMO,
    store: str | None = None,
    settings: list[str] | None = None,
    start: str | None = None,
    until: str | None = None,
    replace: bool = False,
    retrain: list[str] | None = None,
) -> dict[str, Any]:
    """From sources to a trained model.

    Args:
        spec: path of the spec.
        store: another store than the spec's.
        settings: `key=value` overrides.
        start: stage to compute again beside what exists.
        until: last stage to run.
        replace: take the values of `start` where they differ.
        retrain: pins to learn anew.
    """
    run = Run.name(spec)
    logging.getLogger("sluice").info("run %s", run)
    result = corpus(spec, store, settings, run, start, until, replace, retrain)
    if until in (None, "plan", "train"):
        result = training(spec, store, settings, run, until)
    return result


@flow(name="stage", log_prints=False, persist_result=False)
def stage(stage: str, spec: str = DEMO, store: str | None = None, replace: bool = False) -> dict[str, Any]:
    """Compute one stage again, then what depends on it.

    Args:
        stage: name of the stage.
        spec: path of the spec.
        store: another store than the spec's.
        replace: take its new values where they differ from the old ones.
    """
    return pretrain(spec, store, None, start=stage, replace=replace)


