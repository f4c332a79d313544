"""One score of several: each by its percentile rank in the corpus, then the highest of them or their mean.

Scores of different models have different scales, and a rank has none: .9 is better than nine in ten documents, whoever
judged. The highest rank keeps what any scorer likes, the mean what all of them do. Ranks are exact on a seeded sample
and pinned, so that a night's new pages do not move them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.arrays.sampling import smallest
from tasks.engine.stage import Estimator, Stage
from tasks.storage.columns import value_digest

SAMPLE = 50_000
"""Documents of each language, and of the corpus, from which ranks are learned: a rank's standard error is .22 %."""
FEWEST = 100
"""Documents from which a language has ranks of its own; others take the corpus's."""
STEPS = 1000
"""Quantiles that are kept of each column."""
CORPUS = ""


class Ensemble(Stage):
    """`ensemble`: in [0, 1], null where no column has a value.

    A value's rank is the share of the sample below it, and half of what equals it, between two quantiles linear."""

    name, version = "ensemble", 1
    settings: stages.Ensemble

    def __init__(self, settings: stages.Ensemble, files: dict[str, str] | None = None) -> None:
        """`files`: path and sha256 of the pinned quantiles."""
        super().__init__(settings, files)
        self.where = settings.where
        self.reads = (*settings.of, "language")
        self.writes = pa.schema([("ensemble", pa.float32())])

    def hashed_settings(self) -> dict[str, Any]:
        """How ranks become one; what they are of is in the file and in the columns that are read."""
        return self.settings.model_dump(mode="json", include={"take"})

    def setup(self) -> None:
        [path] = self.files
        with open(path, "rb") as file:
            tables = orjson.loads(file.read())
        self.quantiles = {name: [np.array(one) for one in columns] for name, columns in tables.items()}

    def __call__(self, batch: pa.Table) -> pa.Table:
        language = pc.fill_null(batch["language"], CORPUS).to_numpy()
        ranks = np.full((batch.num_rows, len(self.settings.of)), np.nan)
        known = np.where(np.isin(language, [*self.quantiles]), language, CORPUS)
        for name in np.unique(known):
            rows = np.flatnonzero(known == name)
            for place, column in enumerate(self.settings.of):
                values = batch[column].take(pa.array(rows)).cast(pa.float64()).to_numpy()
                ranks[rows, place] = rank(self.quantiles[name][place], values)
        present = ~np.isnan(ranks)
        some = present.any(axis=1)
        made = np.full(batch.num_rows, np.nan)
        best, total = np.where(present, ranks, -1).max(axis=1), np.where(present, ranks, 0).sum(axis=1)
        made[some] = (best if self.settings.take == "max" else total / np.maximum(present.sum(axis=1), 1))[some]
        return pa.table([pa.array(made, pa.float32(), from_pandas=True)], schema=self.writes)


def rank(quantiles: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of a distribution that lies below each value, and half of what equals it, in [0, 1]; NaN of NaN.

    `quantiles` are its values at 0, 1/n, ..., 1: in [1, 2, 2, 3], 2 stands from 1/3 to 2/3, so its rank is 1/2, and
    2.5 is half-way from there to 1, at 3/4."""
    places = np.linspace(0, 1, len(quantiles))
    distinct, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    return np.interp(values, distinct, (places[first] + places[first + count - 1]) / 2)


class EnsembleEstimator(Estimator):
    """The quantiles of an ensemble's columns, per language and of the corpus. The artefact is JSON: language (`` for
    the corpus) -> for each column its values at 0, 1/1000, ..., 1."""

    name, version = "ensemble", 1
    suffix = ".json"
    settings: stages.Ensemble

    def __init__(self, settings: stages.Ensemble, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where
        self.reads = tuple(sorted({"id", "language", *settings.of}))

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"of", "per"})

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `language` (empty where unknown), `column` (its number) and `value` of every value."""
        parts = []
        for place, name in enumerate(self.settings.of):
            value = batch[name].cast(pa.float64())
            language = pc.fill_null(batch["language"], CORPUS)
            column = pa.array(np.full(batch.num_rows, place, np.int32))
            rows = pa.table({"id": batch["id"], "language": language, "column": column, "value": value})
            parts.append(rows.filter(pc.is_finite(value)))
        return self.downsample(pa.concat_tables(parts))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
        chosen = [self._smallest(numbered, *by)["row"].to_numpy() for by in (("column",), ("column", "language"))]
        return rows.take(np.unique(np.concatenate(chosen)))

    def _smallest(self, rows: pa.Table, *by: str) -> pa.Table:
        return smallest(rows, SAMPLE, by, self.seed, "ensemble")

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: documents with a value per column, languages with ranks of their own, digest of the sample. Raises
        ValueError where a column has no value at all."""
        rows = self.downsample(rows).sort_by([("id", "ascending"), ("column", "ascending")])
        corpus, own = self._smallest(rows, "column"), self._smallest(rows, "column", "language")
        tables = {CORPUS: [self._quantiles(corpus, place) for place in range(len(self.settings.of))]}
        if self.settings.per == "language":
            for name in sorted(set(own["language"].to_pylist()) - {CORPUS}):
                part = own.filter(pc.equal(own["language"], name))
                counts = [pc.sum(pc.equal(part["column"], n)).as_py() or 0 for n in range(len(self.settings.of))]
                if min(counts) >= FEWEST:
                    tables[name] = [self._quantiles(part, place) for place in range(len(self.settings.of))]
        documents = {name: int((corpus["column"].to_numpy() == n).sum()) for n, name in enumerate(self.settings.of)}
        facts = {"documents": documents, "languages": sorted(tables.keys() - {CORPUS})}
        return orjson.dumps(tables), facts | {"sample": value_digest(rows["id"])}

    def _quantiles(self, rows: pa.Table, place: int) -> list[float]:
        values = np.sort(rows.filter(pc.equal(rows["column"], place))["value"].to_numpy())
        if not len(values):
            raise ValueError(f"stages: an ensemble has no value of {self.settings.of[place]}: no document has one")
        return values[np.round(np.linspace(0, len(values) - 1, STEPS + 1)).astype(int)].tolist()
