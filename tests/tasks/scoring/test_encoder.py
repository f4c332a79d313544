"""Encoders: trained here, with a head that is learned, and as a folder has them; against transformers itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr
from transformers import BertConfig, BertForSequenceClassification, BertModel

from data_specs import stages
from data_specs.document import SpecError
from tasks.scoring import embedding, encoder
from tasks.scoring.embedding import Embedding
from tasks.scoring.encoder import Encoder, EncoderEstimator
from tests.small import code, english
from tests.tasks.scoring.test_domain_quality import documents, fit, ready

SEED = 20260101


def labelled(count: int, seed: int = 1) -> pa.Table:
    """Texts that are the better the more of their words are of rivers."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        share = rng.random()
        words = [rng.choice(["river", "valley", "stream", "water"] if rng.random() < share else ["table", "paper"])]
        words += [
            rng.choice("river valley stream water".split() if rng.random() < share else "table paper window".split())
            for _ in range(rng.randint(5, 60))
        ]
        rows.append({"text": " ".join(words), "points": 5 * share})
    return documents(rows)


def folder(path: Path, kind: Any, **settings: Any) -> Path:
    """A small model with random weights, as Hugging Face's libraries keep it."""
    torch.manual_seed(3)
    tokenizer = encoder._fast(encoder._learned_tokenizer(labelled(50)["text"].to_pylist()))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    kind(BertConfig(vocab_size=len(tokenizer), **sizes, **settings)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def scored(stage: Encoder, table: pa.Table) -> np.ndarray:
    return stage(table.select(stage.reads))["encoder"].to_numpy()


def test_a_model_trained_here_ranks_texts_that_it_has_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("HIDDEN", 32), ("LAYERS", 1), ("HEADS", 2), ("VOCABULARY", 300), ("RATE", 0.01)):
        monkeypatch.setattr(encoder, name, size)
    settings = stages.Encoder(target="points", tokens=64, sample=300, epochs=3)
    table = labelled(300)
    whole = fit(EncoderEstimator(settings, SEED), [table])
    shuffled = table.take(np.random.default_rng(3).permutation(table.num_rows))
    assert fit(EncoderEstimator(settings, SEED), [shuffled.slice(at, 110) for at in (0, 110, 220)]) == whole
    data, facts = whole
    tested = labelled(100, seed=2)
    found = scored(ready(lambda files: Encoder(settings, files), data, tmp_path), tested)  # type: ignore[arg-type]
    assert spearmanr(found, tested["points"].to_numpy()).statistic > 0.7
    assert facts["documents"] == 270
    assert facts["validation"]["rank_correlation"] > 0.6


