"""Causal models of any folder of transformers: trained, gone on with and exported as they are, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from data_specs.spec import Spec
from data_specs.training import Model, Training
from tasks.storage.store import Store
from tests import training_plan
from tests.training.test_objective_runs import VOCABULARY, planned, settings, train
from training import export, log, models, sample, weights
from training.checkpoint import CheckpointError
from training.models import ModelError
from training.sample import Sampling

logging.set_verbosity_error()
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
WINDOW = {"sliding_window": 8}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": SIZES,
    "qwen3": SIZES | {"head_dim": 8},
    "gemma2": SIZES | WINDOW | {"head_dim": 8},
    "gemma3_text": SIZES | WINDOW | {"head_dim": 8},
    "gpt_neox": SIZES,
    "gpt2": GPT2,
    "phi": SIZES,
    "olmo2": SIZES,
    "smollm3": SIZES,
    "stablelm": SIZES,
    "granite": SIZES | {"logits_scaling": 8.0},
    "cohere": SIZES,
    "mistral": SIZES | WINDOW,
}
"""Type -> what is small of it. Two of them cap or scale logits, two have windows of attention, one has embeddings of
positions and matrices that lie the other way."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "opt": (SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32}, "does not keep the documents of a row apart"),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, "a bloom does not"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1}, "a mamba does not"),
    "bert": (SIZES, "a bert does not"),
    "mixtral": (SIZES, "a mixtral has experts"),
    "t5": ({"d_model": 32, "num_layers": 2, "num_heads": 2}, "no causal model of the type t5"),
    "unheard_of": (SIZES, "transformers does not know this model"),
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("causal")))
    training_plan.write(store, phases=(2,), vocabulary=VOCABULARY)  # for its tokenizer
    return store


def folder(path: Path, kind: str, sizes: dict[str, Any], vocabulary: int = VOCABULARY) -> Path:
    """A model as transformers writes it, its weights drawn at random and large enough to tell logits apart."""
    torch.manual_seed(1)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=vocabulary, **special, **sizes))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    made.save_pretrained(path)
    return path


def spec_of(path: Path, **training: Any) -> Spec:
    training = {"steps": 6, "batch": {"tokens": 128, "micro": 4}, "checkpoint": {"every": 3}, **training}
    found = settings("causal", **training)
    return Spec.model_validate(found.model_dump(exclude_unset=True) | {"model": {"folder": str(path)}})


def test_attention_that_a_model_does_not_have_is_refused_by_its_name(tmp_path: Path) -> None:
    model = models.build(Model(folder=str(folder(tmp_path, "gemma2", FAMILIES["gemma2"]))), VOCABULARY, 32, seed=1)
    with pytest.raises(ModelError, match=r"training\.attention: a gemma2 has no sdpa"):
        models.prepare(model, Training.model_validate({"attention": "sdpa"}), compiled=False)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_document_has_the_logits_it_has_alone_and_chunks_give_the_loss_of_whole_logits(
    kind: str, tmp_path: Path
) -> None:
    known = Model(folder=str(folder(tmp_path, kind, FAMILIES[kind])))
    model = models.build(known, VOCABULARY, 32, seed=1).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == models.parameters(known, VOCABULARY, 32)
    tokens = torch.randint(0, VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(2))
    positions = torch.tensor([[*range(12), *range(20)], [*range(32)]])
    alone = models.plain(known)(model.config).eval()
    alone.load_state_dict(model.state_dict())
    with torch.no_grad():
        together = model(tokens, positions)
        parts = [(0, 0, 12), (0, 12, 32), (1, 0, 32)]
        for row, first, last in parts:
            single = alone(input_ids=tokens[row : row + 1, first:last], use_cache=False).logits[0]
            assert torch.allclose(together[row, first:last], single, atol=1e-5)
    labels = tokens.roll(-1, 1)
    total, losses = model(tokens, positions, labels=labels, z_loss=0.01)
    wanted = torch.nn.functional.cross_entropy(together.flatten(0, 1), labels.flatten(), reduction="none")
    assert torch.allclose(losses.flatten(), wanted, atol=1e-5)
    assert float(total.detach()) > float(losses.sum())
    assert model.plain_head == (kind not in ("gemma2", "granite", "cohere"))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_training_begins_with_the_weights_of_a_folder_and_is_exported_with_equal_logits(
    kind: str, store: Store, tmp_path: Path
) -> None:
    path = folder(tmp_path / "model", kind, FAMILIES[kind])
    spec = spec_of(path, start={"folder": str(path)}, zero=1, chunked_loss=True)
    plan, run = planned(store, spec), f"of-{kind}"
    train(store, spec, plan, run)
    losses = [record["loss"] for record in log.read(store, run)]
    assert losses[-1] < losses[0]
    again = Spec.model_validate(orjson.loads(orjson.dumps(spec.model_dump(mode="json"))))
    assert again.model == spec.model.model_copy(update={"folder": None})
    export.write(store, again, plan, run, 6, training_plan.pin(store), (Store(str(tmp_path / "exported")), ""))
    exported, began = (AutoModelForCausalLM.from_pretrained(each).eval() for each in (tmp_path / "exported", path))
    assert type(exported) is type(began)
    from training import frozen

    trained = frozen.model(store, again, plan, run, 6)
    tokens = torch.arange(300)[None, 250:282]
    with torch.no_grad():
        logits = trained(tokens, torch.arange(32)[None])
        assert torch.allclose(exported(tokens).logits, logits, atol=1e-5)
        assert not torch.allclose(began(tokens).logits, logits, atol=1e-3)
    [text] = sample.sample(store, again, plan, run, 6, training_plan.pin(store), "a", Sampling(tokens=4))
    assert isinstance(text, str)


