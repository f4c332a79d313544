"""What names a training, and what of a spec may change on its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_specs.redaction import redacted
from data_specs.spec import Spec
from tasks.engine.stage import digest

EXECUTION_ONLY: dict[str, Any] = {
    "workers": True,
    "zero": True,
    "batch": {"micro"},
    "device": True,
    "evaluate": True,
    "checkpoint": True,
    "grace": True,
    "attention": True,
    "compile": True,
    "activation_checkpointing": True,
    "offload": True,
    "sequence_parallel": True,
    "tensor_parallel": True,
    "pipeline_parallel": True,
    "average": {"evaluate", "export"},
    "chunked_loss": True,
    "trackers": True,
    "restarts": True,
    "watchdog": True,
}
"""Settings of training that say how and where it is executed, and are not in its identity."""


def identity(spec: Spec, plan: str) -> str:
    """The digest that names the training on a plan of that digest: of it and of the settings that shape the model. What
    only spreads the work or looks at it (ranks, ZeRO stage, micro-batches, evaluations, checkpoints) may change."""
    return digest(
        {
            "plan": plan,
            "model": spec.model.model_dump(mode="json"),
            "training": spec.training.model_dump(mode="json", exclude=EXECUTION_ONLY),
            "seed": spec.seed,
        }
    )


def name(spec: Spec, plan: str) -> str:
    """The folder below `runs/` of the training on a plan of that digest."""
    return f"{spec.name}-{identity(spec, plan)[:12]}"


def export_choices(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What of a spec, as JSON, an export follows and a training does not: with others it is another export of the same
    training."""
    average = spec["training"].get("average")
    tokens = {name: spec["tokenizer"].get(name) for name in ("end", "pad", "mask")}
    upload = spec["training"]["checkpoint"].get("upload")
    return {"average": average is None or average["export"], **tokens, "upload": redacted(upload) if upload else None}
