"""Weights & Biases and MLflow, where `training.trackers` names them: through their own packages, which are extras.

A thread of rank 0 hands them what the log says, so that a slow or absent server holds up no step and ends no training:
what went wrong is a warning in the log, which has everything. A step that is taken again is shown again, as both have
the step for an axis of their own.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from data_specs.trackers import Mlflow, Trackers, Wandb
from tasks.storage.store import Store
from training.scalars import scalars

PATIENCE = 30.0
"""Seconds that the end of a training waits for what is still to be sent."""
MOST = 1000
"""Values that MLflow takes at once."""
LONGEST = 250
"""Characters of a name that MLflow takes."""

Send = Callable[[Mapping[str, Any]], None]
"""Takes one record."""


def lacking(settings: Trackers | None) -> str | None:
    """What to say of a package that is named and not installed."""
    for name, package in (("wandb", "wandb"), ("mlflow", "mlflow-skinny")):
        if settings and getattr(settings, name) and importlib.util.find_spec(name) is None:
            return (
                f"training.trackers.{name}: the package is not installed: pip install {package}, or remove the setting"
            )
    return None


def begin(settings: Trackers | None, store: Store, run: str, config: dict[str, Any]) -> list[Tracker]:
    """Those that are named. `config`: what is said of the run as a whole."""
    if settings is None:
        return []
    found = []
    if settings.wandb:
        folder = store.local(f"runs/{run}") or tempfile.mkdtemp(prefix="sluice-wandb-")
        found.append(Tracker("W&B", _wandb, settings.wandb, run, config, str(folder)))
    if settings.mlflow:
        found.append(Tracker("MLflow", _mlflow, settings.mlflow, run, config))
    return found


class Tracker:
    """Hands records to one of them, from a thread."""

    def __init__(self, name: str, start: Callable[..., tuple[Send, Callable[[], None]]], *given: Any) -> None:
        """`start(*given)` gives what sends a record, and what ends it."""
        self.name, self.start, self.given = name, start, given
        self.records: SimpleQueue[Mapping[str, Any] | None] = SimpleQueue()
        self.problems: SimpleQueue[str] = SimpleQueue()
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def follow(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            self.records.put(record)

    def failed(self) -> list[str]:
        found = []
        while not self.problems.empty():
            found.append(self.problems.get())
        return found

    def close(self) -> None:
        self.records.put(None)
        self.thread.join(PATIENCE)

    def _send(self) -> None:
        try:
            send, end = self.start(*self.given)
            while (record := self.records.get()) is not None:
                send(record)
            end()
        except Exception as error:  # whatever their packages raise: a training goes on without them
            self.problems.put(f"{self.name} is told nothing more of this attempt: {type(error).__name__}: {error}")
            while self.records.get() is not None:
                pass


def _wandb(settings: Wandb, run: str, config: dict[str, Any], folder: str) -> tuple[Send, Callable[[], None]]:
    import wandb

    session = wandb.init(
        project=settings.project,
        entity=settings.entity,
        mode=settings.mode,
        id=run,
        name=run,
        resume="allow",
        dir=folder,
        config=config,
    )
    session.define_metric("step")
    session.define_metric("*", step_metric="step")

    def send(record: Mapping[str, Any]) -> None:
        if values := scalars(record):
            session.log({"step": record["step"], **values})

    return send, session.finish


def _mlflow(settings: Mlflow, run: str, config: dict[str, Any]) -> tuple[Send, Callable[[], None]]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    number = experiment.experiment_id if experiment else client.create_experiment(settings.experiment)
    existing = client.search_runs([number], f"tags.`sluice.run` = '{run}'", max_results=1)
    named = existing[0] if existing else client.create_run(number, tags={"sluice.run": run}, run_name=run)
    key = named.info.run_id
    known = named.data.params
    parameters = [Param(name, str(value)[:500]) for name, value in config.items() if name not in known]
    client.log_batch(key, params=parameters)

    def send(record: Mapping[str, Any]) -> None:
        at, step = int(record["time"] * 1000), record["step"]
        values = [Metric(mlflow_name(name), value, at, step) for name, value in scalars(record).items()]
        for first in range(0, len(values), MOST):
            client.log_batch(key, metrics=values[first : first + MOST])

    return send, lambda: client.set_terminated(key)


def mlflow_name(name: str) -> str:
    """A name as MLflow takes it, which refuses all of a record for one that holds other characters, such as a value of
    `loss_by` may have, or that is no path: `loss/source/a,b` is `loss/source/a_2c_b`, and an empty part is `_`."""
    parts = (re.sub(r"[^\w. -]", lambda found: f"_{ord(found[0]):x}_", part) for part in name.split("/"))
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)[:LONGEST]
