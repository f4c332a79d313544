"""Settings of loss, optimizer, model and memory in whole runs of two ranks: which of them change losses, and how."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from data_specs.spec import Spec
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from tests.training_ranks import Job, Ranks
from training import checkpoint, export, fit, frozen, log, models, optimizers, ranks
from training.loss import token_losses
from training.rows import IGNORED, Plan, Rows
from training.schedule import learning_rate

STEPS = 12
pytestmark = pytest.mark.slow


def settings(zero: int, model: dict[str, Any] | None = None, **training: Any) -> Spec:
    made = spec(workers=2, micro=2, zero=zero, **training)
    return made.model_copy(update={"model": made.model.model_copy(update=model or {})})


def job(name: str, zero: int, **more: Any) -> Job:
    return settings(zero, **more), PLAN, f"{name}-{zero}", False


SAVED = {"checkpoint": {"every": 6, "keep": 9}}
RESUMED = [
    *(job("plain", zero, **SAVED) for zero in range(4)),
    *(job("muon", zero, muon={}, average={"decay": 0.9}, **SAVED) for zero in range(4)),
    job("muon-bf16", 1, muon={}, average={}, precision="bf16", **SAVED),
    job("muon-bf16", 3, muon={}, average={}, precision="bf16", **SAVED),
]
JOBS = [
    *RESUMED,
    *(job("chunked", zero, chunked_loss=True) for zero in range(4)),
    *(job("recomputed", zero, activation_checkpointing=True) for zero in (0, 1, 3)),
    job("bf16", 1, precision="bf16"),
    job("recomputed-bf16", 1, precision="bf16", activation_checkpointing=True),
    job("eager", 1, attention="eager"),
    job("model", 1, model={"qk_norm": True, "depth_scaled_init": True, "tied": False}, **SAVED),
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


def test_layers_that_are_computed_again_change_no_loss(store: Store) -> None:
    for zero in (0, 1, 3):
        assert np.array_equal(losses(store, f"recomputed-{zero}"), losses(store, f"plain-{zero}"))
    assert np.array_equal(losses(store, "recomputed-bf16-1"), losses(store, "bf16-1"))


def test_attention_step_by_step_is_the_fused_one_to_rounding(store: Store) -> None:
    assert np.abs(losses(store, "eager-1") - losses(store, "plain-1")).max() < 1e-5


@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for a processor needs a C++ compiler")
def test_compiled_layers_give_the_losses_of_others_to_rounding(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    ranks.join("cpu")
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)  # as an engine without compiled layers set it before
    counters.clear()
    fit.run_to_end(spec(micro=4, workers=1, compile=True), store, Plan.read(store, PLAN), "compiled-1", False)
    assert counters["stats"]["unique_graphs"] > 0
    assert np.abs(losses(store, "compiled-1") - losses(store, "plain-1")).max() < 1e-5


def test_a_model_with_qk_norm_is_exported_as_qwen3_with_equal_logits(store: Store, tmp_path: Path) -> None:
    made, plan = settings(1, {"qk_norm": True, "depth_scaled_init": True, "tied": False}), Plan.read(store, PLAN)
    export.write(store, made, plan, "model-1", STEPS, training_plan.pin(store), (Store(str(tmp_path)), ""))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(exported).__name__ == "Qwen3ForCausalLM"
    assert exported.lm_head.weight is not exported.model.embed_tokens.weight
    ours = frozen.model(store, made, plan, "model-1", STEPS)
    tokens = torch.randint(0, 320, (2, 16), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(exported(tokens).logits, ours(tokens, torch.arange(16).expand(2, -1)), atol=1e-6)


@pytest.fixture(scope="module")
def plainly(store: Store) -> tuple[Any, ...]:
    """The runs with Muon as one process takes them with torch's own optimizers: losses, momentum, averages, the model
    as it ended, and its weights as they began."""
    made = settings(0, muon={})
    plan = Plan.read(store, PLAN)
    rows, learning = Rows(store, plan, 0), made.training.learning_rate
    model = models.build(made.model, plan.vocabulary, plan.longest(), made.seed)
    layers = optimizers.layer_matrices(model)
    muon = torch.optim.Muon(layers.values(), weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(optimizers.groups(model, 0.1, muon=True)[1:], betas=(0.9, 0.95))
    found, averages = [], {name: p.detach().clone() for name, p in model.named_parameters()}
    began = {name: average.clone() for name, average in averages.items()}
    for step in range(STEPS):
        batch = rows.batch(8 * step, 8)
        labels = torch.from_numpy(batch.labels)
        loss = token_losses(models.logits(model, batch, torch.device("cpu")), labels).sum() / (labels != IGNORED).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in (*muon.param_groups, *adamw.param_groups):
            group["lr"] = learning_rate(step, STEPS, learning, 16)
        muon.step(), adamw.step(), model.zero_grad()
        for name, p in model.named_parameters():
            averages[name].lerp_(p.detach(), 1 - min(0.9, (1 + step) / (10 + step)))
        found.append(loss.item())
    return found, {name: muon.state[p]["momentum_buffer"] for name, p in layers.items()}, averages, model, began


@pytest.mark.parametrize("zero", range(4))
def test_muon_at_every_stage_takes_the_steps_of_torch_optim_muon_each_once(
    store: Store, plainly: tuple[Any, ...], zero: int
) -> None:
    expected, momentum, averages, model, began = plainly
    assert np.abs(losses(store, f"muon-{zero}") - expected).max() < 2e-4
    assert np.abs(losses(store, f"plain-{zero}") - expected).max() > 1e-2
    read = checkpoint.verified(store, f"muon-{zero}", STEPS).read
    for name, parameter in model.named_parameters():
        arrays = read(name, 0, parameter.numel())
        weight, average = parameter.detach().flatten().numpy(), averages[name].flatten().numpy()
        moved = np.linalg.norm(weight - began[name].flatten().numpy())
        # Muon makes matrices orthogonal in bf16: the last bit of a gradient, summed in another order, is 3 % of a step.
        assert np.linalg.norm(arrays["weight"] - weight) < 0.05 * moved
        assert np.linalg.norm(arrays["average"] - average) < 0.5 * np.linalg.norm(weight - average)
        if name in momentum:
            assert set(arrays) == {"weight", "momentum_buffer", "average"}
            wrong = np.linalg.norm(arrays["momentum_buffer"] - momentum[name].flatten().numpy())
            assert wrong < 0.02 * momentum[name].norm()
        else:
            assert set(arrays) == {"weight", "exp_avg", "exp_avg_sq", "average"}


def test_every_optimizer_resumes_to_the_last_bit_at_every_stage(store: Store) -> None:
    straight = {run: (losses(store, run), log.read(store, run, "held_out")[-1]["losses"]) for _, _, run, _ in RESUMED}
    for run in straight:
        checkpoint.remove(store, run, STEPS, STEPS)
    assert Ranks(Path(store.url), 2, [(*each[:3], True) for each in RESUMED]).wait() == []
    for run, (steps, held) in straight.items():
        assert len(log.read(store, run, "start")) == 2
        assert np.array_equal(losses(store, run), steps), run
        assert log.read(store, run, "held_out")[-1]["losses"] == held, run


def test_the_average_is_evaluated_and_exported(store: Store, tmp_path: Path) -> None:
    made, plan = settings(1, muon={}, average={"decay": 0.9}), Plan.read(store, PLAN)
    export.write(store, made, plan, "muon-1", STEPS, training_plan.pin(store), (Store(str(tmp_path)), ""))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path)
    held, found = Rows(store, plan, None), log.read(store, "muon-1", "held_out")[-1]["losses"]
    weights = frozen.model(store, made, plan, "muon-1", STEPS)
    for channel, name in enumerate(training_plan.CHANNELS):
        batch = held.batch(3 * channel, 3)
        inputs, positions, labels = map(torch.from_numpy, (batch.inputs, batch.positions, batch.labels))
        logits = exported(input_ids=inputs, position_ids=positions, use_cache=False).logits
        for each, close in ((logits, True), (weights(inputs, positions), False)):
            mean = (token_losses(each, labels).sum() / (labels != IGNORED).sum()).item()
            assert (mean == pytest.approx(found[name], abs=1e-5)) == close
