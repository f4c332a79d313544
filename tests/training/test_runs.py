"""Whole runs on processes of their own: equal losses however the work is spread, kills, resumes, exports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_specs.cluster import Cluster
from data_specs.spec import Spec
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, SHORT, spec
from tests.training_ranks import Job, Ranks
from training import checkpoint, launch, log
from training.checkpoint import CheckpointError
from training.rows import IGNORED, Plan, Rows
from training.spikes import NonFiniteError

ROOT = Path(__file__).parents[2]
STEPS = 100


def losses(store: Store, run: str) -> np.ndarray:
    return np.array([record["loss"] for record in log.read(store, run)])


def settings(world: int, zero: int, accumulation: int, **training: Any) -> Spec:
    return spec(workers=world, micro=8 // world // accumulation, zero=zero, **training)


def bf16(resume: bool) -> list[Job]:
    every = {"every": 25, "keep": 2}
    return [(settings(1, z, 4, precision="bf16", checkpoint=every), SHORT, f"bf16-{z}", resume) for z in range(4)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """A store with a run of the long plan per world size, stage and accumulation, and straight runs of the short."""
    folder = tmp_path_factory.mktemp("runs")
    store = Store(str(folder))
    training_plan.write(store, phases=(60, STEPS - 60))
    training_plan.write(store, phases=(20, 10), path=SHORT)
    ranks = []
    for world in (1, 2):
        jobs = [(settings(world, z, a), PLAN, f"{world}-{z}-{a}", False) for z in range(4) for a in (1, 4)]
        jobs.append((settings(world, 1, 4), SHORT, f"straight-{world}", False))
        if world == 1:
            jobs += bf16(resume=False)
        ranks.append(Ranks(folder, world, jobs))
    assert [error for each in ranks for error in each.wait()] == []
    return folder, store


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_losses_do_not_depend_on_ranks_stage_and_accumulation(
    runs: tuple[Path, Store], world: int, zero: int, accumulation: int
) -> None:
    _, store = runs
    expected, found = losses(store, "1-0-1"), losses(store, f"{world}-{zero}-{accumulation}")
    assert len(found) == STEPS
    assert np.abs(found - expected).max() < 1e-6
    assert expected[-5:].mean() < expected[:5].mean() - 0.1  # it learns
    norms = [[r["grad_norm"] for r in log.read(store, run)] for run in ("1-0-1", f"{world}-{zero}-{accumulation}")]
    assert np.allclose(*norms, rtol=1e-4)


def test_the_log_accounts_for_every_token_of_the_plan(runs: tuple[Path, Store]) -> None:
    _, store = runs
    plan, steps = Plan.read(store, PLAN), log.read(store, "2-1-4")
    for record in steps:
        name = [record["phase"], record["row"], record["rows"]]
        assert record["tokens"] == Rows(store, plan, name[0]).target_count(name[1], name[2])
        assert sum(tokens for _, tokens in record["channels"].values()) == record["tokens"]
    assert [record["step"] for record in log.read(store, "2-1-4", "held_out")] == [0, STEPS]


def test_a_killed_run_goes_on_to_the_last_bit_and_a_damaged_checkpoint_is_left_out(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    chosen = settings(2, 1, 4, checkpoint={"every": 3, "keep": 2})
    ranks = Ranks(folder, 2, [(chosen, SHORT, "killed", False)])
    while not [step for step in checkpoint.steps(store, "killed") if step >= 9]:
        assert any(process.is_alive() for process in ranks.processes)
        time.sleep(0.005)
    ranks.kill()
    newest = checkpoint.steps(store, "killed")[0]
    assert newest < 30
    shard = f"{checkpoint.folder('killed')}/{newest:08d}.00001.safetensors"
    store.commit(shard, store.read(shard)[:-1] + b"?")
    assert Ranks(folder, 2, [(chosen, SHORT, "killed", True)]).wait() == []
    assert np.array_equal(losses(store, "killed"), losses(store, "straight-2"))
    (warning,) = log.read(store, "killed", "warning")
    assert warning["step"] == newest - 3
    assert f"{newest:08d}.00001.safetensors" in warning["message"]
    assert checkpoint.steps(store, "killed") == [30, 27]
    assert len(log.read(store, "killed", "start")) == 2


def test_a_run_whose_log_lost_steps_is_refused_and_a_damaged_log_is_named(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    chosen = settings(1, 1, 4, checkpoint={"every": 3, "keep": 2})
    assert Ranks(folder, 1, [(chosen, SHORT, "gap", False)]).wait() == []
    segment = f"runs/gap/log/{sorted(store.list('runs/gap/log'))[3]}"
    whole = store.read(segment)
    damaged = f"{segment} is damaged (its checksum is another, or it belongs in another place); bring it back"
    told = {"has no record of step": None, damaged: whole[:-9]}
    for message, left in told.items():
        store.remove(segment) if left is None else store.commit(segment, left)
        (error,) = Ranks(folder, 1, [(chosen, SHORT, "gap", True)]).wait()
        assert message in str(error)
        store.commit(segment, whole)
    assert Ranks(folder, 1, [(chosen, SHORT, "gap", True)]).wait() == []


def test_the_first_call_of_a_vector_function_is_as_exact_as_later_ones() -> None:
    command = [sys.executable, "-m", "tests.first_calls", "600"]
    environment = os.environ | {"OMP_WAIT_POLICY": "active"}  # so that threads begin at the same moment
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == [b"0\n"] * 3


def test_a_run_resumes_at_another_size_and_stage(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    chain = [(2, 3), (1, 0), (1, 2), (1, 3), (2, 1)]
    for number, (world, zero) in enumerate(chain):
        chosen = settings(world, zero, 1, checkpoint={"every": 25, "keep": 2})
        assert Ranks(folder, world, [(chosen, SHORT, "moved", number > 0)]).wait() == []
        assert np.abs(losses(store, "moved") - losses(store, "straight-1")).max() < 1e-6
        checkpoint.remove(store, "moved", 30, 30)  # the next goes on from step 25
    assert [record["zero"] for record in log.read(store, "moved", "start")] == [zero for _, zero in chain]


def test_bf16_follows_fp32_and_resumes_to_the_last_bit_at_every_stage(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    straight = [losses(store, f"bf16-{zero}") for zero in range(4)]
    for zero in range(4):
        assert 0 < np.abs(straight[zero] - losses(store, "straight-1")).max() < 0.05
        checkpoint.remove(store, f"bf16-{zero}", 30, 30)
    assert Ranks(folder, 1, bf16(resume=True)).wait() == []
    for zero in range(4):
        assert len(log.read(store, f"bf16-{zero}", "start")) == 2
        assert np.array_equal(losses(store, f"bf16-{zero}"), straight[zero])


def test_a_loss_that_is_not_finite_stops_the_run_which_resumes_without_those_rows(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    wild = spec(micro=4, zero=0, learning_rate={"peak": 1e25, "warmup": 0}, checkpoint={"every": 1})
    (error,) = Ranks(folder, 1, [(wild, SHORT, "wild", False)]).wait()
    (stop,) = log.read(store, "wild", "non_finite")
    assert isinstance(error, NonFiniteError)
    assert f"rows {stop['row']} to {stop['row'] + 8} of phase" in str(error)
    assert checkpoint.steps(store, "wild")[0] == stop["step"] - 1
    Ranks(folder, 1, [(wild, SHORT, "wild", True)]).wait()
    assert log.read(store, "wild", "non_finite")[1]["row"] == stop["row"] + 8
    assert log.read(store, "wild", "start")[-1]["skipped"] == [[0, stop["row"], 8]]


def test_after_skipped_rows_the_learning_rate_is_that_of_the_plan_to_its_end(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    chosen = settings(1, 1, 4, checkpoint={"every": 5, "keep": 9})
    assert Ranks(folder, 1, [(chosen, SHORT, "skips", False)]).wait() == []
    straight = {(r["phase"], r["row"]): r["lr"] for r in log.read(store, "skips")}
    checkpoint.remove(store, "skips", 6, 30)
    attempt = log.Log(store, "skips", 5)
    for row in (48, 56):  # as two stops at a loss that was not finite leave them
        attempt.write("non_finite", 7, reason="", phase=0, row=row, rows=8)
    attempt.flush()
    assert Ranks(folder, 1, [(chosen, SHORT, "skips", True)]).wait() == []
    steps = log.read(store, "skips")
    assert [record["step"] for record in steps] == list(range(1, 29))
    assert all(record["lr"] == straight[record["phase"], record["row"]] for record in steps)
    assert (steps[-1]["phase"], steps[-1]["row"]) == max(straight)


def test_resuming_nothing_and_starting_over_a_run_are_errors(runs: tuple[Path, Store]) -> None:
    folder, store = runs
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        launch.check(spec(), store, PLAN, "never", True)
    with pytest.raises(CheckpointError, match="resume it, or choose another name"):
        launch.check(spec(), store, PLAN, "1-0-1", False)
    (error,) = Ranks(folder, 1, [(spec(), PLAN, "never", True)]).wait()
    assert "there is nothing to resume" in str(error)
    (error,) = Ranks(folder, 1, [(spec(), SHORT, "1-0-1", True)]).wait()
    assert "trained on another plan or model" in str(error)


def test_a_disk_too_full_for_the_checkpoints_is_said_before_training(
    runs: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = runs
    monkeypatch.setattr(Store, "free", lambda self: 10_000)
    with pytest.raises(launch.TrainingError, match=r"has 0 MiB free; checkpoints and export of this model need"):
        launch.train(spec(), str(folder), PLAN, "full", training_plan.pin(Store(str(folder))), False)


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "address", "expected"),
    [
        ("auto", 2, 0, None, False),
        ("auto", 2, 1, None, False),
        ("auto", 2, 2, None, True),
        ("cpu", 2, 8, None, False),
        ("cuda", 2, 2, None, True),
        ("cuda", 2, 0, "auto", True),  # a cluster may grow
    ],
)
def test_training_is_on_gpus_where_there_is_one_for_each_worker_or_they_are_asked_for(
    device: str, workers: int, gpus: int, address: str | None, expected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = spec(workers=workers, device=device).model_copy(update={"cluster": Cluster(address=address)})
    assert launch._on_gpus(chosen, gpus) == expected
    assert ("training on processors" in caplog.text) == (device == "auto" and gpus == 1)


def test_of_workers_errors_ours_is_told_else_the_death_before_the_lost_connection_and_that_the_run_goes_on() -> None:
    lost, ours = OSError("reset\nby peer"), CheckpointError("broken")
    assert launch._why([lost, ours]) == "broken"
    died = WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: ...", RayActorError())
    assert launch._why([lost, died]).startswith("a worker failed (A worker health check failed.)")
    assert launch._why([lost]) == "a worker failed (reset); run again to go on from the newest checkpoint"


def test_a_worker_works_in_the_folder_of_the_run_where_its_machine_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    place = {"get_world_rank": 0, "get_world_size": 1, "get_local_world_size": 1, "get_local_rank": 0}
    context = SimpleNamespace(**{name: lambda value=value: value for name, value in place.items()})
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("training.fit.fit", lambda **work: seen.append((os.getcwd(), work)))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
    (tmp_path / "rays").mkdir()
    for folder in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(tmp_path / "rays")
        launch._worker({"plan": PLAN, "folder": str(folder)})
    given = {"plan": PLAN, "rendezvous": None}
    assert seen == [(str(tmp_path), given), (str(tmp_path / "rays"), given)]


def test_gpus_that_are_asked_for_and_are_not_there_are_an_error_before_training(tmp_path: Path) -> None:
    training_plan.write(store := Store(str(tmp_path)), phases=(6,))
    with pytest.raises(launch.TrainingError, match=r"training\.workers is 2, but Ray has 0 GPUs: lower it, or set"):
        launch.train(spec(workers=2, device="cuda"), str(tmp_path), PLAN, "ray", training_plan.pin(store), False)


def test_ray_trains_and_the_export_loads_generates_and_has_the_loss_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen, started = Store(str(tmp_path)), [], set()
    training_plan.write(store, phases=(6,))
    chosen = spec(workers=2, zero=2, mixture={"shards": "rows"}, checkpoint={"every": 0, "upload": "uploaded"})
    monkeypatch.chdir(tmp_path)  # which relative paths are below, wherever Ray has its workers stand

    def follow(record: dict[str, Any]) -> None:
        seen.append(record)
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                started.add(each.name().removeprefix("ray::").partition(".")[0])  # a method follows

    summary = launch.train(chosen, str(tmp_path), PLAN, "ray", training_plan.pin(store), False, follow)
    assert "TrainController" in started
    assert not {"DatasetManager", "PlacementGroupCleaner", "_AutoscalingCoordinatorActor"} & started
    assert [record["step"] for record in seen if record["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert summary["steps"] == 6
    assert summary["tokens"] == sum(record["tokens"] for record in log.read(store, "ray"))
    assert store.exists(summary["checkpoint"])
    folder = store.local(summary["export"])
    uploaded = {path.name: path.read_bytes() for path in (tmp_path / "uploaded" / "ray").iterdir()}
    assert uploaded == {path.name: path.read_bytes() for path in Path(str(folder)).iterdir()}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = Rows(store, Plan.read(store, PLAN), None)
    for channel, name in enumerate(training_plan.CHANNELS):
        first = rows.batch(3 * channel, 3)
        inputs, positions, labels = map(torch.from_numpy, (first.inputs, first.positions, first.labels))
        logits = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
        mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        assert mean.item() == pytest.approx(summary["held_out"][name]["last"], abs=1e-5)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)
    assert (model.generation_config.eos_token_id, model.config.eos_token_id) == (0, 0)
    assert tokenizer.decode(tokenizer("def é 你")["input_ids"]) == "def é 你"
    made = model.generate(**tokenizer("for x in", return_tensors="pt"), max_new_tokens=5, do_sample=False)
    assert made.shape[1] > len("for x in")
