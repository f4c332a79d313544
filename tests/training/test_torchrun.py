"""A training under torch's own launcher goes on with what another began, and others with what it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from data_specs.spec import Spec
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from training import __main__ as entry
from training import checkpoint, fit, log, loop, ranks
from training.begin import begin
from training.rows import Plan, PlanError
from training.vocabulary import pinned_tokenizer

ROOT = Path(__file__).parents[2]


def planned(folder: Path, steps: int) -> Store:
    """A store with a plan of so many steps, and the pin that its token files are named by."""
    store = Store(str(folder))
    training_plan.write(store, phases=(steps,))
    sha256 = training_plan.pin(store)["sha256"]
    # The pin that names the tokenizer of the plan's token files, which the tests' plan calls `tiny`.
    found = store.json(f"{PLAN}/plan.json")
    moved = [path.replace("tiny@0", f"{sha256[:16]}@0") for path in found["files"]]
    for old, new in zip(found["files"], moved, strict=True):
        store.commit(new, store.read(old))
    store.commit_json(f"{PLAN}/plan.json", found | {"files": moved})
    pin = training_plan.pin(store) | {"run": "test"}
    store.commit_json("pins/tiny/000001.json", {"name": "tokenizer", "pin": pin})
    return store


def written(store: Store, made: Spec) -> Path:
    path = Path(store.url) / "spec.yaml"
    path.write_text(yaml.safe_dump(made.model_dump(mode="json") | {"store": store.url}))
    return path


def launched(
    path: Path, run: str, *options: str, launcher: Sequence[str] = (), before: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Two ranks, to which Ray and Prefect are errors; `launcher`: options of torchrun; `before`: folders whose modules
    come before all others."""
    blocked = path.parent / "blocked"
    for name in ("ray", "prefect"):
        (blocked / name).mkdir(parents=True, exist_ok=True)
        (blocked / name / "__init__.py").write_text("raise ImportError('not under torchrun')\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *launcher]
    command = [*torchrun, "-m", "training", str(path), "--name", run, "--plan", PLAN, *options]
    environment = os.environ | {
        "PYTHONPATH": ":".join([*before, str(blocked), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    return subprocess.Popen(
        command, env=environment, cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def losses(store: Store, run: str) -> list[float]:
    return [record["loss"] for record in log.read(store, run)]


def steps(made: Spec, store: Store, run: str, count: int, resume: bool = False) -> None:
    """Train so many steps in this process, and save."""
    trainer = loop.Trainer(made, store, Plan.read(store, PLAN), run)
    begin(trainer, resume)
    for _ in range(count):
        trainer.step()
    trainer.save()
    trainer.log.flush()
    trainer.engine.destroy()


def test_a_training_goes_on_under_torchrun_to_its_end_and_takes_the_steps_of_a_straight_one(tmp_path: Path) -> None:
    made, store = spec(rows=8, micro=2, checkpoint={"every": 0}), planned(tmp_path, 40)
    ranks.join("cpu")
    fit.run_to_end(made, store, Plan.read(store, PLAN), "straight", False)[0].log.flush()
    steps(made, store, "moved", 10)
    process = launched(written(store, made), "moved")
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
    assert [record["workers"] for record in log.records(store, "moved") if record["kind"] == "start"] == [1, 2]
    assert losses(store, "moved") == pytest.approx(losses(store, "straight"), rel=1e-5)
    assert len(losses(store, "moved")) == 40
    assert store.exists("runs/moved/summary.json")


def test_a_training_that_a_signal_ends_under_torchrun_goes_on_without_it(tmp_path: Path) -> None:
    made, store = spec(rows=8, micro=2, checkpoint={"every": 0}), planned(tmp_path, 5000)
    process = launched(written(store, made), "moved")
    deadline = time.monotonic() + 400
    while not log.attempts(store, "moved") and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on to its ranks
    said = process.communicate(timeout=400)[0]
    assert not store.exists("runs/moved/summary.json"), said
    last = max(checkpoint.steps(store, "moved"))
    ranks.join("cpu")
    steps(made, store, "moved", 3, resume=True)
    steps(made, store, "straight", last + 3)
    assert losses(store, "moved") == pytest.approx(losses(store, "straight"), rel=1e-5)
    assert len(losses(store, "moved")) == last + 3


def test_what_torchrun_cannot_train_is_said(tmp_path: Path) -> None:
    made, store = spec(), planned(tmp_path, 4)
    with pytest.raises(PlanError, match=r"0 plans of other: name one with --plan"):
        entry.train(made.model_copy(update={"name": "other", "store": store.url}), None, None)
    assert pinned_tokenizer(store, made, Plan.read(store, PLAN))["path"] == training_plan.pin(store)["path"]
    with pytest.raises(PlanError, match="is not pinned"):
        pinned_tokenizer(store, made.model_copy(update={"name": "other"}), Plan.read(store, PLAN))
