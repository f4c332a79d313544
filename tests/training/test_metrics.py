"""Where a training's numbers go beside its log: TensorBoard's files, trackers, sums of channel losses."""

from __future__ import annotations

import math
import posixpath
import re
import struct
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tokenizers import Tokenizer

from data_specs.trackers import Trackers
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from training import checkpoint, launch, log, loop, ranks, tensorboard, trackers, utilisation
from training.begin import begin
from training.channel_sums import WINDOW, ChannelSums
from training.meter import Meter
from training.rows import IGNORED, Plan, Rows


def events(data: bytes) -> list[Any]:
    """What an event file says; its checksums are right."""
    found, at = [], 0
    while at < len(data):
        [length] = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8) == (masked_crc32c(data[at : at + 8]),)
        body = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked_crc32c(body),)
        found.append(Event.FromString(body))
        at += 16 + length
    return found


def shown(store: Store, run: str) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) as TensorBoard shows them: an attempt leaves out what earlier ones had from its step on."""
    kept: dict[str, list[tuple[int, float]]] = {}
    for name in sorted(store.list(tensorboard.folder(run))):
        first, *rest = events(store.read(f"{tensorboard.folder(run)}/{name}"))
        assert first.file_version == "brain.Event:2"
        for event in rest:
            if event.session_log.status == SessionLog.START:
                kept = {tag: [each for each in values if each[0] < event.step] for tag, values in kept.items()}
            for value in event.summary.value:
                kept.setdefault(value.tag, []).append((event.step, value.simple_value))
    return kept


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(30,))
    ranks.join("cpu")
    return store


def steps(store: Store, count: int, resume: bool = False, **training: Any) -> loop.Trainer:
    """Train so many steps, and save."""
    made = spec(**training)
    trainer = loop.Trainer(made, store, Plan.read(store, PLAN), "r")
    begin(trainer, resume)
    for _ in range(count):
        trainer.step()
    trainer.save()
    trainer.log.close()
    trainer.engine.destroy()
    return trainer


def test_tensorboard_has_what_the_log_has_also_after_steps_that_are_taken_again(store: Store) -> None:
    steps(store, 12)
    again = steps(store, 7, resume=True)
    assert again.cursor.step == 19
    checkpoint.remove(store, "r", 13, 19)
    steps(store, 1, resume=True)  # takes step 13 again; 14 to 19 are gone
    logged = log.read(store, "r")
    found = shown(store, "r")
    assert found["train/loss"] == [(r["step"], pytest.approx(r["loss"])) for r in logged]
    assert [step for step, _ in found["train/loss"]] == list(range(1, 14))
    assert found["loss/channel/zh"][3][1] == pytest.approx(logged[3]["channels"]["zh"][0])
    assert found["train/perplexity"][0][1] == pytest.approx(math.exp(logged[0]["loss"]), rel=1e-5)
    assert len(store.list(tensorboard.folder("r"))) == len(store.list("runs/r/log"))


def test_segments_that_a_kill_left_without_their_event_file_get_it_when_the_run_goes_on(store: Store) -> None:
    steps(store, 4)
    whole = {name: store.read(f"{tensorboard.folder('r')}/{name}") for name in store.list(tensorboard.folder("r"))}
    for name in whole:
        store.remove(f"{tensorboard.folder('r')}/{name}")
    log.Log(store, "r", 4)
    assert {name: store.read(f"{tensorboard.folder('r')}/{name}") for name in whole} == whole


def test_sums_of_channel_losses_are_those_of_the_log_and_go_back_with_the_training(store: Store) -> None:
    steps(store, 12)
    straight = log.read(store, "r", "losses")[0]
    records = log.read(store, "r")[:10]
    for name in training_plan.CHANNELS:
        pairs = [record["channels"][name] for record in records]
        tokens = sum(n for _, n in pairs)
        mean = sum((loss or 0) * n for loss, n in pairs) / tokens
        for kind in ("window", "total"):
            found = straight[kind][""][name]
            assert (found["loss"], found["tokens"]) == (pytest.approx(mean), tokens)
            assert found["perplexity"] == pytest.approx(math.exp(mean))
    kept = checkpoint.load(store, "r", 12).sums
    steps(store, 8, resume=True)
    once = log.read(store, "r", "losses")[1]
    checkpoint.remove(store, "r", 13, 20)
    steps(store, 8, resume=True)
    assert kept == checkpoint.load(store, "r", 12).sums
    assert log.read(store, "r", "losses")[1]["total"] == once["total"]
    assert log.read(store, "r", "losses")[1]["window"] == once["window"]


def test_a_window_forgets_and_the_sum_of_all_steps_does_not() -> None:
    sums = ChannelSums()
    for step in range(WINDOW + 50):
        loss = 9.0 if step < 50 else 1.0
        sums.add({"channels": {"en": (loss, 10), "zh": (None, 0)}, "by": {"source": {"a": (loss, 5)}}})
    found = sums.record()
    assert found["window"][""]["en"]["loss"] == 1.0
    assert found["total"][""]["en"]["loss"] == pytest.approx((50 * 9 + 100) / 150)
    assert found["window"]["source"]["a"] == {"loss": 1.0, "perplexity": pytest.approx(math.e), "tokens": 500}
    assert "zh" not in found["total"][""]  # nothing of it yet


def test_bits_per_byte_are_of_the_steps_whose_bytes_are_known() -> None:
    """A training that an earlier version began goes on, and its checkpoint has sums without bytes."""
    sums = ChannelSums({"": {"en": [900.0, 100, 0]}})
    sums.add({"channels": {"en": (2.0, 10)}, "bytes": {"": {"en": 40}}})
    found = sums.record()["total"][""]["en"]
    assert found["tokens"] == 110
    assert found["loss"] == pytest.approx(920 / 110)
    assert found["bits_per_byte"] == pytest.approx(20 / 40 / math.log(2))


def test_a_step_logs_the_bytes_that_its_targets_spell_and_evaluations_their_bits(store: Store) -> None:
    made, plan = spec(), Plan.read(store, PLAN)
    trainer = loop.Trainer(made, store, plan, "r", training_plan.pin(store))
    begin(trainer, resume=False)
    trainer.evaluate()
    for _ in range(10):
        trainer.step()
    trainer.log.close()
    encoder = Tokenizer.from_buffer(store.read(training_plan.pin(store)["path"]))
    words = [encoder.id_to_token(number) for number in range(plan.vocabulary)]
    spelled = np.array([0, 0, *map(len, words[2:])])  # the first two are special
    rows = Rows(store, plan, 0)
    steps = log.read(store, "r")
    for record in steps:
        batch = rows.batch(record["row"], record["rows"])
        for number, name in enumerate(training_plan.CHANNELS):
            labels = batch.labels[batch.channels == number]
            assert record["bytes"][""][name] == spelled[labels[labels != IGNORED]].sum()
    [sums] = log.read(store, "r", "losses")
    total = sum(record["channels"]["zh"][0] * record["channels"]["zh"][1] for record in steps)
    count = sum(record["bytes"][""]["zh"] for record in steps)
    assert sums["total"][""]["zh"]["bits_per_byte"] == pytest.approx(total / count / math.log(2))
    [held] = log.read(store, "r", "held_out")
    batch = Rows(store, plan, None).batch(0, plan.held_out)
    labels = batch.labels[batch.channels == 0]
    labels = labels[labels != IGNORED]
    bits = held["losses"]["zh"] * len(labels) / math.log(2) / spelled[labels].sum()
    assert held["bits_per_byte"]["zh"] == pytest.approx(bits)
    assert log.summarize(store, "r")["held_out"]["zh"]["bits_per_byte"] == held["bits_per_byte"]["zh"]
    tags = {name for name in shown(store, "r") if "bits_per_byte" in name}
    assert {"all_steps/bits_per_byte/channel/zh", "held_out/bits_per_byte/zh"} <= tags


def test_what_a_start_from_nothing_had_shown_is_left_out_of_tensorboard(store: Store) -> None:
    for _ in range(2):  # the first was killed before a checkpoint
        log.Log(store, "r", -1).close()
        again = log.Log(store, "r", -1)
        again.write("held_out", 0, losses={"zh": 1.0})
        again.close()
    assert shown(store, "r")["held_out/channel/zh"] == [(0, 1.0)]


def test_a_step_says_what_its_seconds_went_to_and_the_summary_what_share_was_steps(store: Store) -> None:
    steps(store, 6)
    first = log.read(store, "r")[0]
    assert 0 < first["loader"] < first["seconds"]
    assert first["memory"] > 50e6
    assert "mfu" not in first  # nothing is known of a processor's peak
    [saved] = log.read(store, "r", "checkpoint")
    assert saved["stall"] > 0
    found = log.summarize(store, "r")
    assert 0 < found["goodput"] < 1
    assert found["seconds_taken"] > found["seconds"]
    assert found["checkpoint_stall"] == saved["stall"]


def test_the_slowest_rank_is_named_and_operations_are_held_against_the_devices_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utilisation, "peak", lambda *_: 1e12)
    meter = Meter(torch.device("cpu"), True, rank=2, world=3)
    meter.begin()
    assert meter.own().tolist()[:2] == [0, 0]  # what the others have their own seconds in
    meter.ranks = torch.tensor([1.0, 1.0, 2.5], dtype=torch.float64)
    found = meter.facts(1000, flops=6 * 10**12)
    assert (found["slowest_rank"], found["straggling"]) == (2, 2.5)
    assert found["mfu"] == pytest.approx(6 / found["seconds"] / 3)
    assert found["tokens_per_second"] == pytest.approx(1000 / found["seconds"])


def test_the_peak_of_a_device_is_known_by_its_name() -> None:
    assert utilisation._peak("NVIDIA H100 80GB HBM3") == 989e12
    assert utilisation._peak("NVIDIA H100 PCIe") == 756e12
    assert utilisation._peak("NVIDIA A100-SXM4-80GB") == 312e12
    assert utilisation._peak("NVIDIA GH200 480GB") == utilisation._peak("NVIDIA H200") == 989e12
    assert utilisation._peak("NVIDIA GeForce RTX 4090") == 165e12
    assert utilisation._peak("some other") is None


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A10G", "NVIDIA RTX A1000", "NVIDIA RTX A4000", "NVIDIA A100X", "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti", "NVIDIA GB200",
    ],
)  # fmt: skip
def test_a_device_whose_name_only_holds_anothers_has_not_its_peak(name: str) -> None:
    assert utilisation._peak(name) is None


class FakeWandb(ModuleType):
    """The border of W&B."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__("wandb")
        self.given: dict[str, Any] = {}
        self.logged: list[dict[str, float]] = []
        self.finished = False
        self.fails = fails

    def init(self, **given: Any) -> Any:
        if self.fails:
            raise ConnectionError("no server")
        self.given = given
        return SimpleNamespace(define_metric=lambda *_, **__: None, log=self.logged.append, finish=self.finish)

    def finish(self) -> None:
        self.finished = True


