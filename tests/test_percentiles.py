"""Percentiles: thresholds are numpy's inverted CDF per language, however documents lie in shards, and bind in rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.expressions import bind, parse
from tasks import percentiles
from tasks.percentiles import FEWEST, PercentilesLearned, thresholds
from tasks.sql import evaluate

ASKED = {("quality", 20), ("quality", 2.5), ("words", 60)}
LANGUAGES = {"en": 700, "zh": 400, "de": FEWEST, "fr": FEWEST - 1, None: 30}


def documents() -> pa.Table:
    rng = np.random.default_rng(0)
    count = sum(LANGUAGES.values())
    quality = rng.beta(2, 5, count).astype(np.float32)
    ids = [hashlib.md5(str(number).encode()).digest() for number in range(count)]
    table = pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "language": [language for language, number in LANGUAGES.items() for _ in range(number)],
            "quality": pa.array(quality, mask=rng.random(count) < 0.1),
            "words": pa.array(rng.integers(1, 40, count), pa.uint32()),
        }
    )
    return table.take(rng.permutation(count))


def fit(learned: PercentilesLearned, shards: Iterable[pa.Table]) -> tuple[bytes, dict[str, Any]]:
    rows = pa.concat_tables([learned.sample(shard.select(list(learned.reads))) for shard in shards])
    return learned.fit(rows.sort_by("id"))


def expected(table: pa.Table, column: str, p: float) -> float:
    return float(np.quantile(table[column].drop_null().to_numpy(), p / 100, method="inverted_cdf"))


def chosen(table: pa.Table, language: str) -> pa.Table:
    return table.filter(pa.compute.equal(table["language"], language))


def test_thresholds_are_nearest_ranks_per_language() -> None:
    table = documents()
    found = thresholds(fit(PercentilesLearned(stages.Quality(), 7, ASKED), [table])[0])
    for column, p in ASKED | {("words", 99.9), ("quality", 0.1)}:
        values = found[column, p]
        assert isinstance(values, dict)
        assert values.keys() == {"en", "zh", "de", "fr", ""}
        assert values[""] == expected(table, column, p)
        for language in ("en", "zh"):
            assert values[language] == expected(chosen(table, language), column, p)


def test_a_language_with_few_documents_takes_the_corpus_and_says_so() -> None:
    table = documents()
    artefact, facts = fit(PercentilesLearned(stages.Quality(), 7, {("words", 60)}), [table])
    found = thresholds(artefact)["words", 60]
    assert found["fr"] == expected(table, "words", 60)
    assert found["de"] == expected(chosen(table, "de"), "words", 60)
    counts = {name: number for name, number in LANGUAGES.items() if name}
    assert facts["documents"] == {"words": {"corpus": table.num_rows, **counts}}
    assert facts["values"] == {"percentile(words, 60)": found}


def test_another_percentile_of_the_same_column_is_known_already() -> None:
    table = documents()
    first, second = (PercentilesLearned(stages.Quality(), 7, {("quality", p)}) for p in (20, 33.3))
    assert first.recipe == second.recipe
    assert fit(first, [table])[0] == fit(second, [table])[0]
    with pytest.raises(ValueError, match=r"percentile\(quality, 2\.55\): percentiles are known to a tenth"):
        PercentilesLearned(stages.Quality(), 7, {("quality", 2.55)})


def test_one_threshold_for_the_corpus_where_asked() -> None:
    table = documents()
    found = thresholds(fit(PercentilesLearned(stages.Quality(per="corpus"), 7, ASKED), [table])[0])
    assert {key: found[key] for key in ASKED} == {(column, p): expected(table, column, p) for column, p in ASKED}


@pytest.mark.parametrize("size", [percentiles.SAMPLE, 150])
def test_the_artefact_is_the_same_however_documents_lie_in_shards(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(percentiles, "SAMPLE", size)
    table = documents()
    learned = PercentilesLearned(stages.Quality(), 7, ASKED)
    whole = fit(learned, [table])
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    assert fit(learned, [shuffled.slice(at, 100) for at in range(0, table.num_rows, 100)]) == whole
    assert all(count <= size for counts in whole[1]["documents"].values() for count in counts.values())
    if size == 150:
        assert fit(PercentilesLearned(stages.Quality(), 8, ASKED), [table])[0] != whole[0]


def test_a_rule_with_bound_thresholds_drops_that_share_of_each_language() -> None:
    table = documents()
    rule = "quality < percentile(quality, 20)"
    learned = PercentilesLearned(stages.Quality(), 7, parse(rule).percentiles)
    pinned = thresholds(fit(learned, [table])[0])
    bound = bind(rule, pinned)
    for language in ("en", "zh"):
        dropped = evaluate({"rule": bound}, chosen(table, language))["rule"].drop_null().to_numpy()
        assert 0.19 < dropped.mean() < 0.2
    unknown = table.filter(table["language"].is_null())
    below = pa.compute.less(unknown["quality"].cast(pa.float64()), pinned["quality", 20][""])
    assert evaluate({"rule": bound}, unknown)["rule"].to_pylist() == below.to_pylist()


def test_a_column_without_values_is_an_error() -> None:
    table = documents().set_column(2, "quality", pa.nulls(sum(LANGUAGES.values()), pa.float32()))
    with pytest.raises(ValueError, match=r"percentile\(quality, \.\.\.\): no document has a value of quality"):
        fit(PercentilesLearned(stages.Quality(), 7, {("quality", 20)}), [table])
