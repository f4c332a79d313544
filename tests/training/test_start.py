"""Trainings that begin with the weights, or the state, of another: which are taken, which refused, and what new tokens
begin with."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from data_specs.tokenizer import Tokenizer
from data_specs.training import Start
from tasks.planning.run_plan import plan_key
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tasks.tokenization.extend import extended
from tasks.tokenization.kinds import learn
from tasks.tokenization.tokenizer import Loaded, load
from tests import training_plan
from tests.training.test_objective_runs import VOCABULARY, planned, settings, train
from training import blame, checkpoint, export, frozen, launch, log, models, weights
from training import start as start_of
from training.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("start")))
    training_plan.write(store, phases=(2,), vocabulary=VOCABULARY)  # for its tokenizer
    return store


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


def test_positions_that_the_weights_lack_are_refused_and_not_made_up(store: Store) -> None:
    base = settings("masked", steps=2)
    train(store, base, planned(store, base), "short-rows")
    longer = settings("masked", steps=2, sequence=64, start={"run": "short-rows@2"})
    model: Any = frozen.model(store, longer, planned(store, longer), "short-rows", 0)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    with pytest.raises(CheckpointError, match=r"position_embeddings\.weight, `model` \(64, 32\)"):
        start_of.reader(store, longer, Start(run="short-rows@2"), shapes)


def test_weights_that_are_written_to_while_they_are_read_are_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = settings("prefix", steps=2, start={"folder": str(tmp_path)})
    plan, load = planned(store, spec), weights.of_folder
    models.plain(spec.model)(models.config(spec.model, VOCABULARY, 8)).save_pretrained(tmp_path)

    def written_over(*arguments: Any) -> Any:
        found = load(*arguments)
        with open(tmp_path / "model.safetensors", "r+b") as file:
            file.seek(-4, 2)
            file.write(b"abcd")
        return found

    monkeypatch.setattr(weights, "of_folder", written_over)
    with pytest.raises(CheckpointError, match=r"training\.start: .* was written to while it was read; run again"):
        train(store, spec, plan, "written-over")


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


def learned(*texts: str) -> Loaded:
    return load(learn(list(texts), Tokenizer(vocabulary=300, reserved=4)), "tokenizer.json")


def test_rows_of_new_tokens_are_the_mean_of_those_of_their_pieces_and_of_a_mask_the_mean_of_all(
    store: Store, tmp_path: Path
) -> None:
    old = learned("the river and the valley " * 9)
    longer = load(extended(old.data, 8, ["gold miner " * 9]), "tokenizer.json")
    spec = settings("prefix")
    begun: Any = models.build(spec.model, old.size, 32, seed=1)
    models.plain(spec.model)(begun.config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(old.data)
    rows = weights.of_folder(spec, str(tmp_path))["model.embed_tokens.weight"]["weight"]
    shapes = {name: tuple(parameter.shape) for name, parameter in begun.named_parameters()}
    entries = longer.size + 1  # and a mask
    shapes["model.embed_tokens.weight"] = (entries, 32)
    read, _ = start_of.reader(store, spec, Start(folder=str(tmp_path)), shapes, longer)
    found = read("model.embed_tokens.weight", 0, entries * 32)["weight"].reshape(entries, 32)
    assert np.array_equal(found[: old.size], rows)
    assert longer.size == old.size + 8
    for number in range(old.size, longer.size):
        pieces = old.encoder.encode(longer.encoder.decode([number]), add_special_tokens=False).ids
        assert len(pieces) > 1
        assert np.allclose(found[number], rows[pieces].mean(0))
    assert np.allclose(found[-1], rows.mean(0))


def test_weights_of_other_tokens_are_refused_and_those_that_were_extended_are_not(store: Store, tmp_path: Path) -> None:
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
