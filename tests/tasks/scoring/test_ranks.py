"""Ranks of scores, what is made of several, and the corpus cut into parts by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import rankdata

from data_specs import stages
from tasks.scoring.ensemble import Buckets, BucketsEstimator, Ensemble, EnsembleEstimator
from tasks.scoring.ranks import rank
from tests.tasks.scoring.test_domain_quality import documents, fit, ready

SEED = 20260101


def corpus(count: int = 4000) -> pa.Table:
    """Two scores: of each language and domain one is spread otherwise; of the other lower values are better."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        language, domain = ("en", "zh")[number % 2], ("news", "law", "law")[number % 3]
        shift = {"en": 0.0, "zh": 5.0}[language] + {"news": 0.0, "law": 50.0}[domain]
        value = float(rng.normal() + shift)
        rows.append({"text": str(number), "language": language, "domain": domain, "edu": value, "fluent": -value})
    return documents(rows)


def made(estimator: Any, stage: Any, table: pa.Table, folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    data, facts = fit(estimator, [table.slice(0, 900), table.slice(900)])
    found = ready(stage, data, folder)(table)
    return found[found.column_names[0]].to_numpy(), facts


def test_parts_of_the_corpus_are_of_equal_size_in_each_language_and_domain(tmp_path: Path) -> None:
    table = corpus()
    settings = stages.Buckets(of="edu", per="language_and_domain")
    found, facts = made(BucketsEstimator(settings, SEED), lambda files: Buckets(settings, files), table, tmp_path)
    groups = np.array([f"{row['language']}/{row['domain']}" for row in table.to_pylist()])
    values = table["edu"].to_numpy()
    assert facts["groups"] == sorted(set(groups))
    for group in set(groups):
        own = groups == group
        expected = np.minimum((rankdata(values[own]) - 0.5) / own.sum() * 20, 19.999).astype(int)
        assert np.abs(found[own] - expected).max() <= 1
        assert (found[own] != expected).mean() < 0.03
        assert set(found[own]) == set(range(20))


@pytest.mark.parametrize("per", ["language", "corpus", "domain", "language_and_domain"])
def test_ranks_are_among_the_documents_that_the_setting_names(per: Any, tmp_path: Path) -> None:
    table = corpus()
    settings = stages.Ensemble(of=("edu",), per=per)
    stage = lambda files: Ensemble(settings, files)  # noqa: E731
    found, _ = made(EnsembleEstimator(settings, SEED), stage, table, tmp_path)
    wanted = {"corpus": [], "language": ["language"], "domain": ["domain"]}.get(per, ["language", "domain"])
    groups = [tuple(row[name] for name in wanted) for row in table.select(["language", "domain"]).to_pylist()]
    for group in set(groups):
        own = np.array([each == group for each in groups])
        expected = (rankdata(table["edu"].to_numpy()[own]) - 0.5) / own.sum()
        np.testing.assert_allclose(found[own], expected, atol=0.004)


def test_of_columns_of_which_the_lower_is_better_ranks_are_counted_from_the_top(tmp_path: Path) -> None:
    table = corpus(400)
    high = stages.Ensemble(of=("edu",), per="corpus")
    both = stages.Ensemble(of=("edu", "fluent"), lower=("fluent",), per="corpus", take="mean")
    one, _ = made(EnsembleEstimator(high, SEED), lambda files: Ensemble(high, files), table, tmp_path)
    two, _ = made(EnsembleEstimator(both, SEED), lambda files: Ensemble(both, files), table, tmp_path)
    np.testing.assert_allclose(one, two, atol=1e-3)
    assert Ensemble(both).fingerprint != Ensemble(both.model_copy(update={"lower": ()})).fingerprint
    with pytest.raises(ValueError, match="lower: edu is none of the columns"):
        stages.Ensemble(of=("fluent",), lower=("edu",))


def test_a_group_with_too_few_documents_takes_the_ranks_of_its_language(tmp_path: Path) -> None:
    table = corpus(600)
    verse = {"language": "zh", "domain": "verse", "fluent": 0.0}
    rare = documents({"text": f"r{number}", "edu": float(number), **verse} for number in range(99))
    table = pa.concat_tables([table, rare.select(table.column_names)])
    fine, coarse = (stages.Buckets(of="edu", per=per) for per in ("language_and_domain", "language"))
    some, _ = made(BucketsEstimator(fine, SEED), lambda files: Buckets(fine, files), table, tmp_path)
    other, _ = made(BucketsEstimator(coarse, SEED), lambda files: Buckets(coarse, files), table, tmp_path)
    assert some[600:].tolist() == other[600:].tolist()
    assert some[:600].tolist() != other[:600].tolist()


def test_a_language_without_one_of_several_scores_is_ranked_by_itself_in_the_others(tmp_path: Path) -> None:
    table = corpus(800)
    chinese = pc.equal(table["language"], "zh")
    table = table.set_column(table.column_names.index("fluent"), "fluent", pc.if_else(chinese, None, table["fluent"]))
    settings = stages.Ensemble(of=("edu", "fluent"))
    found, facts = made(EnsembleEstimator(settings, SEED), lambda files: Ensemble(settings, files), table, tmp_path)
    own = chinese.to_numpy()
    expected = (rankdata(table["edu"].to_numpy()[own]) - 0.5) / own.sum()
    np.testing.assert_allclose(found[own], expected, atol=0.004)
    assert facts["languages"] == ["en", "zh"]


def test_a_document_without_a_value_is_in_no_part(tmp_path: Path) -> None:
    table = corpus(300)
    settings = stages.Buckets(of="edu", count=4)
    data, _ = fit(BucketsEstimator(settings, SEED), [table])
    column = pa.array([None, -1e9, 1e9], pa.float32())
    asked = pa.table({"edu": column, "language": pa.array(["en", "en", None])})
    assert ready(lambda files: Buckets(settings, files), data, tmp_path)(asked)["buckets"].to_pylist() == [None, 0, 3]


@pytest.mark.parametrize(
    ("quantiles", "value", "expected"),
    [
        ([1, 2, 2, 3], 2, 1 / 2),
        ([1, 2, 2, 3], 2.5, 5 / 6),
        ([1, 2, 2, 3], 1.5, 1 / 6),
        ([1, 2, 2, 3], 3, 1),
        ([1, 2, 2, 2], 2, 2 / 3),
        ([1, 2, 2, 2], 2.001, 1),
        ([1, 2, 2, 2], np.inf, 1),
        ([1, 1, 1, 2], 1, 1 / 3),
        ([1, 1, 1, 2], 0.999, 0),
        ([1, 1, 1, 2], -np.inf, 0),
        ([5, 5, 5], 5, 1 / 2),
        ([5, 5, 5], 6, 1),
        ([5, 5, 5], 4, 0),
        ([1, 2, 3], np.nan, np.nan),
    ],
)
def test_a_rank_is_the_share_below_a_value_and_half_of_what_equals_it(
    quantiles: list[float], value: float, expected: float
) -> None:
    assert rank(np.array(quantiles, float), np.array([value])) == pytest.approx([expected], nan_ok=True)


def test_what_is_better_than_a_tied_best_is_above_it_and_what_is_worse_than_a_tied_worst_below(tmp_path: Path) -> None:
    table = corpus(400)
    edu = np.clip(np.arange(400) % 100, 30, 70).astype(np.float32)
    table = table.set_column(table.column_names.index("edu"), "edu", pa.array(edu))
    settings = stages.Ensemble(of=("edu",), per="corpus")
    data, _ = fit(EnsembleEstimator(settings, SEED), [table])
    asked = pa.table({"edu": pa.array([10, 30, 50, 70, 90], pa.float32()), "language": ["en"] * 5})
    found = ready(lambda files: Ensemble(settings, files), data, tmp_path)(asked)["ensemble"].to_numpy()
    np.testing.assert_allclose(found, [0, 0.155, 0.505, 0.85, 1], atol=0.003)
