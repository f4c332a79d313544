"""Memory that is planned: what it depends on, and what is said where there is no GPU to measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.memory import CASES, measured
from data_specs.optimization import Average
from data_specs.training import Batch, Checkpoint, Model, Training
from tasks.storage.store import Store
from tests import training_plan
from training import checkpoint, dry_run, memory, ranks
from training.memory import Estimate, estimate
from training.models import counts
from training.rows import Plan

LARGE = Model(hidden=1024, layers=16, heads=16, kv_heads=16, intermediate=2816)


def planned(
    bf16: bool = True, model: Model = LARGE, vocabulary: int = 65_536, targets: int = 2048, **training: Any
) -> Estimate:
    given = {"workers": 8, "sequence": 2048, "batch": Batch(tokens=2**18, micro=4), **training}
    return estimate(model, Training.model_validate(given), vocabulary, 2048, targets, bf16)


def test_each_stage_of_zero_takes_less_and_of_eight_ranks_the_last_one_an_eighth() -> None:
    totals = [planned(zero=zero, bf16=False) for zero in range(4)]
    held = [each.weights + each.gradients + each.optimizer for each in totals]
    assert held[0] > held[1] > held[3]
    assert totals[1].optimizer == pytest.approx(totals[0].optimizer / 8, rel=1e-6)
    assert held[3] < held[0] / 4


def test_the_update_in_float32_at_zero_1_has_the_gradients_once_more_end_to_end() -> None:
    one, two = (planned(zero=zero, bf16=False) for zero in (1, 2))
    assert one.update == pytest.approx(1.5 * two.update)


def test_settings_that_save_memory_are_counted() -> None:
    plain = planned()
    assert planned(chunked_loss=False).loss > 10 * plain.loss
    assert planned(activation_checkpointing=True).activations < plain.activations / 5
    assert planned(offload="optimizer").optimizer == 0
    assert planned(muon={}).optimizer < plain.optimizer < planned(average={}).optimizer
    assert planned(sequence_parallel=8).activations < plain.activations / 4
    assert planned(tensor_parallel=2).weights < plain.weights


@pytest.mark.parametrize("architecture", ["bert", "t5", "xlnet"])
def test_of_other_objectives_what_is_predicted_counts_and_in_bf16_a_step_takes_less(architecture: str) -> None:
    model = Model(architecture=architecture, hidden=512, layers=6, heads=8, intermediate=2048)
    few, many = (planned(model=model, targets=targets, chunked_loss=False) for targets in (300, 600))
    assert many.loss == 2 * few.loss
    assert (many.activations > few.activations) == (architecture != "bert")  # only its output gets these alone
    assert few.activations < planned(bf16=False, model=model, targets=300).activations
    assert few.activations < planned(model=model, targets=300, zero=0).activations  # copies of autocast


def test_layers_of_a_bert_and_a_t5_that_are_computed_again_are_not_kept() -> None:
    for architecture in ("bert", "t5"):
        model = Model(architecture=architecture, hidden=512, layers=24, heads=8, intermediate=2048)
        plain, again = (planned(model=model, targets=300, activation_checkpointing=on) for on in (False, True))
        assert again.activations < plain.activations / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "masked, activation checkpointing, fp32",
        "span_corruption, ZeRO 1, bf16",
        "permutation, ZeRO 0, bf16",
    ],
)
def test_the_memory_of_a_model_of_another_objective_is_planned_to_15_percent(name: str) -> None:
    found = measured(CASES[name])
    assert 0.85 < found["planned"] / found["bytes"] < 1.15


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2, fp32", "qwen2, bf16", "gpt_neox, fp32"])
def test_the_memory_of_a_folders_model_is_between_a_tenth_less_and_half_as_much_again(name: str) -> None:
    found = measured(CASES[name])
    assert 0.9 < found["planned"] / found["bytes"] < 1.5


def test_a_folders_model_is_counted_by_its_matrices(tmp_path: Path) -> None:
    def of_folder(sizes: dict[str, Any]) -> Model:
        path = tmp_path / sizes["model_type"]
        path.mkdir()
        (path / "config.json").write_text(json.dumps(sizes))
        return Model(folder=str(path))

    sizes = {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16, "intermediate_size": 2816}
    llama = of_folder({"model_type": "llama", **sizes, "tie_word_embeddings": LARGE.tied})
    assert planned(model=llama).total == pytest.approx(planned().total, rel=0.01)
    gpt2 = of_folder({"model_type": "gpt2", "n_embd": 1024, "n_layer": 16, "n_head": 16})  # says no width between
    assert counts.inner(gpt2) == 4096
    assert counts.layer(gpt2) == 12 * 1024**2
    assert planned(model=gpt2, zero=3).weights < planned(model=gpt2).weights / 2


def test_a_dry_run_takes_two_steps_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(3,))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    ranks.join("cpu")
    found = dry_run.dry_run(training_plan.spec(), store, Plan.read(store, training_plan.PLAN), "cpu")
    assert set(found) == {"peak_bytes", "seconds", "expected_bytes"}
    assert found["peak_bytes"] > 0 < found["seconds"]
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_dry_run_of_one_step_has_the_seconds_of_a_step(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(1,))
    ranks.join("cpu")
    found = dry_run.dry_run(training_plan.spec(), store, Plan.read(store, training_plan.PLAN), "cpu")
    assert found["seconds"] > 1e-3


def test_checkpoints_that_stay_are_the_newest_and_the_milestones() -> None:
    def kept(steps: int, **settings: int) -> int:
        return checkpoint.kept(Training(checkpoint=Checkpoint(**settings)), steps)

    assert kept(100, every=10, keep=3) == 3
    assert kept(15, every=10, keep=3) == 2  # and the last step
    assert kept(7, every=0) == 1
    assert kept(100, every=10, keep=3, milestones=25) == 3 + 3  # 25, 50, 75; 100 is one of the newest
    assert [checkpoint.bytes_of_weight(Training(average=each)) for each in (None, Average())] == [12, 16]


def test_the_peak_is_that_since_it_was_asked_for() -> None:
    """In a process of its own: one that held much before may have what is asked for without asking the system."""
    code = (
        "import torch\nfrom training.peak import Peak\n"
        "held = torch.ones(2**24)\ndel held\npeak = Peak(torch.device('cpu'))\n"
        "assert peak.most() - peak.before < 2**24\nheld = torch.ones(2**25)\n"
        "assert 2**27 <= peak.most() - peak.before < 2**27 + 2**24\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_memory_of_a_worker_is_its_share_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.shutil, "which", lambda _: None)
    one, two = (memory.device_bytes(Training(workers=workers)) for workers in (1, 2))
    assert one // 2 == two > 2**28


def test_without_a_gpu_the_gpu_benchmark_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gpu.main()
    assert capsys.readouterr().out == "no GPU here: nothing measured\n"
