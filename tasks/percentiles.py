"""Percentile thresholds: what `percentile(column, p)` in a rule stands for, learned once and pinned.

A value is the nearest rank (the smallest with at least p % of the values at or below it), exact on the sampled
documents: per language the `SAMPLE` with the smallest seeded hashes, and as many of the whole corpus. A language with
fewer than `FEWEST` documents takes the corpus's value, and the artefact says so. One that the sample has not seen has
no threshold: comparisons with it are NULL, so that no rule drops for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from fractions import Fraction
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.columns import value_digest
from tasks.sampling import smallest
from tasks.stage import Learned

SAMPLE = 50_000
"""Documents per column and language: the standard error of a percentile's rank is at most 0.22 % of the documents."""
FEWEST = 100
"""Documents from which a language has a value of its own; its rank is then sure to 5 %."""

Threshold = tuple[str, int | float]
"""A column and a percentile, 0 < p < 100."""


class PercentilesLearned(Learned):
    """Thresholds for every (column, percentile) that rules, channels or phases ask for. The artefact is JSON, read by
    `thresholds`."""

    name, version = "percentiles", 1
    suffix = ".json"
    settings: stages.Quality

    def __init__(self, settings: stages.Quality, seed: int, asked: Collection[Threshold]) -> None:
        """`settings.per` says whether languages have thresholds of their own."""
        super().__init__(settings, seed)
        self.asked = sorted(asked)
        self.columns = sorted({column for column, _ in asked})
        self.reads = tuple(sorted({"id", "language", *self.columns}))

    def declared(self) -> dict[str, Any]:
        return {"per": self.settings.per, "asked": [list(each) for each in self.asked]}

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `column`, `language` (empty where unknown), `value` (float64), one row per value not null."""
        rows = [
            pa.table(
                {
                    "id": batch["id"],
                    "column": pa.array([column] * batch.num_rows, pa.string()),
                    "language": pc.fill_null(batch["language"], ""),
                    "value": batch[column].cast(pa.float64()),
                }
            )
            for column in self.columns
        ]
        return self.thin(pa.concat_tables(rows).filter(pc.is_valid(pc.field("value"))))

    def thin(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
        chosen = [self._smallest(numbered, by)["row"].to_numpy() for by in (("column",), ("column", "language"))]
        return rows.take(np.unique(np.concatenate(chosen)))

    def _smallest(self, rows: pa.Table, by: tuple[str, ...]) -> pa.Table:
        return smallest(rows, SAMPLE, by, self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: the artefact itself. Raises ValueError for a column that no document has a value of."""
        found = {
            "per": self.settings.per,
            "thresholds": [self._threshold(rows, column, p) for column, p in self.asked],
            "sample": value_digest(self.thin(rows)["id"]),
        }
        return orjson.dumps(found, option=orjson.OPT_INDENT_2), found

    def _threshold(self, rows: pa.Table, column: str, p: float) -> dict[str, Any]:
        rows = rows.filter(pc.equal(rows["column"], column))
        if not rows.num_rows:
            raise ValueError(f"percentile({column}, {p}): no document has a value of {column}")
        corpus = self._smallest(rows, ())
        result: dict[str, Any] = {"column": column, "percentile": p, "corpus": _ranked(corpus["value"], p)}
        if self.settings.per == "language":
            own = self._smallest(rows, ("language",))
            languages = sorted(set(own["language"].to_pylist()) - {""})
            values = {name: _ranked(own.filter(pc.equal(own["language"], name))["value"], p) for name in languages}
            result["languages"] = {name: value for name, value in values.items() if value["count"] >= FEWEST}
            result["too_few"] = {name: value["count"] for name, value in values.items() if value["count"] < FEWEST}
        return result


def _ranked(values: pa.ChunkedArray, p: float) -> dict[str, Any]:
    """Value at the nearest rank, and the number of values it was taken from."""
    ordered = np.sort(values.to_numpy())
    rank = math.ceil(Fraction(str(p)) * len(ordered) / 100)
    return {"value": float(ordered[rank - 1]), "count": len(ordered)}


def thresholds(artefact: bytes) -> dict[Threshold, float | dict[str, float]]:
    """For `data_specs.expressions.bind`: a value per language that is known, or one for the corpus."""
    result: dict[Threshold, float | dict[str, float]] = {}
    for each in orjson.loads(artefact)["thresholds"]:
        corpus = each["corpus"]["value"]
        languages = {name: found["value"] for name, found in each.get("languages", {}).items()}
        few = dict.fromkeys(each.get("too_few", {}), corpus)
        result[each["column"], each["percentile"]] = languages | few if "languages" in each else corpus
    return result
