"""The trainings in a store: of each its spec, its plan and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_specs.optimization import Average
from data_specs.spec import Spec
from data_specs.training import Model
from flows.run import Run
from tasks.storage.pins import Pin, Pins
from tasks.storage.store import Store
from training.checkpoint import CheckpointError
from training.rows import Plan


@dataclass(frozen=True)
class Training:
    """One training in the store: its name, the spec with the model that it trains, and its plan."""

    name: str
    spec: Spec
    plan: Plan
    lineage: str
    """Name of the spec that it was begun with, whose pins it has its tokenizer of."""


def training(current: Run, name: str | None = None) -> Training:
    """The training `runs/<name>`, as it was begun; without a name, that of the spec as it stands. Raises
    CheckpointError where there is none."""
    as_it_stands = name is None
    if name is None:
        folder = current.training_folder()
        if folder is None:
            known = ", ".join(names(current.store))
            others = f"; --run NAME takes one that is there, of other settings: {known}" if known else ""
            raise CheckpointError(
                f"this spec as it stands has no run plan, so no training: `sluice run` makes both{others}"
            )
        name = folder.removeprefix("runs/")
    try:
        noted = current.store.json(f"runs/{name}/run.json")
    except FileNotFoundError as error:
        known = ", ".join(names(current.store)) or "none"
        raise CheckpointError(f"there is no training runs/{name} in the store; there are: {known}") from error
    was = noted["spec"]
    settings: dict[str, Any] = {"model": Model.model_validate(was["model"]), "seed": was["seed"]}
    if not as_it_stands:  # what is exported and sampled from is what that one's spec says
        average = was["training"].get("average")
        averages = {"average": Average.model_validate(average) if average else None}
        special = {token: was["tokenizer"].get(token) for token in ("end", "pad", "mask")}
        settings["training"] = current.spec.training.model_copy(update=averages)
        settings["tokenizer"] = current.spec.tokenizer.model_copy(update=special)
    return Training(
        name, current.spec.model_copy(update=settings), Plan.read(current.store, noted["plan"]), was["name"]
    )


def tokenizer(current: Run, training: Training) -> Pin:
    """The tokenizer of a training: the one pinned whose digest its token files are named by. Raises
    CheckpointError where there is none."""
    [digest] = {path.split("/")[1].partition("@")[0] for path in training.plan.files}
    for pin in reversed(Pins(current.store, training.lineage).history.get("tokenizer", ())):
        if pin["sha256"].startswith(digest):
            return pin
    raise CheckpointError(
        f"the tokenizer of runs/{training.name}, whose digest begins with {digest}, is pinned no longer"
    )


def checkpoint_name(name: str, at: int, asked: int | None) -> str:
    """Which checkpoint of a training is taken, and, where another step was asked for, why."""
    return f"{name}, step {at:,}" + (f", the newest up to {asked:,}" if asked not in (None, at) else "")


def names(store: Store) -> list[str]:
    """Every training that a store holds."""
    return sorted(name for name in store.folders("runs") if store.exists(f"runs/{name}/run.json"))
