"""Where a training's numbers go beside the store, which has them all."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_specs.base import Settings


class Wandb(Settings):
    """Weights & Biases, through its package `wandb`."""

    project: Annotated[str, Field(min_length=1)]
    entity: str | None = None
    """A user or a team; by default that of the key."""
    mode: Literal["online", "offline"] = "online"
    """offline: files beside the run's log, for `wandb sync`."""


class Mlflow(Settings):
    """MLflow, through its package `mlflow` or `mlflow-skinny`."""

    uri: str | None = None
    """Of the tracking server; by default that of MLFLOW_TRACKING_URI."""
    experiment: Annotated[str, Field(min_length=1)] = "sluice"


class Trackers(Settings):
    """Trackers of experiments beside TensorBoard, whose files are always written."""

    wandb: Wandb | None = None
    mlflow: Mlflow | None = None
