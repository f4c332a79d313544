"""Two steps on rows of a run plan that leave nothing behind: does a training fit, and how fast is it."""

from __future__ import annotations

import time
from typing import Any

import torch

from data_specs.spec import Spec
from tasks.storage.store import Store
from training import memory
from training.loop import Trainer
from training.peak import Peak
from training.ranks import from_all_ranks, join, on_gpu
from training.rows import Cursor, Plan


def dry_run(spec: Spec, store: Store, plan: Plan, device: str, rendezvous: str | None = None) -> dict[str, Any]:
    """In the phase with the longest rows: `peak_bytes` of the rank that took the most, beside what it held before the
    model was built; `expected_bytes`; `seconds` of the second step. Writes nothing."""
    join(device, rendezvous)
    import deepspeed  # noqa: F401  # what it holds is not the training's

    number = max(range(len(plan.phases)), key=lambda phase: plan.phases[phase].sequence)
    peak = Peak(torch.device("cuda") if on_gpu() else torch.device("cpu"))
    trainer = Trainer(spec, store, plan, "dry-run")
    for _ in range(2):  # the same rows, as the phase may have no more
        trainer.cursor = Cursor(phase=number)
        began = time.perf_counter()
        trainer.step()
    seconds = time.perf_counter() - began
    most = max(from_all_ranks(peak.most() - peak.before))
    low = trainer.bf16 or spec.training.precision == "fp16"
    sizes = plan.vocabulary, plan.phases[number].sequence, plan.phases[number].targets_of_a_row
    expected = memory.estimate(spec.model, spec.training, *sizes, low).total
    trainer.engine.destroy()
    return {"peak_bytes": most, "seconds": seconds, "expected_bytes": expected}
