"""A training under torch's own launcher goes on with what another began, and others with what it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from data_specs.spec import Spec
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from training import __main__ as entry
from training import checkpoint, log, loop, ranks
from training.rows import Plan, PlanError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("torchrun")))
    training_plan.write(store, phases=(200,))
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


def launched(path: Path, run: str, *options: str) -> subprocess.Popen[str]:
    """Two ranks, to which Ray and Prefect are errors."""
    blocked = path.parent / "blocked"
    for name in ("ray", "prefect"):
        (blocked / name).mkdir(parents=True, exist_ok=True)
        (blocked / name / "__init__.py").write_text("raise ImportError('not under torchrun')\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "training", str(path), "--name", run, "--plan", PLAN, *options]
    environment = os.environ | {"PYTHONPATH": f"{blocked}:{ROOT}", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return subprocess.Popen(
        command, env=environment, cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_training_moves_under_torchrun_and_back_and_takes_the_steps_of_a_straight_one(store: Store) -> None:
    made = spec(rows=8, micro=2, checkpoint={"every": 0}, learning_rate={"peak": 1e-2})
    plan, path = Plan.read(store, PLAN), written(store, made)
    ranks.join("cpu")
    loop.run_to_end(made, store, plan, "straight", False)[0].log.flush()
    trainer = loop.Trainer(made, store, plan, "moved")
    trainer.begin(resume=False)
    for _ in range(10):
        trainer.step()
    trainer.save()
    trainer.engine.destroy()
    process = launched(path, "moved")
    deadline = time.monotonic() + 400
    while log.attempts(store, "moved") < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on to its ranks
    said = process.communicate(timeout=400)[0]
    last = max(checkpoint.steps(store, "moved"))
    assert last > 10, said
    assert [record["workers"] for record in log.records(store, "moved") if record["kind"] == "start"] == [1, 2]
    assert not store.exists("runs/moved/summary.json")
    loop.run_to_end(made, store, plan, "moved", True)[0].log.flush()
    one, other = ([record["loss"] for record in log.read(store, run)] for run in ("moved", "straight"))
    assert one == pytest.approx(other, rel=1e-5)
    assert len(one) == 200


def test_what_torchrun_cannot_train_is_said(store: Store) -> None:
    made = spec()
    with pytest.raises(PlanError, match=r"0 plans of other: name one with --plan"):
        entry.train(made.model_copy(update={"name": "other", "store": store.url}), None, None)
    assert entry.tokenizer(store, made, Plan.read(store, PLAN))["path"] == training_plan.pin(store)["path"]
    with pytest.raises(PlanError, match="is not pinned"):
        entry.tokenizer(store, made.model_copy(update={"name": "other"}), Plan.read(store, PLAN))