def test_wandb_is_told_each_step_and_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    steps(store, 3, trackers={"wandb": {"project": "p", "mode": "offline"}})
    assert (fake.given["project"], fake.given["id"], fake.given["mode"]) == ("p", "r", "offline")
    losses = [values["train/loss"] for values in fake.logged if "train/loss" in values]
    assert losses == [record["loss"] for record in log.read(store, "r")]
    assert [values["step"] for values in fake.logged if "train/loss" in values] == [1, 2, 3]
    assert fake.finished


def test_a_tracker_that_fails_is_a_warning_and_the_training_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails=True))
    [each] = trackers.begin(Trackers.model_validate({"wandb": {"project": "p"}}), store, "r", {})
    each.follow([{"kind": "warning", "step": 0}])
    deadline = time.monotonic() + 30
    while each.problems.empty() and time.monotonic() < deadline:
        time.sleep(0.01)
    writer = log.Log(store, "r", -1, [each])
    writer.close()
    found = [record["message"] for record in log.read(store, "r", "warning")]
    assert found == ["W&B is told nothing more of this attempt: ConnectionError: no server"]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        *(("loss/channel/en", "loss/channel/en"), ("loss/source/新闻", "loss/source/新闻")),
        *(("loss/topic/a (b), c", "loss/topic/a _28_b_29__2c_ c"), ("loss/url/http://x", "loss/url/http_3a_/_/x")),
        *(("loss/topic/", "loss/topic/_"), ("loss/topic/..", "loss/topic/_"), ("loss/a\nb", "loss/a_a_b")),
    ],
)
def test_mlflow_gets_names_that_it_takes_whatever_values_a_column_has(name: str, taken: str) -> None:
    assert trackers.mlflow_name(name) == taken
    assert re.fullmatch(r"[\w./ -]+", taken)
    assert posixpath.normpath(taken) == taken


