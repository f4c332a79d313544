"""Checkpoints while a training goes on, which of them stay, and what becomes of the last one: export and upload."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from training import checkpoint, export, fit, log, ranks
from training.rows import Cursor, Plan
from training.saver import Saver

STEPS = 10


@pytest.fixture
def store(tmp_path: Path) -> Store:
    ranks.join("cpu")
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(STEPS,))
    return store


def trained(store: Store, run: str, resume: bool = False, **checkpoints: Any) -> dict[str, Any]:
    made = spec(micro=8, workers=1, checkpoint={"every": 0, **checkpoints})
    found = fit.fit(made, store.url, PLAN, run, training_plan.pin(store), resume)
    assert found is not None
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_milestones_stay_beside_the_newest_checkpoints_also_after_a_resume(store: Store) -> None:
    kept = {"every": 4, "keep": 2, "milestones": 3}
    trained(store, "r", **kept)
    assert checkpoint.steps(store, "r") == [10, 9, 6, 3]
    whole = checkpoint.load(store, "r", 6).shards
    checkpoint.remove(store, "r", 7, 10)
    trained(store, "r", resume=True, **kept)
    assert checkpoint.steps(store, "r") == [10, 9, 6, 3]
    assert checkpoint.load(store, "r", 6).shards == whole
    checkpoint.verify(store, "r", whole)


def test_the_loop_waits_for_a_copy_alone_and_what_it_changes_meanwhile_is_not_in_the_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, write = threading.Event(), checkpoint.write_shard

    def slow(*given: Any) -> int:
        assert go_on.wait(60)
        return write(*given)

    monkeypatch.setattr(checkpoint, "write_shard", slow)
    weight, saver = np.arange(4, dtype=np.float32), Saver(store, "r", 0, 1)
    committed: list[int] = []

    def commit(step: int) -> None:
        committed.append(step)
        checkpoint.commit(store, "r", Cursor(step), "plan", {}, 1, keep=1)

    saver.save(1, [("w", 0, {"weight": weight})], commit)
    weight += 1  # the loop goes on
    assert (saver.written(), committed) == ([], [])
    go_on.set()
    saver.wait()
    [facts] = saver.written()
    assert facts["stall"] < facts["written"]
    read = checkpoint.Reader(store, "r", checkpoint.load(store, "r", 1)).read("w", 0, 4)
    assert read["weight"].tolist() == [0, 1, 2, 3]


def test_an_upload_that_is_killed_in_the_middle_is_done_by_the_next_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, commit = tmp_path / "hub", Store.commit

    def killed(target: Store, path: str, *given: Any) -> None:
        if target.url == str(upload) and path.endswith(".safetensors"):
            raise KeyboardInterrupt
        commit(target, path, *given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "commit", killed)
        trained(store, "r", upload=str(upload))
    assert not store.exists("runs/r/summary.json")
    trained(store, "r", resume=True, upload=str(upload))
    assert content(upload / "r") == content(tmp_path / "runs" / "r" / "export")
    assert len(log.read(store, "r")) == STEPS


def test_an_export_that_is_made_again_is_uploaded_in_the_place_of_the_one_before(store: Store, tmp_path: Path) -> None:
    upload = tmp_path / "hub"
    trained(store, "r", upload=str(upload))
    whole = content(upload / "r")
    for path in (upload / "r").iterdir():
        path.write_bytes(b"of another export")
    trained(store, "r", resume=True, upload=str(upload))
    assert content(upload / "r") == whole


def test_weights_of_a_large_model_are_in_parts_that_load_as_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(store, "r")
    made, plan = spec(micro=8, workers=1), Plan.read(store, PLAN)
    monkeypatch.setattr(export, "PART", "10KB")
    sizes = export.write(store, made, plan, "r", STEPS, training_plan.pin(store), (Store(str(tmp_path / "parts")), ""))
    parts = [size for name, size in sizes.items() if name.endswith(".safetensors")]
    assert len(parts) > 1
    assert "model.safetensors.index.json" in sizes
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / at) for at in ("parts", "runs/r/export"))
    for name, parameter in one.named_parameters():
        assert parameter.equal(other.get_parameter(name))
