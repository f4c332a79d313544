"""What is kept of what a run is: `runs/<run>/run.json`."""

from __future__ import annotations

import platform
from importlib.metadata import distributions
from typing import Any

from data_specs import redaction
from data_specs.spec import Spec
from training import models
from training.rows import Plan


def described(spec: Spec, plan: Plan, low_precision: bool) -> dict[str, Any]:
    """Spec, plan, size of the model, precision and versions, without secrets."""
    record = {
        "spec": spec.model_dump(mode="json"),
        "plan": plan.path,
        "plan_digest": plan.digest,
        "parameters": models.parameters(spec.model, plan.vocabulary, plan.longest()),
        "precision": "bf16" if low_precision else "fp32",
        "versions": versions(),
    }
    return redaction.values(record)


def versions() -> dict[str, str]:
    """Every installed distribution's version, and Python's."""
    found = {d.metadata["Name"]: d.version for d in distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}
