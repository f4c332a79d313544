"""Percentile thresholds: what `percentile(column, p)` in a rule stands for, learned once and pinned.

A value is the nearest rank (the smallest with at least p % of the values at or below it), exact on the sampled
documents: per language the `SAMPLE` with the smallest seeded hashes, and as many of the whole corpus. A language with
fewer than `FEWEST` documents takes the corpus's value, and the artefact says so; so does one that the sample has not
seen.

Each column has a pin of its own, with every percentile to a tenth, so that a rule that moves from 20 to 25 learns
nothing anew, and one that asks of another column learns that column alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.scoring import Scorer
from tasks.arrays.numbers import as_float
from tasks.arrays.sampling import smallest
from tasks.engine.stage import Estimator
from tasks.storage.columns import value_digest

SAMPLE = 50_000
"""Documents per column and language: the standard error of a percentile's rank is at most 0.22 % of the documents."""
FEWEST = 100
"""Documents from which a language has a value of its own; its rank is then sure to 5 %."""

GRID = tuple(tenth / 10 for tenth in range(1, 1000))
"""The percentiles that are kept."""

Threshold = tuple[str, int | float]
"""A column and a percentile, 0 < p < 100."""


def pin_of(column: str) -> str:
    """The pin that holds a column's percentiles."""
    return f"percentiles_{column}"


class PercentilesEstimator(Estimator):
    """The percentiles of a column that rules, channels or phases ask of. The artefact is JSON, for `thresholds`."""

    version = 1
    suffix = ".json"
    settings: Scorer

    def __init__(self, settings: Scorer, seed: int, column: str, asked: Collection[float]) -> None:
        """`settings.per` says whether languages have thresholds of their own; `asked`: the percentiles that facts
        name."""
        super().__init__(settings, seed)
        self.name = pin_of(column)
        self.column, self.asked = column, sorted(asked)
        self.reads = tuple(sorted({"id", "language", column}))

    def hashed_settings(self) -> dict[str, Any]:
        return {"per": self.settings.per, "column": self.column}

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `language` (empty where unknown), `value` (float64) of the documents whose value is a finite number."""
        language, value = pc.fill_null(batch["language"], ""), as_float(batch[self.column])
        rows = pa.table({"id": batch["id"], "language": language, "value": value})
        return self.downsample(rows.filter(pc.is_finite(rows["value"])))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
        chosen = [self._smallest(numbered, *by)["row"].to_numpy() for by in ((), ("language",))]
        return rows.take(np.unique(np.concatenate(chosen)))

    def _smallest(self, rows: pa.Table, *by: str) -> pa.Table:
        return smallest(rows, SAMPLE, by, self.seed, "percentiles")

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """`corpus`: its percentiles; `languages`: theirs, null where there are too few documents. Facts: the values
        asked for, from how many documents each was taken, digest of the sample. Raises ValueError where no document
        has a value."""
        rows = self.downsample(rows)
        if not rows.num_rows:
            raise ValueError(f"percentile({self.column}, ...): no document has a value of {self.column}")
        corpus, own = self._smallest(rows), self._smallest(rows, "language")
        names = sorted(set(own["language"].to_pylist()) - {""}) if "language" in self.settings.per else []
        parts = {name: own.filter(pc.equal(own["language"], name))["value"] for name in names}
        languages = {name: _percentiles(part) if len(part) >= FEWEST else None for name, part in parts.items()}
        artefact = orjson.dumps({"corpus": _percentiles(corpus["value"]), "languages": languages})
        values = thresholds(self.column, artefact)
        facts = {
            "values": {f"percentile({self.column}, {p})": values[self.column, p] for p in self.asked},
            "documents": {"corpus": corpus.num_rows, **{name: len(part) for name, part in parts.items()}},
            "sample": value_digest(rows["id"]),
        }
        return artefact, facts


def _percentiles(values: pa.ChunkedArray) -> list[float]:
    """The value at the nearest rank of each percentile of `GRID`."""
    ordered = np.sort(values.to_numpy())
    tenths = np.arange(1, 1000)
    return ordered[-(-tenths * len(ordered) // 1000) - 1].tolist()


def thresholds(column: str, artefact: bytes) -> dict[Threshold, float | dict[str, float]]:
    """For `data_specs.expressions.bind`, of every percentile to a tenth: a value per language, or one for all."""
    found = orjson.loads(artefact)
    languages = {name: values or found["corpus"] for name, values in found["languages"].items()}
    result: dict[Threshold, float | dict[str, float]] = {}
    for place, p in enumerate(GRID):
        by_language = {name: values[place] for name, values in languages.items()}
        result[column, p] = by_language | {"": found["corpus"][place]} if by_language else found["corpus"][place]
    return result