def test_mlflow_itself_has_every_step(store: Store) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{store.url}/mlflow.db"
    for resume in (False, True):
        steps(store, 2, resume=resume, trackers={"mlflow": {"uri": uri, "experiment": "e"}})
    client = mlflow.MlflowClient(tracking_uri=uri)
    [run] = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    found = client.get_metric_history(run.info.run_id, "train/loss")
    logged = log.read(store, "r")
    assert [(each.step, each.value) for each in found] == [(r["step"], pytest.approx(r["loss"])) for r in logged]


def test_wandb_itself_keeps_an_offline_run_beside_the_log(store: Store) -> None:
    pytest.importorskip("wandb")
    steps(store, 2, trackers={"wandb": {"project": "p", "mode": "offline"}})
    assert list((Path(store.url) / "runs" / "r" / "wandb").glob("offline-run-*/*.wandb"))


def test_a_tracker_whose_package_is_missing_is_refused_before_the_training(store: Store) -> None:
    if trackers.lacking(Trackers.model_validate({"wandb": {"project": "p"}})) is None:
        pytest.skip("wandb is installed")
    with pytest.raises(launch.TrainingError, match=r"training\.trackers\.wandb: the package is not installed: pip"):
        launch.check(spec(trackers={"wandb": {"project": "p"}}), store, PLAN, "r", False)
    with pytest.raises(ValidationError):
        Trackers.model_validate({"wandb": {}})
