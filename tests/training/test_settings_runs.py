"""Settings of loss, optimizer, model and memory in whole runs of two ranks: which of them change losses, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_specs.spec import Spec
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from tests.training_ranks import Job, Ranks
from training import log

STEPS = 12
pytestmark = pytest.mark.slow


def settings(zero: int, model: dict[str, Any] | None = None, **training: Any) -> Spec:
    made = spec(workers=2, micro=2, zero=zero, **training)
    return made.model_copy(update={"model": made.model.model_copy(update=model or {})})


def job(name: str, zero: int, **more: Any) -> Job:
    return settings(zero, **more), PLAN, f"{name}-{zero}", False


JOBS = [
    *(job("plain", zero) for zero in range(4)),
    *(job("chunked", zero, chunked_loss=True) for zero in range(4)),
    job("bf16", 1, precision="bf16"),
    job("chunked-bf16", 1, precision="bf16", chunked_loss=True),
    job("z-loss", 1, z_loss=0.1),
    job("z-loss-chunked", 3, z_loss=0.1, chunked_loss=True),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("settings")
    store = Store(str(folder))
    training_plan.write(store, phases=(STEPS,))
    assert Ranks(folder, 2, JOBS).wait() == []
    return store


def losses(store: Store, run: str) -> np.ndarray:
    found = np.array([record["loss"] for record in log.read(store, run)])
    assert len(found) == STEPS
    return found


@pytest.mark.parametrize("zero", range(4))
def test_the_chunked_loss_is_the_plain_one_at_every_stage(store: Store, zero: int) -> None:
    plain, chunked = (losses(store, f"{name}-{zero}") for name in ("plain", "chunked"))
    assert np.abs(chunked - plain).max() < 1e-6
    norms = [[r["grad_norm"] for r in log.read(store, f"{name}-{zero}")] for name in ("plain", "chunked")]
    assert np.allclose(*norms, rtol=1e-5)


def test_the_chunked_loss_in_bf16_follows_the_plain_one(store: Store) -> None:
    assert 0 < np.abs(losses(store, "chunked-bf16-1") - losses(store, "bf16-1")).max() < 2e-3


def test_z_loss_changes_what_is_learned_and_not_the_first_loss_that_is_reported(store: Store) -> None:
    plain, z_loss, chunked = (losses(store, name) for name in ("plain-1", "z-loss-1", "z-loss-chunked-3"))
    assert plain[0] == z_loss[0]
    assert np.abs(plain - z_loss).max() > 1e-4
    assert np.abs(z_loss - chunked).max() < 1e-6
