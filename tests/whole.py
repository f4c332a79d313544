"""Whole runs without Prefect: `python -m tests.whole SPEC [KEY=VALUE ...]` on Ray, `go` also in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from flows import embedded
from flows.run import Run
from tasks.engine import fanout, ray_session, worker
from tasks.engine.job import Job
from tasks.storage.manifest import Entry
from tasks.storage.store import DamagedError, Store, StoreError

SHORT_TRAINING = (
    "training.steps=6",
    "training.workers=1",
    "training.precision=fp32",
    "training.evaluate.every=0",
    "training.checkpoint.every=2",
    "training.checkpoint.keep=3",
)
"""Of a training in this process, with checkpoints of steps 2, 4 and 6."""


def direct(
    stage: Any,
    stage_key: str,
    jobs: Sequence[Job],
    store: Store,
    cluster: Any,
    commit: Callable[[list[Entry]], None],
) -> int:
    """The fan-out without Ray: one job after the other, each tried once."""
    del stage_key, cluster
    failed, damages = 0, list[DamagedError]()
    stage = worker.prepare(stage, store)
    for job in jobs:
        try:
            entry = worker.run(stage, job, store)
        except DamagedError as error:
            damages.append(error)
            continue
        except StoreError:
            raise
        except Exception as error:
            entry = fanout.error_entry(job, error, 1)
            failed += 1
        commit([entry])
    if hasattr(stage, "close"):
        stage.close()
    fanout.stop_at(damages)
    return failed


def go(
    spec: Path,
    settings: Sequence[str] = (),
    *,
    fan: Any = direct,
    until: str | None = None,
    start: str | None = None,
    replace: bool = False,
    retrain: Sequence[str] = (),
    train: bool = False,
) -> Run:
    """Run the corpus stages and the plan, and with `train` also the training; returns the run, its record saved."""
    run = Run.of(str(spec), None, settings, None, retrain)
    run.execution.run_jobs = fan
    for name in run.corpus_stages(start, until):
        run.stage(name, lambda *_: None, name == start, replace)
    if until is None:
        run.version(lambda *_: None)
        run.plan(lambda *_: None)
        if train:
            run.train(lambda *_: None)
    run.save(ended=True)
    return run


def states(run: Run) -> dict[str, str]:
    """Stage -> computed, partial or cached."""
    return {stage["name"]: stage["state"] for stage in run.record["stages"]}


def content(run: Run) -> dict[str, Any]:
    """Digests of everything a run made: columns, pins, plan, and the losses of its training."""
    found: dict[str, Any] = {}
    for name, output in run.pipeline.outputs.items():
        for column, digests in output.index.digests.items():
            found[f"{name}.{column}"] = sorted(row.tobytes().hex() for row in digests)
    for name, history in run.pipeline.pins.history.items():
        found[f"pin {name}"] = [pin.get("sha256", pin.get("value")) for pin in history]
    found["plan"] = run.plan_facts["content"]
    if "training" in run.record:
        training = run.record["training"]
        found["training"] = {name: training[name] for name in ("steps", "tokens", "loss", "channels", "held_out")}
    return found


def main() -> None:
    embedded.prepare()
    run = go(Path(sys.argv[1]), sys.argv[2:], fan=fanout.run, train=True)
    ray_session.stop()
    sys.stdout.buffer.write(orjson.dumps(content(run)) + b"\n")


if __name__ == "__main__":
    main()