def test_steps_of_every_zero_stage_have_the_losses_of_one_and_operations_are_counted(
    store: Store, tmp_path: Path
) -> None:
    path, found = folder(tmp_path, "gpt2", GPT2), []
    for zero in (0, 2, 3):
        spec = spec_of(path, zero=zero)
        plan = planned(store, spec)
        train(store, spec, plan, f"zero-{zero}")
        found.append([record["loss"] for record in log.read(store, f"zero-{zero}")])
    assert np.allclose(found[0], found[1], rtol=1e-5)
    assert np.allclose(found[0], found[2], rtol=1e-5)
    matrices = 2 * 12 * 32 * 32 + VOCABULARY * 32
    assert models.row_flops(spec.model, VOCABULARY, 32, 32) == 6 * 32 * matrices + 12 * 2 * 32 * 32 * 32
    assert models.flops(spec.model, VOCABULARY, 32) == 6 * matrices + 12 * 2 * 32 * 32


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_whose_documents_see_each_other_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    sizes, message = REFUSED[kind]
    (tmp_path / "config.json").write_bytes(orjson.dumps({"model_type": kind, **sizes}))
    with pytest.raises(ModelError, match=rf"model\.folder: .*{message}"):
        models.build(Model(folder=str(tmp_path)), VOCABULARY, 32, seed=1)


def test_what_a_folder_says_is_not_said_again_and_its_positions_hold_a_row(tmp_path: Path) -> None:
    path = folder(tmp_path, "gpt2", GPT2)
    with pytest.raises(ValueError, match="folder says what the model is; leave out hidden"):
        Model.model_validate({"folder": str(path), "hidden": 64})
    with pytest.raises(ValueError, match="of a causal model, not of a bert"):
        Model.model_validate({"folder": str(path), "architecture": "bert"})
    with pytest.raises(ValueError, match="a causal model has a folder"):
        Model.model_validate({"architecture": "causal"})
    with pytest.raises(ValueError, match=r"nowhere/config\.json is no config.json of transformers"):
        Model.model_validate({"folder": "nowhere"})
    with pytest.raises(ValueError, match="rows of 128 tokens are longer than the 64 positions"):
        spec_of(path, sequence=128, batch={"tokens": 128, "micro": 1})
    with pytest.raises(ValueError, match=r"masked trains a bert, but model\.architecture is causal"):
        Spec.model_validate(settings("masked").model_dump(exclude_unset=True) | {"model": {"folder": str(path)}})
    (path / "config.json").write_bytes(orjson.dumps({"model_type": "gpt2", "auto_map": {"AutoModelForCausalLM": "x"}}))
    with pytest.raises(ValueError, match="code of its own"):
        Model(folder=str(path))


def test_weights_of_another_function_than_the_folders_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", "qwen2", SIZES)
    other = folder(tmp_path / "other", "qwen2", SIZES | {"rms_norm_eps": 1e-3})
    assert math.prod(weights.of_folder(spec_of(one), str(one))["model.norm.weight"]["weight"].shape) == 32
    with pytest.raises(CheckpointError, match=r"other was trained with rms_norm_eps 0\.001, `model` has 1e-06"):
        weights.of_folder(spec_of(one), str(other))
    third = folder(tmp_path / "third", "qwen3", SIZES | {"head_dim": 8})
    with pytest.raises(CheckpointError, match="third is a qwen3, `model` a qwen2"):
        weights.of_folder(spec_of(one), str(third))
