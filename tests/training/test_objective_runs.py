"""A small training of each objective, through planner, loop, checkpoints, blame and export, in this process.

Documents are of one of ten topics and have only its tokens: whoever reads a document knows what else is in it, and who
counts tokens does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from transformers import AutoTokenizer

from data_specs.objectives import ARCHITECTURES
from data_specs.spec import Spec
from flows import artifacts, summary
from tasks.planning.files import read_rows
from tasks.planning.run_plan import build, plan_folder, plan_key
from tasks.planning.trace import rows_of, usage
from tasks.storage.store import Store
from tests import training_plan
from training import blame, checkpoint, export, fit, frozen, gradients, log, loop, models, ranks
from training.begin import begin
from training.rows import IGNORED, Batch, Plan, Rows

VOCABULARY, TOPICS = 320, 10
CLASSES = {
    "causal": "LlamaForCausalLM",
    "prefix": "LlamaForCausalLM",
    "fill_in_the_middle": "LlamaForCausalLM",
    "masked": "BertForMaskedLM",
    "span_corruption": "T5ForConditionalGeneration",
    "permutation": "XLNetLMHeadModel",
}
KINDS = list(CLASSES)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("objectives")))
    training_plan.write(store, phases=(2,), vocabulary=VOCABULARY)  # for its tokenizer
    return store


def shards(store: Store) -> list[tuple[str, pa.Table]]:
    """Token files and what planning reads of their documents; some held out."""
    rng, found = np.random.default_rng(5), []
    for number in range(3):
        documents = [
            np.append(rng.integers(0, 6, size=rng.integers(10, 40)) + 260 + 6 * rng.integers(TOPICS), 0)
            for _ in range(200)
        ]
        path = f"tokens/objectives/{number}.arrow"
        column = pa.table({"tokens": pa.array(documents, pa.list_(pa.uint16()))})
        with store.writer(path) as file, pa.ipc.new_file(file, column.schema) as out:
            out.write_table(column)
        ids = [(1000 * number + place).to_bytes(8, "little") * 2 for place in range(200)]
        table = {
            "id": pa.array(ids, pa.binary(16)),
            "channel": pa.array(["even" if place % 2 else "odd" for place in range(200)]),
            "length": pa.array([len(document) for document in documents], pa.int32()),
            "held_out": pa.array([place % 9 == 0 for place in range(200)]),
            "by_language": pa.array([None if place % 7 == 0 else "ab"[place % 3 == 0] for place in range(200)]),
        }
        found.append((path, pa.table(table)))
    return found


def settings(kind: str, **training: Any) -> Spec:
    objective: Any = {"kind": "causal", "fill_in_the_middle": {}} if kind == "fill_in_the_middle" else kind
    architecture = ARCHITECTURES["causal" if kind == "fill_in_the_middle" else kind]
    return Spec.model_validate(
        {
            "name": kind,
            "seed": 7,
            "sources": {"text": {"kind": "text", "paths": "*.txt"}},
            "channels": {"even": "true", "odd": "true"},
            "model": {"architecture": architecture, "hidden": 32, "layers": 2, "heads": 2, "intermediate": 64},
            "training": {
                "workers": 1,
                "objective": objective,
                "loss_by": ["language"],
                "sequence": 32,
                "steps": 60,
                "batch": {"tokens": 512, "micro": 8},
                "precision": "fp32",
                "learning_rate": {"peak": 1e-2, "warmup": 5},
                "evaluate": {"every": 0, "tokens": 512},
                "checkpoint": {"every": 20, "keep": 9},
                **training,
            },
        }
    )


@dataclass
class Trained:
    store: Store
    spec: Spec
    plan: Plan
    run: str


def planned(store: Store, spec: Spec) -> Plan:
    inputs = shards(store)
    key = plan_key(spec, VOCABULARY, [(path, "") for path, _ in inputs])
    build(spec, VOCABULARY, key, inputs, store)
    return Plan.read(store, plan_folder(spec, key))


def train(store: Store, spec: Spec, plan: Plan, run: str, resume: bool = False) -> None:
    ranks.join("cpu")
    trainer, done = fit.run_to_end(spec, store, plan, run, resume)
    assert done
    trainer.log.flush()


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, store: Store) -> Trained:
    spec = settings(request.param)
    plan = planned(store, spec)
    train(store, spec, plan, request.param)
    return Trained(store, spec, plan, request.param)


def labels(rows: Rows) -> np.ndarray:
    found = rows.batch(0, len(rows)).labels
    return found[found != IGNORED]


def test_it_beats_a_unigram_model_on_held_out_text(trained: Trained) -> None:
    seen, held = (labels(Rows(trained.store, trained.plan, phase)) for phase in (0, None))
    share = (np.bincount(seen, minlength=trained.plan.vocabulary) + 1) / (len(seen) + trained.plan.vocabulary)
    unigram = -np.log(share[held]).mean()
    first, last = (record["losses"] for record in log.read(trained.store, trained.run, "held_out"))
    counts = trained.store.json(f"{trained.plan.path}/plan.json")["held_out"]["supervised"]
    mean = sum(last[name] * counts[name] for name in last) / sum(counts.values())
    assert mean < unigram - 0.3, (mean, unigram)
    assert first["even"] > unigram - 0.3


def test_losses_by_channel_and_by_language_add_up_to_the_steps(trained: Trained) -> None:
    steps = log.read(trained.store, trained.run)
    assert len(steps) == 60
    for record in steps:
        assert set(record["by"]["language"]) == {"a", "b", "none"}
        for named in (record["channels"], record["by"]["language"]):
            assert sum(tokens for _, tokens in named.values()) == record["tokens"]
            total = sum(loss * tokens for loss, tokens in named.values() if tokens)
            assert total / record["tokens"] == pytest.approx(record["loss"], rel=1e-9)


def test_a_resumed_run_takes_the_steps_of_the_straight_one(trained: Trained) -> None:
    store, straight = trained.store, log.read(trained.store, trained.run)
    run = f"{trained.run}-resumed"
    ranks.join("cpu")
    trainer = loop.Trainer(trained.spec, store, trained.plan, run)
    begin(trainer, resume=False)
    for _ in range(20):
        trainer.step()
    trainer.save()
    trainer.engine.destroy()
    train(store, trained.spec, trained.plan, run, resume=True)
    found = log.read(store, run)
    for key in ("loss", "grad_norm", "channels", "by"):
        assert [record[key] for record in found] == [record[key] for record in straight]


def test_the_losses_of_a_steps_documents_add_up_to_the_steps_loss(trained: Trained) -> None:
    found = blame.blame(trained.store, trained.spec, trained.plan, trained.run, 41)
    assert found.exact
    loss, tokens = (found.documents[name].to_numpy() for name in ("loss", "tokens"))
    assert tokens.sum() == found.record["tokens"]
    assert (loss @ tokens) / tokens.sum() == pytest.approx(found.record["loss"], rel=1e-5)


def test_squares_of_gradient_norms_by_layer_add_up_to_that_of_the_step(trained: Trained) -> None:
    found = gradients.layer_norms(trained.store, trained.spec, trained.plan, trained.run, 41)
    [record] = [record for record in log.read(trained.store, trained.run) if record["step"] == 41]
    assert math.hypot(*found.values()) == pytest.approx(record["grad_norm"], rel=1e-4)
    layers = [name for name in found if name[-1].isdigit()]
    assert len(layers) == (4 if trained.run == "span_corruption" else 2)  # an encoder's and a decoder's
    assert min(found[name] for name in layers) > 0


def test_it_is_exported_to_its_class_of_transformers_with_equal_logits(trained: Trained, tmp_path: Path) -> None:
    export.write(
        trained.store, trained.spec, trained.plan, trained.run, 60, training_plan.pin(trained.store),
        (Store(str(tmp_path)), ""),
    )  # fmt: skip
    kind = getattr(transformers, CLASSES[trained.run])
    exported = getattr(transformers, artifacts.auto_class(trained.spec.model.architecture)).from_pretrained(tmp_path)
    ours = frozen.model(trained.store, trained.spec, trained.plan, trained.run, 60)
    assert type(exported.eval()) is kind
    tokens = torch.from_numpy(np.random.default_rng(1).integers(260, 320, size=(2, 24)))
    place = torch.arange(24).expand(2, -1)
    with torch.no_grad():
        if trained.run == "masked":
            expected, found = exported(tokens).logits, ours(tokens, place, place)
        elif trained.run == "span_corruption":
            one = torch.ones_like(tokens)
            expected, found = exported(tokens, decoder_input_ids=tokens).logits, ours(tokens, place, one, tokens, one)
        elif trained.run == "permutation":
            rank = (place >= 20) * (place - 19)
            hidden = 1 - ((rank[:, None] == 0) | (rank[:, None] < rank[:, :, None])).float()
            mapping = torch.eye(24)[20:].expand(2, -1, -1)
            expected = exported(tokens, perm_mask=hidden, target_mapping=mapping, token_type_ids=0 * tokens).logits
            found = ours(tokens, place, place[:, 20:], rank)
        else:
            expected, found = exported(tokens).logits, ours(tokens, place)
    assert torch.allclose(expected, found, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == exported.get_input_embeddings().num_embeddings == trained.plan.vocabulary
    special = trained.plan.special
    assert tokenizer.convert_tokens_to_ids(list(special)) == list(range(VOCABULARY, VOCABULARY + len(special)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "causal"])
def test_a_spike_of_any_objective_is_taken_back_its_rows_skipped_and_its_documents_named(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = settings(kind, steps=30, spikes={"window": 16, "norm_threshold": 1e4}, checkpoint={"every": 10})
    plan, losses = planned(store, spec), loop.Trainer.losses
    row = 24 * plan.phases[0].rows_per_step

    def wild(trainer: loop.Trainer, batch: Batch) -> Any:
        total, (found, *more) = losses(trainer, batch)
        return total, (found * (4 if trainer.cursor.row == row else 1), *more)

    monkeypatch.setattr(loop.Trainer, "losses", wild)
    train(store, spec, plan, f"spiked-{kind}")
    [spike] = log.read(store, f"spiked-{kind}", "spike")
    assert (spike["step"], spike["row"]) == (25, row)
    assert sum(each["loss"] * each["tokens"] for each in spike["documents"]) > 0
    steps = log.read(store, f"spiked-{kind}")
    assert len(steps) == 29
    assert row not in [record["row"] for record in steps]
    assert [r["step"] for r in log.records(store, f"spiked-{kind}") if r["kind"] == "start"] == [-1, 20]


def test_phases_have_their_own_rows_batch_objective_and_base_of_rope(store: Store) -> None:
    phases = [
        {"until": 0.25, "weights": {"even": 1, "odd": 1}, "batch": 256},
        {"until": 0.5, "weights": {"even": 1, "odd": 3}, "objective": "prefix"},
        {"until": 1, "weights": {"even": 1, "odd": 1}, "sequence": 64, "batch": 1024, "rope_theta": 50_000},
    ]
    spec = settings("causal", steps=16, checkpoint={"every": 4, "keep": 9}).model_copy(update={"name": "phased"})
    spec = Spec.model_validate(spec.model_dump() | {"mixture": {"phases": phases}})
    plan = planned(store, spec)
    assert [(p.steps, p.sequence, p.rows_per_step) for p in plan.phases] == [(8, 32, 8), (4, 32, 16), (4, 64, 16)]
    assert [p.objective.kind for p in plan.phases] == ["causal", "prefix", "causal"]
    plan.check(spec.training)
    train(store, spec, plan, "phased")
    steps = log.read(store, "phased")
    assert [r["rows"] for r in steps] == [8] * 8 + [16] * 8
    assert log.summarize(store, "phased")["rows"] == 8 * 8 + 8 * 16
    found = summary.shares(store.json(f"{plan.path}/plan.json"))
    sizes = np.array([8 * 8 * 32, 4 * 16 * 32, 4 * 16 * 64])
    assert found["even"]["target"] == pytest.approx(float(sizes @ [0.5, 0.25, 0.5] / sizes.sum()))
    assert [r["phase"] for r in steps] == [0] * 8 + [1] * 4 + [2] * 4
    assert steps[-1]["tokens"] > 1.8 * steps[0]["tokens"]
    for step in (9, 13):  # the first of a phase, by weights that the phase before it has left
        blamed = blame.blame(store, spec, plan, "phased", step)
        assert (blamed.weights, blamed.exact) == (step - 1, True)
        tokens = blamed.documents["tokens"].to_numpy()
        mean = blamed.documents["loss"].to_numpy() @ tokens / tokens.sum()
        assert mean == pytest.approx(steps[step - 1]["loss"], rel=1e-6)
    exported = frozen.config(store, spec, plan, "phased", 16)
    assert (exported.max_position_embeddings, exported.rope_parameters["rope_theta"]) == (64, 50_000)
    ours, theirs = (frozen.model(store, spec, plan, "phased", 16) for _ in range(2))
    models.set_rope_base(theirs, 10_000.0)
    batch = Rows(store, plan, 2).batch(0, 1)
    one, other = (models.logits(model, batch, torch.device("cpu")) for model in (ours, theirs))
    assert not torch.equal(one, other)
    used = usage(store, plan.path)
    made = store.json(f"{plan.path}/plan.json")["usage"]
    for name, of in made.items():
        mine = used.filter(pa.compute.equal(used["channel"], name))
        begun = int(np.dot(mine["uses"].to_numpy(), mine["length"].to_numpy()))
        assert begun - of["leftover"] == of["used"]
        assert len(mine) == of["documents"]


@pytest.mark.parametrize("kind", ["causal", "prefix", "fill_in_the_middle"])
def test_targets_that_lineage_counts_of_documents_are_those_of_their_rows(store: Store, kind: str) -> None:
    plan = planned(store, settings(kind))
    found = rows_of(store, plan.path, {path: range(200) for path in plan.files})
    for phase, names in ((0, [name for name in plan.content if name.startswith("rows-")]), (-1, ["held_out.arrow"])):
        mine = found.filter(pa.compute.equal(found["phase"], phase))
        rows = [read_rows(store, f"{plan.path}/{name}", plan.content[name]) for name in names]
        targets = pa.concat_tables(rows)["supervised"].to_numpy()
        counted = np.bincount(mine["row"].to_numpy(), mine["targets"].to_numpy(), len(targets))
        assert counted.astype(int).tolist() == targets.tolist()


def test_turned_documents_are_read_as_they_were_planned(store: Store) -> None:
    spec = settings("fill_in_the_middle", steps=20)
    plan = planned(store, spec)
    rows = Rows(store, plan, 0)
    read = rows.batch(0, len(rows))
    before, suffix, middle = range(VOCABULARY, VOCABULARY + 3)
    counts = [int((read.labels == each).sum()) for each in (before, suffix, middle)]
    assert counts[0] == 0  # a document's first token is no target
    assert min(counts[1:]) > 30
    assert math.isclose(*counts[1:], rel_tol=0.2)
    assert rows.plan.digest != planned(store, settings("causal", steps=20)).digest
    assert checkpoint.steps(store, "none") == []
