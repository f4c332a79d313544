"""Percentiles: thresholds are numpy's inverted CDF per language, however documents lie in shards, and bind in rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.expressions import bind
from data_specs.load import SpecError
from data_specs.spec import Spec
from data_specs.stages import with_kinds
from tasks import registry
from tasks.decision import percentiles
from tasks.decision.percentiles import FEWEST, PercentilesEstimator, thresholds
from tasks.engine.sql import evaluate
from tasks.storage.pins import Pins
from tasks.storage.store import Store

ASKED = {"quality": (20, 2.5, 0.1), "words": (60, 99.9)}
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


def percentiles_of(column: str, p: float = 20, seed: int = 7, **settings: Any) -> PercentilesEstimator:
    return PercentilesEstimator(stages.Quality(**settings), seed, column, {p})


def fit(learned: PercentilesEstimator, shards: Iterable[pa.Table]) -> tuple[bytes, dict[str, Any]]:
    rows = pa.concat_tables([learned.sample(shard.select(list(learned.reads))) for shard in shards])
    return learned.fit(rows.sort_by("id"))


def expected(table: pa.Table, column: str, p: float) -> float:
    return float(np.quantile(table[column].drop_null().to_numpy(), p / 100, method="inverted_cdf"))


def chosen(table: pa.Table, language: str) -> pa.Table:
    return table.filter(pa.compute.equal(table["language"], language))


@pytest.mark.parametrize("column", ASKED)
def test_thresholds_are_nearest_ranks_per_language(column: str) -> None:
    table = documents()
    found = thresholds(column, fit(percentiles_of(column), [table])[0])
    for p in ASKED[column]:
        values = found[column, p]
        assert isinstance(values, dict)
        assert values.keys() == {"en", "zh", "de", "fr", ""}
        assert values[""] == expected(table, column, p)
        for language in ("en", "zh"):
            assert values[language] == expected(chosen(table, language), column, p)


def test_a_language_with_few_documents_takes_the_corpus_and_says_so() -> None:
    table = documents()
    artefact, facts = fit(percentiles_of("words", 60), [table])
    found = thresholds("words", artefact)["words", 60]
    assert found["fr"] == expected(table, "words", 60)
    assert found["de"] == expected(chosen(table, "de"), "words", 60)
    counts = {name: number for name, number in LANGUAGES.items() if name}
    assert facts["documents"] == {"corpus": table.num_rows, **counts}
    assert facts["values"] == {"percentile(words, 60)": found}


def test_another_percentile_of_the_same_column_is_known_already() -> None:
    first, second = percentiles_of("quality", 20), percentiles_of("quality", 33.3)
    assert first.fingerprint == second.fingerprint
    assert fit(first, [documents()])[0] == fit(second, [documents()])[0]
    assert first.name != percentiles_of("words", 20).name


def test_one_threshold_for_the_corpus_where_asked() -> None:
    table = documents()
    for column, ps in ASKED.items():
        found = thresholds(column, fit(percentiles_of(column, per="corpus"), [table])[0])
        assert [found[column, p] for p in ps] == [expected(table, column, p) for p in ps]


def test_one_document_is_every_percentile_and_infinity_is_none() -> None:
    table = pa.table({"id": pa.array([b"1" * 16, b"2" * 16], pa.binary(16)), "language": ["en", None]})
    table = table.append_column("x", pa.array([3.5, float("inf")]))
    found = thresholds("x", fit(percentiles_of("x"), [table])[0])
    assert {tuple(sorted(values.items())) for values in found.values()} == {(("", 3.5), ("en", 3.5))}


@pytest.mark.parametrize("size", [percentiles.SAMPLE, 150])
def test_the_artefact_is_the_same_however_documents_lie_in_shards(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(percentiles, "SAMPLE", size)
    table = documents()
    learned = percentiles_of("quality")
    whole = fit(learned, [table])
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    assert fit(learned, [shuffled.slice(at, 100) for at in range(0, table.num_rows, 100)]) == whole
    assert all(count <= size for count in whole[1]["documents"].values())
    if size == 150:
        assert fit(percentiles_of("quality", seed=8), [table])[0] != whole[0]


def test_a_rule_with_bound_thresholds_drops_that_share_of_each_language() -> None:
    table = documents()
    rule = "quality < percentile(quality, 20)"
    pinned = thresholds("quality", fit(percentiles_of("quality"), [table])[0])
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
        fit(percentiles_of("quality"), [table])


def spec_of(text: str, **stages: Any) -> Spec:
    sources = {"web": {"kind": "jsonl", "paths": "x"}}
    rules = [{"name": "low", "drop": text}]
    return Spec(name="test", sources=sources, rules=rules, channels={"all": "true"}, stages=with_kinds(stages))


@pytest.mark.parametrize(("column", "kind"), [("language", "string"), ("hub", "bool"), ("url", "string")])
def test_percentiles_are_of_numbers(column: str, kind: str, tmp_path: Path) -> None:
    spec = spec_of(f"{column} < percentile({column}, 20)")
    message = rf"^test: rule low: percentile\({column}, 20\) needs a column of numbers; {column} is {kind}"
    with pytest.raises(SpecError, match=message):
        registry.nodes(spec, Pins(Store(str(tmp_path)), "test"))


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("signals.where", {"signals": {"where": "length > percentile(length, 5)"}}),
        ("domain.labels.a", {"domain": {"labels": {"a": "length > percentile(length, 5)", "b": "true"}}}),
        ("quality.reference", {"quality": {"reference": "length > percentile(length, 5)"}}),
    ],
)
def test_a_stage_cannot_ask_for_percentiles(key: str, stages: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"stages.{key}: percentile is for rules, channels and phases"):
        spec_of("true", **stages)


def test_whole_numbers_beyond_two_to_the_53rd_have_percentiles_too() -> None:
    values = [2**62 + 2**20 * place for place in range(100)]
    table = documents().slice(0, 100).append_column("stamp", pa.array(values, pa.int64()))
    found = thresholds("stamp", fit(percentiles_of("stamp", 50, per="corpus"), [table])[0])
    assert found["stamp", 50] == float(values[49])
