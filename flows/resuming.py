"""Which training a run goes on with, and which interrupted ones it leaves behind, and why."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from data_specs.amounts import plural
from data_specs.spec import Spec
from flows.differences import differences
from tasks.engine import garbage_collection
from tasks.engine.pipeline import Pipeline
from tasks.storage.store import DeniedError, Store
from training import checkpoint, log
from training.identity import EXECUTION_ONLY


def continues(run: str, step: int, steps: int) -> str:
    """What is said of a training that goes on from a checkpoint."""
    return f"continues from step {step:,} of {steps:,} (checkpoint {checkpoint.folder(run)}/{step:08d}.json)"


def left_behind(pipeline: Pipeline, run: str, plan: str) -> str:
    """What is said of a new training, `run` on a plan of that digest, where an interrupted one of the lineage had come
    to a checkpoint; "" where none had. Of several, the one that went on last."""
    store = pipeline.store
    found = [
        (log.last_written(store, name), name, steps[0])
        for folder in garbage_collection.interrupted(pipeline)
        if (name := folder.removeprefix("runs/")) != run and (steps := checkpoint.steps(store, name))
    ]
    if not found:
        return ""
    _, name, step = max(found)
    changed, of = _changed(store, name, pipeline.spec, plan)
    more = f", as {plural(len(found) - 1, 'older one is', 'older ones are')}" if len(found) > 1 else ""
    return (
        f"a new training: {changed} changed since runs/{name}, which stopped at step {step:,}{of} and is left "
        f"there{more}; `sluice gc` removes it"
    )


def _changed(store: Store, name: str, spec: Spec, plan: str) -> tuple[str, str]:
    """Why a training is not the one of a spec and plan, and of how many steps it was, as far as it is known."""
    try:
        before = store.json(f"runs/{name}/run.json")
    except (FileNotFoundError, DeniedError):  # a killed run did not write it, or another user's did
        return "its settings", ""
    found = differences("", _shaping(_with_defaults(before["spec"])), _shaping(spec.model_dump(mode="json")))
    other = before["plan_digest"] != plan
    what = "; ".join([*found[:3], *(["..."] if found[3:] else [])]) or ("the corpus" if other else "its settings")
    path = f"{before['plan']}/plan.json"
    return what, f" of {store.json(path)['steps']:,}" if store.exists(path) else ""


def _with_defaults(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec that an earlier version wrote, with the settings that there are now; as it is where some of its own are
    gone."""
    try:
        return Spec.model_validate(spec).model_dump(mode="json")
    except ValidationError:
        return spec


def _shaping(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a spec shapes a training and its plan."""
    kept = {key: value for key, value in spec.items() if key not in ("name", "store", "gates", "cluster")}
    training = {key: value for key, value in spec["training"].items() if EXECUTION_ONLY.get(key) is not True}
    batch = {key: value for key, value in training["batch"].items() if key not in EXECUTION_ONLY["batch"]}
    return kept | {"training": training | {"batch": batch}}
