"""What a run keeps in the store: its log and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from flows import summary
from tasks.storage.store import DamagedError, Store
from training import checkpoint, log
from training.checkpoint import CheckpointError
from training.history import History
from training.rows import Cursor


def test_the_log_has_each_step_once_after_kills_and_resumes(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def attempt(start: int, stop: int, flushed: int, value: str) -> None:
        writer = log.Log(store, "r", start)
        for step in range(max(start, 0) + 1, stop + 1):
            writer.write("step", step, value=value)
            if step == flushed:
                writer.flush()

    attempt(-1, 7, 5, "first")  # killed: 6 and 7 are lost
    attempt(3, 12, 9, "second")  # from the checkpoint of step 3
    attempt(8, 10, 10, "third")
    found = [(record["step"], record["value"]) for record in log.read(store, "r")]
    expected = [(s, "first") for s in (1, 2, 3)] + [(s, "second") for s in range(4, 9)] + [(9, "third"), (10, "third")]
    assert found == expected
    attempt(-1, 2, 2, "anew")
    assert [record["value"] for record in log.read(store, "r")] == ["anew", "anew"]


def test_a_run_that_goes_on_knows_of_its_log_what_reading_all_of_it_says(tmp_path: Path) -> None:
    store, rng = Store(str(tmp_path)), np.random.default_rng(2)
    for attempt, (first, last) in enumerate([(-1, 40), (30, 55), (20, 70)]):
        writer = log.Log(store, "r", first, bf16=attempt < 2)
        for step in range(max(first, 0) + 1, last + 1):
            more = {"left_out": "the loss is 9"} if step in (60, 64, 70) else {}
            writer.write("step", step, loss=float(rng.normal()), grad_norm=1.0, attempt=attempt, **more)
            if step % 10 == 0:
                writer.write("losses", step, total={}, window={})
                writer.write("held_out", step, losses={"en": 1.0}, attempt=attempt)
            if step % 7 == 0:
                writer.flush()
        writer.write("spike", last, phase=0, row=8 * last, rows=8)
        writer.flush()
    found, steps = History(store, "r"), log.read(store, "r")
    assert found.last_steps(70, None) == steps
    assert found.last_steps(62, 5) == steps[56:62]  # step 60 moved no weight
    assert found.last_steps(70, 500) == steps
    assert found.lost(70) == []
    assert found.lost(72) == [71, 72]
    assert found.of("held_out") == log.read(store, "r", "held_out")
    assert found.diverged() == [(0, 320, 8), (0, 440, 8), (0, 560, 8)]
    assert found.other_precision(True).startswith("goes on in bf16, and was trained in fp32")
    assert History(store, "none").last_steps(0, 5) == []


def test_followers_see_each_record_once_and_stops_are_never_superseded(tmp_path: Path) -> None:
    store, seen = Store(str(tmp_path)), set()
    writer = log.Log(store, "r", -1)
    writer.write("non_finite", 4, phase=0, row=24, rows=8)
    writer.flush()
    assert [record["kind"] for record in log.records(store, "r", seen)] == ["start", "non_finite"]
    writer = log.Log(store, "r", 2)
    writer.write("step", 3, loss=float("nan"))
    writer.flush()
    assert [record["kind"] for record in log.records(store, "r", seen)] == ["start", "step"]
    assert log.read(store, "r", "non_finite")[0]["row"] == 24
    assert log.read(store, "r")[0]["loss"] is None


def test_a_channel_that_ended_before_the_run_is_summarised_with_its_own_last_step(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    writer = log.Log(store, "r", -1)
    for step in (1, 2, 3, 4):
        early = [9.0 - step, 10] if step < 3 else [None, 0]
        writer.write(
            "step", step, channels={"early": early, "late": [5.0, 10]}, tokens=20, loss=5.0, seconds=1.0, rows=1
        )
    writer.flush()
    found = log.summarize(store, "r") | {"held_out": {"late": {"tokens": 8, "documents": 2, "first": 9.0, "last": 5.0}}}
    assert found["channels"]["early"] == {"first": 8.0, "last": 7.0, "last_step": 2, "tokens": 20}
    assert found["channels"]["late"]["last_step"] == found["last_step"] == 4
    _, rows = summary.losses(found)
    assert rows == [
        ["early", 20, 8.0, "7.000 (step 2)", None, None, "no held-out documents"],
        ["late", 40, 5.0, 5.0, 9.0, 5.0, "8 tokens of 2 documents"],
    ]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Store, dict[str, np.ndarray]]:
    """Checkpoints at steps 10, 20, 30, 40 of two ranks, of which three are kept; the arrays of the last, whole."""
    store, rng = Store(str(tmp_path)), np.random.default_rng(0)
    for step in (10, 20, 30, 40):
        whole = {kind: rng.normal(size=1000).astype(np.float32) for kind in ("weight", "exp_avg", "exp_avg_sq")}
        for rank, (start, stop) in enumerate([(0, 617), (617, 1000)]):
            part = {kind: array[start:stop] for kind, array in whole.items()}
            checkpoint.write_shard(store, "r", step, rank, [("layer.w", start, part)])
        checkpoint.commit(store, "r", Cursor(step, 1, 8 * step, ((0, 8, 8),)), "plan", {"hidden": 4}, 2, keep=3)
    return store, whole


def test_the_newest_checkpoints_are_kept_and_state_comes_back(saved: tuple[Store, dict[str, np.ndarray]]) -> None:
    store, whole = saved
    assert checkpoint.steps(store, "r") == [40, 30, 20]
    assert not [name for name in store.list(checkpoint.folder("r")) if name.startswith("00000010")]
    found = checkpoint.load(store, "r", 40)
    assert found.cursor == Cursor(40, 1, 320, ((0, 8, 8),))
    assert (found.plan, found.model) == ("plan", {"hidden": 4})
    checkpoint.verify(store, "r", found.shards)
    reader = checkpoint.Reader(store, "r", found)
    for start, numel in [(0, 1000), (600, 100), (0, 617), (999, 1)]:
        arrays = reader.read("layer.w", start, numel)
        assert all(np.array_equal(arrays[kind], whole[kind][start : start + numel]) for kind in whole)
    with pytest.raises(CheckpointError, match=r"holds 10 of 20 elements of layer\.w"):
        reader.read("layer.w", 990, 20)


def test_a_list_in_the_place_of_another_is_no_checkpoint(saved: tuple[Store, dict[str, np.ndarray]]) -> None:
    store, _ = saved
    folder = checkpoint.folder("r")
    one, other = (store.read(f"{folder}/{step:08d}.json") for step in (30, 40))
    store.commit(f"{folder}/00000040.json", one)
    store.commit(f"{checkpoint.folder('s')}/00000040.json", other)
    for run in ("r", "s"):
        with pytest.raises(CheckpointError, match="not what was written there"):
            checkpoint.load(store, run, 40)


def test_a_training_that_goes_on_in_another_precision_is_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert History(store, "r").other_precision(False) == ""
    log.Log(store, "r", -1, bf16=True)
    assert History(store, "r").other_precision(True) == ""
    assert History(store, "r").other_precision(False).startswith("goes on in fp32, and was trained in bf16")
    log.Log(store, "r", 4, bf16=False)
    assert History(store, "r").other_precision(False) == ""


def test_a_segment_of_the_log_in_the_place_of_another_or_empty_is_damaged(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for run, loss in (("r", 1.0), ("s", 2.0)):
        log.Log(store, run, -1).write("step", 1, loss=loss)
    whole = store.read("runs/s/log/0001-000000.jsonl")
    for wrong in (whole, b""):
        store.commit("runs/r/log/0001-000000.jsonl", wrong)
        with pytest.raises(DamagedError):
            log.read(store, "r")


def test_shards_are_safetensors(saved: tuple[Store, dict[str, np.ndarray]]) -> None:
    store, whole = saved
    tensors = load(store.read(f"{checkpoint.folder('r')}/00000040.00001.safetensors"))
    assert np.array_equal(tensors["exp_avg:layer.w"], whole["exp_avg"][617:])


def test_any_damage_is_found(saved: tuple[Store, dict[str, np.ndarray]]) -> None:
    store, _ = saved
    rng, folder = np.random.default_rng(1), checkpoint.folder("r")
    for name in ("00000040.json", "00000040.00000.safetensors", "00000040.00001.safetensors"):
        whole = store.read(f"{folder}/{name}")
        flips = [bytearray(whole) for _ in range(20)]
        for flipped, position in zip(flips, rng.choice(len(whole), 20, replace=False), strict=True):
            flipped[position] ^= 1 << rng.integers(8)
        for damaged in [*flips, whole[:-1], b"", None]:
            if damaged is None:
                store.remove(f"{folder}/{name}")
            else:
                store.commit(f"{folder}/{name}", bytes(damaged))
            with pytest.raises(CheckpointError):
                checkpoint.verify(store, "r", checkpoint.load(store, "r", 40).shards)
        store.commit(f"{folder}/{name}", whole)
    checkpoint.verify(store, "r", checkpoint.load(store, "r", 40).shards)
