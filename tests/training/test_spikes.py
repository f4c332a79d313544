"""Spikes: what is one, and that a training goes back before it, on without its rows, and twice the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_specs.training import Spikes
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from tests.training_ranks import Ranks
from training import blame, checkpoint, log, ranks, spikes
from training.begin import begin
from training.checkpoint import CheckpointError
from training.loop import Trainer
from training.rows import Batch, Cursor, Plan, PlanError
from training.spikes import NonFiniteError, SpikeError

GARBAGE = 40 * 8
"""The first row of the step, the 41st, of which all rows are garbage."""


def watch(losses: list[float], **settings: Any) -> spikes.Watch:
    return spikes.Watch(Spikes(window=16, **settings), 10, [(loss, 1.0) for loss in losses])


def test_a_loss_far_above_or_below_the_median_is_a_spike_and_a_wild_one_before_it_moves_nothing() -> None:
    losses = [*np.random.default_rng(0).normal(5, 0.1, 15).tolist(), 50.0]
    found = watch(losses)
    assert found.of_loss(5.5, 20) is None
    assert "the loss is 7, and the median of the 16 steps before it" in str(found.of_loss(7.0, 20))
    assert "more than" in str(found.of_loss(3.0, 20))


def test_a_small_norm_is_none_and_a_large_one_is() -> None:
    found = watch([5.0] * 16, norm_threshold=50)
    assert found.of_norm(0.0, 20) is None
    assert "norm of the gradient" in str(found.of_norm(1.51, 20))
    assert found.of_norm(1.49, 20) is None  # 50 x 1 % of the median


def test_nothing_is_a_spike_during_warm_up_or_before_half_a_window() -> None:
    assert watch([5.0] * 16).of_loss(50.0, 9) is None
    assert watch([5.0] * 7).of_loss(50.0, 20) is None
    assert watch([5.0] * 8).of_loss(50.0, 20) is not None


def test_a_resumed_watch_knows_the_steps_that_a_straight_one_does() -> None:
    logged = [{"loss": 2.0, "grad_norm": 1.0}, {"loss": 2.1, "grad_norm": None, "overflow": True}]  # inf is null there
    logged.append({"loss": None, "grad_norm": None, "left_out": "the loss is not finite"})
    steps = [{"phase": 1} | record for record in (*logged, {"loss": 1.9, "grad_norm": 0.5})]
    assert spikes.known(steps) == ([(2.0, 1.0), (1.9, 0.5)], 1)
    assert spikes.known([{"phase": 0} | logged[0], *steps]) == spikes.known(steps)
    assert spikes.known([]) == ([], 0)
    assert spikes.left_out([*logged, {"loss": 1.9, "grad_norm": 0.5}]) == 0
    assert spikes.left_out([*logged, *logged[1:]]) == 2  # what fp16 left out is not counted, and does not end a row
    of_both = {"loss": None, "grad_norm": None, "left_out": "the loss is not finite", "overflow": True}
    assert spikes.left_out([logged[0], of_both, of_both]) == 2  # as a straight run counts them: fp16 overflows by NaN


def test_steps_of_another_phase_are_no_measure() -> None:
    found = watch([5.0] * 16)
    found.enter(0)
    assert found.of_loss(50.0, 20) is not None
    found.enter(1)
    assert found.of_loss(50.0, 20) is None
    for _ in range(8):
        found.add(50.0, 1.0)
    assert found.of_loss(50.0, 20) is None
    assert found.of_loss(5.0, 20) is not None


def test_the_rate_is_lower_behind_what_was_skipped_for_so_many_steps_of_the_plan(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(20, 10))
    plan, settings = Plan.read(store, PLAN), Spikes(rate=0.5, steps=3)
    skipped = ((0, 32, 8), (0, 40, 8), (1, 0, 8))  # steps 4, 5 and 20 of the plan
    cursor, lower = Cursor(skipped=skipped), []
    while place := cursor.seek(plan):
        if spikes.rate(settings, plan, place) == 0.5:
            lower.append(place.planned(plan))
        cursor = place.after(plan)
    assert lower == [6, 7, 8, 21, 22, 23]
    assert spikes.rate(None, plan, cursor) == 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("spikes")
    store = Store(str(folder))
    training_plan.write(store, phases=(60,), garbage=range(GARBAGE, GARBAGE + 8))
    return store


def settings(workers: int, checkpoint: Any = None, zero: int = 1, **watched: Any) -> Any:
    return spec(
        workers=workers,
        micro=4,
        zero=zero,
        learning_rate={"peak": 3e-2, "warmup": 5, "schedule": "constant"},
        checkpoint=checkpoint or {"every": 10},
        spikes={"window": 16, "norm_threshold": 1e4, "rate": 0.5, "steps": 4} | watched,
    )


def trained(store: Store, run: str, workers: int = 1, **watched: Any) -> list[BaseException]:
    return Ranks(Path(store.url), workers, [(settings(workers, **watched), PLAN, run, False)]).wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_of_garbage_is_seen_taken_back_and_skipped_and_twice_the_same(store: Store, workers: int) -> None:
    for run in ("once", "again"):
        assert trained(store, f"{run}-{workers}", workers) == []
    [spike] = log.read(store, f"once-{workers}", "spike")
    assert (spike["step"], spike["row"], spike["rows"]) == (41, GARBAGE, 8)
    assert "the loss is" in spike["reason"]
    [first, second] = [r for r in log.records(store, f"once-{workers}") if r["kind"] == "start"]
    assert (first["step"], second["step"], second["skipped"]) == (-1, 40, [[0, GARBAGE, 8]])
    steps = log.read(store, f"once-{workers}")
    assert [record["step"] for record in steps] == list(range(1, 60))
    assert GARBAGE not in [record["row"] for record in steps]
    assert max(record["loss"] for record in steps[40:]) < spike["loss"] - 1
    assert {row["file"] for row in spike["documents"]} == {"tokens/tiny@0/garbage.arrow"}
    rates = [record["lr"] for record in steps[40:46]]
    assert np.allclose(rates, np.array([0.5] * 4 + [1.0] * 2) * rates[5])
    kept = ("step", "row", "loss", "lr", "grad_norm")
    again = log.read(store, f"again-{workers}")
    assert [[r[key] for key in kept] for r in again] == [[r[key] for key in kept] for r in steps]


def test_steps_far_above_and_far_below_the_others_are_both_taken_back_and_twice_the_same(tmp_path: Path) -> None:
    store, low = Store(str(tmp_path)), GARBAGE + 80
    training_plan.write(store, phases=(60,), garbage=range(GARBAGE, GARBAGE + 8), repeated=range(low, low + 8))
    for run in ("once", "again"):
        assert trained(store, run) == []
    events, steps = log.read(store, "once", "spike"), log.read(store, "once")
    assert [event["row"] for event in events] == [GARBAGE, low]
    typical = np.median([record["loss"] for record in steps[20:]])
    assert events[1]["loss"] < typical - 1 < typical + 1 < events[0]["loss"]
    assert [{row["file"] for row in event["documents"]} for event in events] == [
        {f"tokens/tiny@0/{name}.arrow"} for name in ("garbage", "repeated")
    ]
    assert len(steps) == 58
    assert not {GARBAGE, low} & {record["row"] for record in steps}
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5  # it recovers
    again = log.read(store, "again")
    assert [(record["row"], record["loss"]) for record in again] == [(each["row"], each["loss"]) for each in steps]


def test_of_a_spike_and_the_step_that_was_taken_under_its_number_each_is_blamed_for_its_own_rows(store: Store) -> None:
    chosen, plan = settings(1, checkpoint={"every": 10, "keep": 9}), Plan.read(store, PLAN)
    assert Ranks(Path(store.url), 1, [(chosen, PLAN, "blamed", False)]).wait() == []
    [spike] = log.read(store, "blamed", "spike")
    [taken] = [record for record in log.read(store, "blamed") if record["step"] == spike["step"]]
    assert taken["row"] == GARBAGE + 8
    for row, record, other in ((None, taken, spike), (GARBAGE + 8, taken, spike), (GARBAGE, spike, taken)):
        found = blame.blame(store, chosen, plan, "blamed", spike["step"], row)
        assert (found.record, found.others, found.weights, found.exact) == (record, [other], 40, True)
        files = set(found.documents["file"].to_pylist())
        assert ("tokens/tiny@0/garbage.arrow" in files) is (record is spike)
        losses, tokens = found.documents["loss"].to_numpy(), found.documents["tokens"].to_numpy()
        assert losses @ tokens / tokens.sum() == pytest.approx(record["loss"], rel=1e-5)
    with pytest.raises(CheckpointError, match="step 41 of runs/blamed does not begin at row 1, but at 320, 328"):
        blame.blame(store, chosen, plan, "blamed", 41, 1)
    for row in (None, GARBAGE):
        with pytest.raises(PlanError, match=r"reads documents that were taken down \(takedown 3\)"):
            blame.blame(store, chosen, replace(plan, takedowns=(3,)), "blamed", 41, row)


def test_where_rows_before_a_spike_were_left_out_later_its_losses_are_not_called_exact() -> None:
    steps = [{"kind": "step", "step": n + 1, "phase": 0, "row": row} for n, row in enumerate((0, 8, 24, 40))]
    late, early = ({"kind": "spike", "step": n, "phase": 0, "row": row} for n, row in ((5, 32), (3, 16)))
    record, others, before = blame._record([*steps, late, early], "run", 5, None)
    assert (record, others, before) == (late, [], 3)  # not 4, as when it was read
    record, others, before = blame._record([*steps, late, early], "run", 3, 16)
    assert (record, others, before) == (early, [steps[2]], 2)
    assert blame._record([*steps, late, early], "run", 4, None) == (steps[3], [], 3)


def test_a_training_that_stops_at_a_spike_names_its_rows_and_the_next_run_goes_on_without(store: Store) -> None:
    [error] = trained(store, "stops", action="stop")
    assert isinstance(error, SpikeError)
    assert f"rows {GARBAGE} to {GARBAGE + 8} of phase" in str(error)
    [error] = trained(store, "none", at_most=0)
    assert isinstance(error, SpikeError)
    assert checkpoint.steps(store, "stops")[0] == 40
    job = (settings(1, action="stop"), PLAN, "stops", True)
    assert Ranks(Path(store.url), 1, [job]).wait() == []
    assert len(log.read(store, "stops")) == 59


def test_spikes_of_a_process_that_ended_count_towards_those_that_are_taken_back(tmp_path: Path) -> None:
    store, low = Store(str(tmp_path)), GARBAGE + 80
    training_plan.write(store, phases=(60,), garbage=range(GARBAGE, GARBAGE + 8), repeated=range(low, low + 8))
    assert len(trained(store, "run", action="stop")) == 1
    [error] = Ranks(tmp_path, 1, [(settings(1, at_most=1), PLAN, "run", True)]).wait()
    assert isinstance(error, SpikeError)
    assert [event["row"] for event in log.read(store, "run", "spike")] == [GARBAGE, low]
    assert Ranks(tmp_path, 1, [(settings(1, at_most=1), PLAN, "run", True)]).wait() == []


def test_a_spike_before_the_first_checkpoint_begins_anew_without_its_rows(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(30,), garbage=range(160, 168))
    chosen = settings(1, checkpoint={"every": 0})
    assert Ranks(tmp_path, 1, [(chosen, PLAN, "early", False)]).wait() == []
    assert [record["step"] for record in log.read(store, "early", "spike")] == [21]
    assert len(log.read(store, "early")) == 29


def weights(store: Store, run: str, step: int) -> list[str]:
    """Digests of the shards of a checkpoint: weights, and the optimizer's state."""
    return [sha for _, _, sha in checkpoint.load(store, run, step).shards]


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_with_skip_a_step_of_garbage_moves_no_weight_and_the_training_goes_on_behind_it(
    store: Store, zero: int
) -> None:
    run, kept = f"skips-{zero}", {"every": 1, "keep": 99}
    chosen = settings(2, checkpoint=kept, zero=zero, action="skip")
    assert Ranks(Path(store.url), 2, [(chosen, PLAN, run, False)]).wait() == []
    [event] = log.read(store, run, "left_out")
    steps = log.read(store, run)
    assert [record["step"] for record in steps] == list(range(1, 61))
    assert [record["step"] for record in steps if "left_out" in record] == [event["step"]] == [41]
    assert (event["row"], event["rows"], event["reason"]) == (GARBAGE, 8, steps[40]["left_out"])
    assert steps[40]["loss"] == event["loss"] > max(record["loss"] for record in steps[41:]) + 1
    assert weights(store, run, 40) == weights(store, run, 41) != weights(store, run, 42)
    assert [checkpoint.load(store, run, step).updates for step in (40, 41, 42, 60)] == [40, 40, 41, 59]
    assert log.summarize(store, run)["left_out"] == 1
    assert {row["file"] for row in event["documents"]} == {"tokens/tiny@0/garbage.arrow"}
    mean = np.average(
        [row["loss"] for row in event["documents"]], weights=[row["tokens"] for row in event["documents"]]
    )
    assert mean == pytest.approx(event["loss"], rel=1e-6)
    checkpoint.remove(store, run, 42, 60)
    assert Ranks(Path(store.url), 2, [(chosen, PLAN, run, True)]).wait() == []
    assert [record["loss"] for record in log.read(store, run)] == [record["loss"] for record in steps]


