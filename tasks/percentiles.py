"""Percentile thresholds: what `percentile(column, p)` in a rule stands for, learned once and pinned.

A value is the nearest rank (the smallest with at least p % of the values at or below it), exact on the sampled
documents: per language the `SAMPLE` with the smallest seeded hashes, and as many of the whole corpus. A language with
fewer than `FEWEST` documents takes the corpus's value, and the artefact says so; so does one that the sample has not
seen.

Every percentile to a tenth is kept of a column, so that a rule that moves from 20 to 25 learns nothing anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

GRID = tuple(tenth / 10 for tenth in range(1, 1000))
"""The percentiles that are kept."""

Threshold = tuple[str, int | float]
"""A column and a percentile, 0 < p < 100."""


class PercentilesLearned(Learned):
    """The percentiles of every column that rules, channels or phases ask for. The artefact is JSON, read by
    `thresholds`."""

    name, version = "percentiles", 1
    suffix = ".json"
    settings: stages.Quality

    def __init__(
        self, settings: stages.Quality, seed: int, asked: Collection[Threshold], models: Mapping[str, str] | None = None
    ) -> None:
        """`settings.per` says whether languages have thresholds of their own. `models`: the pins, by name, that wrote
        the columns, and their sha256: of another model's scores these thresholds say nothing. Raises ValueError for a
        percentile that is finer than a tenth."""
        super().__init__(settings, seed)
        self.models = dict(models or {})
        for column, p in asked:
            if p not in GRID:
                raise ValueError(f"percentile({column}, {p}): percentiles are known to a tenth, from 0.1 to 99.9")
        self.asked = sorted(asked)
        self.columns = sorted({column for column, _ in asked})
        self.reads = tuple(sorted({"id", "language", *self.columns}))

    def declared(self) -> dict[str, Any]:
        return {"per": self.settings.per, "columns": self.columns}

    def ingredients(self) -> dict[str, Any]:
        return super().ingredients() | {"models": self.models}

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
        """Facts: the values asked for, documents per column and language, digest of the sample. Raises ValueError for
        a column that no document has a value of."""
        rows = self.thin(rows)
        learned = {column: self._learned(rows, column) for column in self.columns}
        artefact = orjson.dumps(learned)
        values = thresholds(artefact)
        facts = {
            "values": {f"percentile({column}, {p})": values[column, p] for column, p in self.asked},
            "documents": {column: found["documents"] for column, found in learned.items()},
            "sample": value_digest(rows["id"]),
        }
        return artefact, facts

    def _learned(self, rows: pa.Table, column: str) -> dict[str, Any]:
        """`corpus`: its percentiles; `languages`: theirs, null where there are too few documents; `documents`: how many
        each was taken from."""
        rows = rows.filter(pc.equal(rows["column"], column))
        if not rows.num_rows:
            raise ValueError(f"percentile({column}, ...): no document has a value of {column}")
        corpus, own = self._smallest(rows, ()), self._smallest(rows, ("language",))
        names = sorted(set(own["language"].to_pylist()) - {""}) if self.settings.per == "language" else []
        parts = {name: own.filter(pc.equal(own["language"], name))["value"] for name in names}
        return {
            "corpus": _percentiles(corpus["value"]),
            "languages": {name: _percentiles(part) if len(part) >= FEWEST else None for name, part in parts.items()},
            "documents": {"corpus": corpus.num_rows, **{name: len(part) for name, part in parts.items()}},
        }


def _percentiles(values: pa.ChunkedArray) -> list[float]:
    """The value at the nearest rank of each percentile of `GRID`."""
    ordered = np.sort(values.to_numpy())
    tenths = np.arange(1, 1000)
    return ordered[-(-tenths * len(ordered) // 1000) - 1].tolist()


def thresholds(artefact: bytes) -> dict[Threshold, float | dict[str, float]]:
    """For `data_specs.expressions.bind`, of every percentile to a tenth: a value per language, or one for all."""
    result: dict[Threshold, float | dict[str, float]] = {}
    for column, found in orjson.loads(artefact).items():
        languages = {name: values or found["corpus"] for name, values in found["languages"].items()}
        for place, p in enumerate(GRID):
            own = {name: values[place] for name, values in languages.items()}
            result[column, p] = own | {"": found["corpus"][place]} if own else found["corpus"][place]
    return result
