"""A small training of each objective, through planner, loop, checkpoints, blame and export, in this process.

Documents are of one of ten topics and have only its tokens: whoever reads a document knows what else is in it, and who
counts tokens does not."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
import transformers
from transformers import AutoTokenizer

from data_specs.objectives import ARCHITECTURES
from data_specs.spec import Spec
from data_specs.tokenizer import Tokenizer
from data_specs.training import Start
from flows import summary
from tasks.planning.run_plan import build, plan_folder, plan_key
from tasks.planning.trace import usage
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tasks.tokenization.extend import extended
from tasks.tokenization.kinds import learn
from tasks.tokenization.tokenizer import Loaded, load
from tests import training_plan
from training import blame, checkpoint, export, fit, frozen, gradients, launch, log, loop, models, ranks, weights
from training import start as start_of
from training.checkpoint import CheckpointError
from training.rows import IGNORED, Plan, Rows

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


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """These models are too small to share a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_WORLD_SIZE", str(os.cpu_count()))
        yield


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
    trainer.begin(resume=False)
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
    exported = kind.from_pretrained(tmp_path).eval()
    ours = frozen.model(trained.store, trained.spec, trained.plan, trained.run, 60)
    assert type(exported) is kind
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


def steps_of(store: Store, run: str) -> list[float]:
    return [record["loss"] for record in log.read(store, run)]


def test_a_training_starts_from_the_weights_or_the_state_of_another(store: Store, tmp_path: Path) -> None:
    base = settings("prefix", steps=12, checkpoint={"every": 4, "keep": 9})
    plan = planned(store, base)
    train(store, base, plan, "base")
    export.write(store, base, plan, "base", 12, training_plan.pin(store), (Store(str(tmp_path)), ""))
    starts = {
        "state": {"run": "base@12", "state": True},
        "weights": {"run": "base@12"},
        "folder": {"folder": str(tmp_path)},
    }
    for name, start in starts.items():
        spec = settings("prefix", steps=12, start=start)
        assert plan_key(spec, VOCABULARY, []) == plan_key(base, VOCABULARY, [])
        train(store, spec, plan, f"from-{name}")
    fresh, state, weights, folder = (
        steps_of(store, run) for run in ("base", "from-state", "from-weights", "from-folder")
    )
    assert weights == folder
    assert weights[0] == state[0] < fresh[0] - 0.5  # the same first batch, later weights
    assert weights[2] != state[2]  # AdamW knows where it was
    first = blame.blame(store, base, plan, "from-folder", 1)
    assert first.exact
    tokens = first.documents["tokens"].to_numpy()
    assert first.documents["loss"].to_numpy() @ tokens / tokens.sum() == pytest.approx(folder[0], rel=1e-5)
    chosen = settings("prefix", steps=12, start=starts["folder"])
    export.write(store, base, plan, "base", 8, training_plan.pin(store), (Store(f"{tmp_path}/other"), ""))
    launch.check(chosen, store, plan.path, "from-folder", True)
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    changed = f"runs/from-folder began with other weights .*: {tmp_path}/model.safetensors has changed"
    with pytest.raises(CheckpointError, match=changed):
        blame.blame(store, base, plan, "from-folder", 1)
    with pytest.raises(CheckpointError, match=changed):
        launch.check(chosen, store, plan.path, "from-folder", True)
    begun = store.json("runs/from-folder/run.json")
    del begun["start"]  # as earlier versions wrote it
    store.commit_json("runs/from-folder/run.json", begun)
    assert not blame.blame(store, base, plan, "from-folder", 1).exact
    longer = settings("fill_in_the_middle", steps=12, start={"run": "base@12"})
    turned = planned(store, longer)
    model: Any = frozen.model(store, longer, turned, "base", 0)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    read, taken = start_of.reader(store, longer, longer.training.start, shapes)
    assert taken == 0
    rows = read("model.embed_tokens.weight", 0, 323 * 32)["weight"].reshape(323, 32)
    assert np.allclose(rows[320:], rows[:320].mean(0))
    wrong = longer.model_copy(update={"model": longer.model.model_copy(update={"layers": 3})})
    shapes["model.layers.2.mlp.up_proj.weight"] = (64, 32)
    with pytest.raises(CheckpointError, match=r"base at step 12 is of another architecture"):
        start_of.reader(store, wrong, longer.training.start, shapes)


def test_a_branch_with_the_state_of_another_goes_on_to_the_last_bit_after_it_is_resumed(store: Store) -> None:
    """AdamW's means are corrected by how often it moved the weights, before the branch too."""
    base = settings("prefix", steps=6, average={"decay": 0.999})
    plan = planned(store, base)
    train(store, base, plan, "trunk")
    more: dict[str, Any] = {"checkpoint": {"every": 1, "keep": 9}, "average": {"decay": 0.999}}
    branch = settings("prefix", steps=6, start={"run": "trunk@6", "state": True}, **more)
    train(store, branch, plan, "branch")
    whole, first = (checkpoint.verified(store, "branch", step) for step in (6, 1))
    trunk = checkpoint.verified(store, "trunk", 6)
    checkpoint.remove(store, "branch", 3, 6)
    train(store, branch, plan, "branch", resume=True)
    again = checkpoint.verified(store, "branch", 6)
    assert again.checkpoint.updates == 12
    shapes = {name: tuple(p.shape) for name, p in frozen.model(store, base, plan, "trunk", 6).named_parameters()}
    for name, shape in shapes.items():
        size = math.prod(shape)
        one, other, begun, before = (found.read(name, 0, size) for found in (whole, again, first, trunk))
        assert all(np.array_equal(one[kind], other[kind]) for kind in one), name
        kept = (1 + 6) / (10 + 6)  # after six updates, not after none
        assert np.allclose(begun["average"], kept * before["average"] + (1 - kept) * begun["weight"], atol=1e-6)
    twig = settings("prefix", steps=6, start={"run": "branch@6", "state": True})
    assert start_of.reader(store, twig, twig.training.start, shapes)[1] == 12


