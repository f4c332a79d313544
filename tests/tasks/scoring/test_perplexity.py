"""Perplexity: what a text costs, and what that is worth on real text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from data_specs import stages
from tasks.scoring import perplexity
from tasks.scoring.perplexity import Perplexity, PerplexityEstimator
from tests.small import chinese, code, english
from tests.tasks.scoring.test_domain_quality import documents, fit, read, ready

SEED = 20260101


def scored(settings: stages.Perplexity, learned: pa.Table, table: pa.Table, folder: Path) -> list[Any]:
    data, _ = fit(PerplexityEstimator(settings, SEED), [learned])
    stage = ready(lambda files: Perplexity(settings, files), data, folder)
    return stage(table.select(stage.reads))["perplexity"].to_pylist()


def small(seed: int = 1) -> pa.Table:
    rng = random.Random(seed)
    made = [{"text": english(rng, 30), "language": "en"} for _ in range(80)]
    return documents(made + [{"text": chinese(rng, 30), "language": "zh"} for _ in range(80)])


def test_the_same_documents_give_the_same_models_however_they_lie_in_shards() -> None:
    table, estimator = small(), PerplexityEstimator(stages.Perplexity(sample=60), SEED)
    whole = fit(estimator, [table])
    shuffled = table.take(np.random.default_rng(3).permutation(table.num_rows))
    assert fit(estimator, [shuffled.slice(at, 23) for at in range(0, 160, 23)]) == whole
    assert whole[1]["languages"].keys() == {"en", "zh"}
    assert whole[1]["languages"]["zh"]["documents"] == 54  # a tenth is held back


def test_each_language_is_judged_by_its_own_model_and_others_by_none(tmp_path: Path) -> None:
    rng = random.Random(7)
    made = [(english(rng, 9), "en"), (chinese(rng, 9), "zh"), (english(rng, 9), "zh"), (chinese(rng, 9), "de")]
    made.append(("", "en"))
    rows = documents({"text": text, "language": language} for text, language in made)
    own, other, strange, none, empty = scored(stages.Perplexity(), small(), rows, tmp_path)
    assert own < 3
    assert other < 3
    assert strange > 2 * own
    assert none is empty is None
    assert None not in scored(stages.Perplexity(per="corpus"), small(), rows.slice(0, 4), tmp_path)


def test_noise_and_characters_never_seen_cost_more_than_text(tmp_path: Path) -> None:
    rng = random.Random(8)
    text = english(rng, 20)
    noise = " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=len(word))) for word in text.split())
    strange = "".join(chr(0x13000 + rng.randrange(900)) for _ in range(200))
    rows = documents({"text": each} for each in (text, noise, strange))
    fluent, noisy, unseen = scored(stages.Perplexity(), small(), rows, tmp_path)
    assert 3 * fluent < min(noisy, unseen)
    assert unseen > 20 / 4  # bits of a character of Unicode, by its bytes


def test_code_is_neither_learned_from_nor_scored_unless_that_is_asked_for(tmp_path: Path) -> None:
    rng = random.Random(9)
    rows = documents([{"text": code(rng, 9)}, {"text": english(rng, 9), "kind": "latex"}, {"text": english(rng, 9)}])
    table = pa.concat_tables([small(), documents({"text": code(rng, 30)} for _ in range(60))])
    found = scored(stages.Perplexity(), table, rows, tmp_path)
    assert [value is None for value in found] == [True, True, False]
    assert found[2:] == scored(stages.Perplexity(), small(), rows, tmp_path)[2:]
    assert None not in scored(stages.Perplexity(skip=()), table, rows, tmp_path)


def test_too_little_text_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"stages\.perplexity\.reference: no language has the 10,000 words .*'en': \d"):
        fit(PerplexityEstimator(stages.Perplexity(reference="language = 'en'"), SEED), [small().slice(0, 10)])
    monkeypatch.setattr(perplexity, "FEWEST", 500)
    _, facts = fit(PerplexityEstimator(stages.Perplexity(), SEED), [small().slice(0, 10)])
    assert facts["languages"].keys() == {"en"}


def test_an_encyclopedia_tells_articles_from_pages_of_shops_and_listings(shared: Path, tmp_path: Path) -> None:
    """A model of other pages of knowledge finds such pages more fluent than spam and structured data."""
    rows = read(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", 6000)
    good, bad = ("Knowledge Article", "Nonfiction Writing", "Academic Writing"), ("Spam / Ads", "Structured Data")
    wanted = [row for row in rows if row["format"] in good]
    tested = wanted[400:] + [row for row in rows if row["format"] in bad]
    found = scored(stages.Perplexity(), documents(wanted[:400]), documents(tested), tmp_path)
    is_good = [row["format"] in good for row, value in zip(tested, found, strict=True) if value is not None]
    assert roc_auc_score(is_good, [-value for value in found if value is not None]) > 0.68