def test_a_folder_whose_model_gives_a_number_is_asked_as_transformers_does(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", BertForSequenceClassification, num_labels=1)
    stage = Encoder(stages.Encoder(model=str(path), tokens=40))
    stage.setup()
    table = labelled(30)
    model = BertForSequenceClassification.from_pretrained(path).eval()
    expected = []
    for text in table["text"].to_pylist():
        ids = stage.scorer.tokenizer(text, truncation=True, max_length=40, return_tensors="pt")["input_ids"]
        expected.append(model(input_ids=ids).logits.item())
    np.testing.assert_allclose(scored(stage, table), expected, atol=1e-4)


def test_of_any_other_folder_a_head_is_learned_and_its_model_stays(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", BertModel)
    settings = stages.Encoder(model=str(path), target="points", tokens=64)
    data, facts = fit(EncoderEstimator(settings, SEED), [labelled(400)])
    assert len(data) < 1000
    tested = labelled(100, seed=2)
    stage = ready(lambda files: Encoder(settings, files), data, tmp_path)
    assert spearmanr(scored(stage, tested), tested["points"].to_numpy()).statistic > 0.7  # type: ignore[arg-type]
    assert facts["validation"]["mean_error"] < 1
    nothing = documents([{"text": code(random.Random(1), 9)}, {"text": " \n"}])
    assert np.isnan(scored(stage, nothing)).all()  # type: ignore[arg-type]
    (path / "config.json").write_text((path / "config.json").read_text() + " ")
    with pytest.raises(SpecError, match="changed since this run began"):
        stage.setup()
    assert Encoder(settings).fingerprint != stage.fingerprint


def test_texts_in_any_company_have_the_same_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "model", BertForSequenceClassification, num_labels=1)
    stage = Encoder(stages.Encoder(model=str(path), tokens=64))
    stage.setup()
    table = labelled(40)
    together = scored(stage, table)
    monkeypatch.setattr(encoder, "TOKENS_AT_ONCE", 200)
    np.testing.assert_allclose(scored(stage, table), together, atol=2e-4)
    assert len(scored(stage, table.slice(0, 0))) == 0


def written_over(path: Path, kind: Any, **settings: Any) -> None:
    """Another model in the place of one, in the same file, as `cp` leaves it."""
    torch.manual_seed(4)
    config = BertConfig.from_pretrained(path, **settings)
    kind(config).save_pretrained(path.parent / "other")
    with open(path / "model.safetensors", "r+b") as file:
        file.write((path.parent / "other/model.safetensors").read_bytes())


def test_a_model_that_is_in_use_stays_though_another_is_written_over_its_file(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", BertForSequenceClassification, num_labels=1)
    stage = Encoder(stages.Encoder(model=str(path), tokens=40))
    stage.setup()
    table = labelled(30)
    before = scored(stage, table)
    written_over(path, BertForSequenceClassification)
    np.testing.assert_array_equal(scored(stage, table), before)


def test_a_model_that_is_written_over_while_it_is_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, load = folder(tmp_path / "model", BertModel), encoder.given

    def loaded(settings: Any, kind: Any) -> Any:
        written_over(path, BertModel)
        return load(settings, kind)

    monkeypatch.setattr(embedding, "given", loaded)
    stage = Embedding(stages.Embedding(model=str(path)))
    with pytest.raises(SpecError, match="changed since this run began"):
        stage.setup()


def test_no_head_is_learned_from_another_model_than_the_run_began_with(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", BertModel)
    estimator = EncoderEstimator(stages.Encoder(model=str(path), target="points", tokens=64), SEED)
    written_over(path, BertModel)
    with pytest.raises(SpecError, match="changed since this run began"):
        fit(estimator, [labelled(60)])


def test_code_and_empty_texts_are_not_scored(tmp_path: Path) -> None:
    path = folder(tmp_path / "model", BertForSequenceClassification, num_labels=1)
    rng = random.Random(1)
    rows = documents([{"text": code(rng, 9)}, {"text": " \n"}, {"text": english(rng, 9), "kind": "markdown"}])
    rows = pa.concat_tables([rows, documents([{"text": english(rng, 9)}])])
    for skip, expected in ((("code", "markdown"), [True, True, True, False]), ((), [False, True, False, False])):
        stage = Encoder(stages.Encoder(model=str(path), skip=skip))  # type: ignore[arg-type]
        stage.setup()
        assert np.isnan(scored(stage, rows)).tolist() == expected


def test_what_cannot_be_scored_or_learned_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a `target`"):
        stages.Encoder()
    with pytest.raises(SpecError, match=r"has no config\.json"):
        Encoder(stages.Encoder(model=str(tmp_path)))
    path = folder(tmp_path / "model", BertForSequenceClassification, num_labels=3)
    with pytest.raises(SpecError, match="gives 3 numbers, not one"):
        Encoder(stages.Encoder(model=str(path))).setup()
    same = documents({"text": f"text {number}", "points": 1.0} for number in range(40))
    with pytest.raises(ValueError, match=r"stages\.encoder\.target: 40 documents with a value of points, of 1 kind"):
        fit(EncoderEstimator(stages.Encoder(target="points"), SEED), [same])