@pytest.mark.parametrize("zero", [0, 1])
def test_with_skip_so_many_gradients_in_a_row_that_are_not_finite_are_left_out_and_the_next_stops(
    store: Store, zero: int
) -> None:
    run, wild = f"wild-{zero}", {"peak": 1e25, "warmup": 0}
    chosen = spec(
        micro=4, zero=zero, learning_rate=wild, checkpoint={"every": 1}, spikes={"action": "skip", "at_most": 2}
    )
    [error] = Ranks(Path(store.url), 1, [(chosen, PLAN, run, False)]).wait()
    assert isinstance(error, NonFiniteError)
    [stop] = log.read(store, run, "non_finite")
    assert [record["step"] for record in log.read(store, run, "left_out")] == [stop["step"] - 2, stop["step"] - 1]
    assert len({str(weights(store, run, stop["step"] - before)) for before in (1, 2, 3)}) == 1


def test_with_skip_a_loss_that_is_not_finite_is_null_in_the_log_and_in_no_sum(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, found = spec(micro=8, spikes={"action": "skip"}, steps=20), Trainer.losses

    def broken(trainer: Trainer, batch: Batch) -> tuple[torch.Tensor, Any]:
        total, (losses, *more) = found(trainer, batch)
        if trainer.cursor.step == 9:
            losses = losses.masked_fill(torch.arange(8)[:, None] == 3, math.nan)
            total = total * math.nan
        return total, (losses, *more)

    ranks.join("cpu")
    monkeypatch.setattr(Trainer, "losses", broken)
    trainer = Trainer(chosen, store, Plan.read(store, PLAN), "null")
    begin(trainer, resume=False)
    while trainer.cursor.step < 20:
        trainer.step()
    assert trainer.log is not None
    trainer.log.close()
    steps, [event] = log.read(store, "null"), log.read(store, "null", "left_out")
    assert event["reason"] == steps[9]["left_out"] == "the loss is not finite"
    assert steps[9]["loss"] is None
    assert [loss is None for loss, tokens in steps[9]["channels"].values() if tokens].count(True) == 1
    assert event["documents"][0]["loss"] is None
    assert event["documents"][-1]["loss"] > 0
    assert all(math.isfinite(record["loss"]) for record in steps if record["step"] != 10)
    sums = log.read(store, "null", "losses")[-1]["total"][""]
    known = [each for record in steps for each in record["channels"].values() if each[0] is not None]
    assert sum(each["tokens"] for each in sums.values()) == sum(tokens for _, tokens in known)
    total = sum(each["loss"] * each["tokens"] for each in sums.values())
    assert total == pytest.approx(sum(loss * tokens for loss, tokens in known))


def test_steps_that_a_process_left_out_before_it_ended_count_towards_those_in_a_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, found = spec(micro=8, spikes={"action": "skip", "at_most": 3}), Trainer.losses

    def broken(trainer: Trainer, batch: Batch) -> tuple[torch.Tensor, Any]:
        total, (losses, *more) = found(trainer, batch)
        bad = trainer.cursor.step >= 9
        return (total * math.nan, (losses * math.nan, *more)) if bad else (total, (losses, *more))

    ranks.join("cpu")
    monkeypatch.setattr(Trainer, "losses", broken)
    for last in (11, 12):  # steps 10 and 11 are left out, and then 12
        trainer = Trainer(chosen, store, Plan.read(store, PLAN), "in a row")
        begin(trainer, resume=last == 12)
        while trainer.cursor.step < last:
            trainer.step()
        trainer.save()
        if last == 12:
            with pytest.raises(NonFiniteError):
                trainer.step()
        assert trainer.log is not None
        trainer.log.close()
        trainer.engine.destroy()
    assert [record["step"] for record in log.read(store, "in a row", "left_out")] == [10, 11, 12]
