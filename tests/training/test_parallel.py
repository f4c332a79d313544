"""Ranks that share positions or matrices take the steps of one that has them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from data_specs.spec import Spec
from data_specs.training import Training
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from tests.training_ranks import Job, Ranks
from training import checkpoint, log
from training.parallel import Place

STEPS = 10
WIDE: dict[str, Any] = {"kv_heads": 2, "layers": 2}
REST: dict[str, Any] = {"z_loss": 0.01, "average": {"decay": 0.9}}


def settings(world: int, zero: int, model: dict[str, Any] | None = None, **training: Any) -> Spec:
    made = spec(micro=2).model_dump(mode="json")
    saved = {"workers": world, "zero": zero, "checkpoint": {"every": 5, "keep": 9}}
    changed = {"model": made["model"] | WIDE | (model or {}), "training": made["training"] | saved | training}
    return Spec.model_validate(made | changed)


def jobs(world: int) -> list[Job]:
    """Names begin with that of the run on one rank which they equal."""
    chosen = {
        **{
            f"plain-sequence-{zero}": settings(world, zero, sequence_parallel=2)
            for zero in (range(4) if world == 2 else (1, 3))
        },
        "more-sequence": settings(world, 1, {"qk_norm": True}, sequence_parallel=2, chunked_loss=True, z_loss=0.01),
        **{f"plain-tensor-{zero}": settings(world, zero, tensor_parallel=2) for zero in (0, 1)},
        "rest-tensor": settings(world, 1, tensor_parallel=2, chunked_loss=True, **REST),
    }
    return [(made, PLAN, f"{name}-{world}", False) for name, made in chosen.items()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("parallel")
    store = Store(str(folder))
    training_plan.write(store, phases=(STEPS,))
    ones = {"plain": settings(1, 0), "rest": settings(1, 1, **REST)}
    ones["more"] = settings(1, 1, {"qk_norm": True}, z_loss=0.01)
    alone = [(made, PLAN, run, False) for run, made in ones.items()]
    for world, each in ((1, alone), (2, jobs(2)), (4, jobs(4))):
        assert Ranks(folder, world, each).wait() == []
    return store


def losses(store: Store, run: str) -> np.ndarray:
    found = np.array([record["loss"] for record in log.read(store, run)])
    assert len(found) == STEPS
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_losses_norms_and_weights_are_those_of_one_rank(store: Store, world: int) -> None:
    for _, _, run, _ in jobs(world):
        straight = run.split("-")[0]
        assert np.abs(losses(store, run) - losses(store, straight)).max() < 5e-6, run
        norms = [[record["grad_norm"] for record in log.read(store, each)] for each in (run, straight)]
        assert np.allclose(*norms, rtol=1e-4), run
        tokens = [[record["tokens"] for record in log.read(store, each)] for each in (run, straight)]
        assert tokens[0] == tokens[1], run
        if straight == "plain":
            mine, theirs = (checkpoint.verified(store, each, STEPS) for each in (run, straight))
            for name, parts in theirs.parts.items():
                size = sum(len(part["weight"]) for _, part in parts)
                one, other = (found.read(name, 0, size) for found in (mine, theirs))
                assert set(one) == set(other) >= {"weight", "exp_avg", "exp_avg_sq"}
                assert all(np.allclose(one[kind], other[kind], atol=5e-5) for kind in one), (run, name)


@pytest.mark.slow
def test_they_resume_to_the_last_bit_and_on_one_rank_to_rounding(store: Store) -> None:
    every = [
        jobs(2)[1],
        *(each for each in jobs(2) if "plain-tensor" in each[2]),
    ]  # DeepSpeed keeps its last group of ranks
    straight = {run: losses(store, run) for _, _, run, _ in every}
    for run in straight:
        checkpoint.remove(store, run, STEPS, STEPS)
    assert Ranks(Path(store.url), 2, [(*each[:3], True) for each in every]).wait() == []
    for run, found in straight.items():
        assert len(log.read(store, run, "start")) == 2
        assert np.array_equal(losses(store, run), found), run
    run = "plain-tensor-1-2"
    checkpoint.remove(store, run, STEPS, STEPS)
    assert Ranks(Path(store.url), 1, [(settings(1, 3), PLAN, run, True)]).wait() == []
    assert np.abs(losses(store, run) - losses(store, "plain")).max() < 5e-6


def test_ranks_of_a_replica_are_neighbours_and_read_the_same_rows() -> None:
    shared = Training(workers=8, sequence_parallel=4)
    places = [Place.of(shared, rank, 8) for rank in range(8)]
    assert [place.replica for place in places] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [place.positions(256) for place in places[4:]] == [slice(64 * n, 64 * n + 64) for n in range(4)]
    assert [list(place.rows(0, 32, 8)) for place in places] == [[0, 16]] * 4 + [[8, 24]] * 4
    assert all(place.counts and place.averaged == 8 for place in places)
    cut = [Place.of(Training(workers=8, tensor_parallel=2), rank, 8) for rank in range(8)]
    assert [place.tensor for place in cut] == [(0, 2), (1, 2)] * 4
    assert [place.counts for place in cut] == [True, False] * 4
    assert {place.averaged for place in cut} == {4}
    assert all(place.positions(256) == slice(0, 256) for place in cut)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"pipeline_parallel": 2}, "pipeline_parallel is not there yet: .* 2 devices of 80 GB hold at most 10B"),
        ({"tensor_parallel": 2, "zero": 2}, "tensor_parallel is for zero 0 and 1"),
        ({"tensor_parallel": 2, "zero": 1, "muon": {}}, "without muon"),
        ({"tensor_parallel": 2, "sequence_parallel": 2, "workers": 4}, "exclude each other"),
        ({"sequence_parallel": 3}, "workers is 2, not a multiple"),
    ],
)
def test_what_ranks_cannot_share_is_refused_by_name(setting: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Training(**setting)


@pytest.mark.parametrize(
    ("model", "training", "why"),
    [
        ({"kv_heads": 1}, {"sequence_parallel": 2}, "training.sequence_parallel is 2, which does not divide kv_heads"),
        ({"intermediate": 25}, {"tensor_parallel": 2}, "training.tensor_parallel is 2, which does not divide interm"),
        ({"qk_norm": True}, {"tensor_parallel": 2}, "training.tensor_parallel: not with model.qk_norm"),
        ({"architecture": "bert"}, {"tensor_parallel": 2, "objective": "masked"}, "tensor_parallel: only a llama's"),
    ],
)
def test_models_that_ranks_cannot_share_are_refused_by_name(
    model: dict[str, Any], training: dict[str, Any], why: str
) -> None:
    given = spec(workers=2).model_dump(mode="json")
    changed = {"model": given["model"] | {"kv_heads": 2} | model, "training": given["training"] | training}
    with pytest.raises(ValidationError, match=re.escape(why)):
        Spec.model_validate(given | changed)
