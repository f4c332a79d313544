"""The trainings of a lineage: which of them a spec as it stands goes on with, and which it leaves behind, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from data_specs.spec import Spec
from data_specs.training import Model
from flows.differences import differences
from tasks.engine import garbage_collection
from tasks.engine.pipeline import Pipeline
from tasks.storage.pins import Pin
from tasks.storage.store import DeniedError, Store
from training import checkpoint, log
from training.checkpoint import CheckpointError
from training.identity import EXECUTION_ONLY
from training.rows import Plan

if TYPE_CHECKING:
    from flows.run import Run


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
    more = f", as {len(found) - 1} older ones are" if len(found) > 1 else ""
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


@dataclass(frozen=True)
class Training:
    """One training in the store: its name, the spec with the model that it trains, and its plan."""

    name: str
    spec: Spec
    plan: Plan


def training(current: Run, name: str | None = None) -> Training:
    """The training `runs/<name>`; without a name, that of the spec as it stands. Raises CheckpointError where there is
    none."""
    if name is None:
        folder = current.training_folder()
        if folder is None:
            raise CheckpointError("this spec as it stands has no run plan, so no training: `sluice run` makes both")
        name = folder.removeprefix("runs/")
    try:
        begun = current.store.json(f"runs/{name}/run.json")
    except FileNotFoundError as error:
        known = ", ".join(names(current.store)) or "none"
        raise CheckpointError(f"there is no training runs/{name} in the store; there are: {known}") from error
    of = {"model": Model.model_validate(begun["spec"]["model"]), "seed": begun["spec"]["seed"]}
    spec = current.spec.model_copy(update=of)
    return Training(name, spec, Plan.read(current.store, begun["plan"]))


def tokenizer(current: Run, of: Training) -> Pin:
    """The tokenizer of a training: the one pinned whose digest its token files are named by. Raises
    CheckpointError where there is none."""
    [digest] = {path.split("/")[1].partition("@")[0] for path in of.plan.files}
    for pin in reversed(current.pipeline.pins.history.get("tokenizer", ())):
        if pin["sha256"].startswith(digest):
            return pin
    raise CheckpointError(f"the tokenizer of runs/{of.name}, whose digest begins with {digest}, is pinned no longer")


def names(store: Store) -> list[str]:
    """Every training that a store holds."""
    return sorted(name for name in store.folders("runs") if store.exists(f"runs/{name}/run.json"))