def test_weights_of_other_tokens_are_refused_and_those_that_were_extended_are_not(store: Store, tmp_path: Path) -> None:
    def learned(*texts: str, more: int = 0) -> Loaded:
        return load(learn(list(texts), Tokenizer(vocabulary=300 + more, reserved=4)), "tokenizer.json")

    old, other = learned("the river and the valley " * 9), learned("a garden of stone bridges " * 9)
    longer = load(extended(old.data, 8, ["gold miner " * 9]), "tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes(old.data)
    folder = Start(folder=str(tmp_path))
    base = settings("prefix", steps=4)
    plan = planned(store, base)
    for now, said in ((old, ""), (longer, ""), (other, f"{tmp_path} was trained with other tokens")):
        assert start_of.other_tokens(store, folder, now, plan).startswith(f"training.start: {said}" if said else "")
        assert bool(start_of.other_tokens(store, folder, now, plan)) == bool(said)
    sha256 = hashlib.sha256(old.data).hexdigest()
    store.commit("models/tokenizer/old.json", old.data)
    Pins(store, "prefix").set("tokenizer", {"path": "models/tokenizer/old.json", "sha256": sha256})
    masked = {"files": [f"tokens/{sha256[:8]}@0/a.arrow"], "vocabulary": old.size + 1, "special": ["<mask>"]}
    store.commit_json("plans/old/plan.json", masked | {"content": {}})
    store.commit_json("runs/old/run.json", {"plan": "plans/old", "spec": {"name": "prefix"}})
    run = Start(run="old@4")
    assert "runs/old was trained with other tokens" in start_of.other_tokens(store, run, other, plan)
    same = replace(plan, vocabulary=old.size + 1, special=("<mask>",))
    assert start_of.other_tokens(store, run, old, same) == ""
    grown = replace(plan, vocabulary=longer.size + 1, special=("<mask>",))  # whose row is another entry's now
    assert f"1 have other numbers here, the first is {old.size}, '<mask>'" in start_of.other_tokens(
        store, run, longer, grown
    )


def test_weights_that_were_trained_as_another_function_are_refused_by_what_differs(
    store: Store, tmp_path: Path
) -> None:
    base = settings("prefix", steps=4)
    plan = planned(store, base)
    train(store, base, plan, "of-run")
    export.write(store, base, plan, "of-run", 4, training_plan.pin(store), (Store(str(tmp_path)), ""))
    said = orjson.loads((tmp_path / "config.json").read_bytes())
    differences: list[tuple[dict[str, Any], str]] = [
        ({"rms_norm_eps": 1e-5}, r"rms_norm_eps 1e-05, `model` has 1e-06: set model\.norm_eps: 1e-05"),
        ({"hidden_act": "gelu"}, "hidden_act gelu, `model` has silu"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}, "base of RoPE of 100,000, .* has 10,000"),
        ({"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}, "num_attention_heads 4, .* model.heads"),
    ]
    for changed, message in differences:
        (tmp_path / "config.json").write_bytes(orjson.dumps(said | changed))
        with pytest.raises(CheckpointError, match=message):
            weights.of_folder(base, str(tmp_path))
    (tmp_path / "config.json").write_bytes(
        orjson.dumps(said | {"rope_parameters": differences[2][0]["rope_parameters"]})
    )
    meant = base.model_copy(update={"model": type(base.model)(**base.model.model_dump() | {"rope_theta": 1e4})})
    weights.of_folder(meant, str(tmp_path))
    for kind in ("granite", "gemma", "smollm3"):  # with the names and sizes of a Llama's weights
        (tmp_path / "config.json").write_bytes(orjson.dumps(said | {"model_type": kind}))
        with pytest.raises(CheckpointError, match=f"{tmp_path} is a {kind}, `model` a llama"):
            weights.of_folder(base, str(tmp_path))
    (tmp_path / "config.json").write_bytes(orjson.dumps(said | {"model_type": "mistral", "sliding_window": None}))
    weights.of_folder(base, str(tmp_path))
    (tmp_path / "config.json").write_bytes(orjson.dumps(said | {"num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"another architecture than `model`, which has no model\.layers\.1\."):
        weights.of_folder(base, str(tmp_path))
    other = base.model_copy(update={"model": base.model.model_copy(update={"heads": 4, "kv_heads": 4})})
    found = checkpoint.load(store, "of-run", 4)
    with pytest.raises(CheckpointError, match="runs/of-run was trained with num_attention_heads 2"):
        weights.same_function(other, weights.config_of_run(store, "of-run", found), "runs/of-run")
