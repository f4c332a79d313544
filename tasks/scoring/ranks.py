"""Percentile ranks: the place of a value among those of the corpus, which scores of all scales have in common.

A rank of .9 is better than nine in ten documents, whoever judged. Ranks are exact on a seeded sample and pinned, so
that a night's new pages do not move them. They are of a group: the documents of the same language, domain, or both; of
a group in which too few documents have a value of the column those of the language are taken, and then of the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.scoring import Ranking
from tasks.arrays.numbers import as_float
from tasks.arrays.sampling import smallest
from tasks.engine.stage import Estimator, Stage
from tasks.storage.columns import value_digest

SAMPLE = 50_000
"""Documents of each group, and of the corpus, from which ranks are learned: a rank's standard error is .22 %."""
FEWEST = 100
"""Documents from which a group has ranks of its own."""
STEPS = 1000
"""Quantiles that are kept of each column."""
CORPUS = ""


class Ranked(Stage):
    """A stage that knows the ranks of some columns."""

    settings: Ranking
    of: Sequence[str]

    def __init__(self, settings: Ranking, of: Sequence[str], files: dict[str, str] | None = None) -> None:
        """`files`: path and sha256 of the pinned quantiles."""
        super().__init__(settings, files)
        self.where = settings.where
        self.of = of
        self.reads = (*of, *(["language"] if settings.per != "domain" else []), *_domain(settings))

    def setup(self) -> None:
        [path] = self.files
        with open(path, "rb") as file:
            tables = orjson.loads(file.read())
        self.quantiles = [
            {name: np.array(columns[place]) for name, columns in tables.items() if columns[place] is not None}
            for place in range(len(self.of))
        ]
        """Of each column those of each group that has its own."""

    def ranks(self, batch: pa.Table, lower: Sequence[bool]) -> NDArray[np.float64]:
        """The rank of each document by each column, from 0 to 1, the best; of columns of which the `lower` is better,
        from the top. NaN where there is no value."""
        found = np.full((batch.num_rows, len(self.of)), np.nan)
        group = _groups(batch, self.settings)
        both = group, pc.list_element(pc.split_pattern(group, "/"), 0)
        names = [name.to_numpy(zero_copy_only=False) for name in both]
        for place, column in enumerate(self.of):
            quantiles = self.quantiles[place]
            chosen = np.select([np.isin(name, [*quantiles]) for name in names], names, CORPUS)
            for name in np.unique(chosen):
                rows = np.flatnonzero(chosen == name)
                found[rows, place] = rank(quantiles[name], as_float(batch[column].take(pa.array(rows))).to_numpy())
        return np.where(lower, 1 - found, found)


def _domain(settings: Ranking) -> list[str]:
    return ["domain"] if settings.per in ("domain", "language_and_domain") else []


def _groups(batch: pa.Table, settings: Ranking) -> pa.Array:
    """What documents are ranked among: `zh`, `zh/news` or `/news`; parts that are not known are empty."""
    empty = pa.array([CORPUS] * batch.num_rows, pa.string())
    language = empty if settings.per == "domain" else pc.fill_null(batch["language"].combine_chunks(), CORPUS)
    if not _domain(settings):
        return language
    return pc.binary_join_element_wise(language, pc.fill_null(batch["domain"].combine_chunks(), ""), "/")


def rank(quantiles: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of a distribution that lies below each value, and half of what equals it, in [0, 1]; NaN of NaN.

    `quantiles` are its values at 0, 1/n, ..., 1: in [1, 2, 2, 3], 2 stands from 1/3 to 2/3, so its rank is 1/2, and
    2.5 is half-way from 2/3 to 1, at 5/6. Below all of them the rank is 0, above all of them 1, whatever is tied."""
    places = np.linspace(0, 1, len(quantiles))
    distinct, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    begin, end = places[first], places[first + count - 1]
    at = np.searchsorted(distinct, values).clip(max=len(distinct) - 1)
    between = np.interp(values, distinct.repeat(2), np.stack([begin, end], axis=1).ravel(), left=0, right=1)
    return np.where(distinct[at] == values, ((begin + end) / 2)[at], between)


class RanksEstimator(Estimator):
    """The quantiles of some columns, per group and of the corpus. The artefact is JSON: group (`` for the corpus) ->
    for each column its values at 0, 1/1000, ..., 1, or null where too few documents of the group have a value."""

    suffix = ".json"
    settings: Ranking

    def __init__(self, settings: Ranking, of: Sequence[str], seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where
        self.of = of
        self.reads = tuple(sorted({"id", "language", *of, *_domain(settings)}))

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `language` (empty where unknown), `column` (its number), `value` of every value, and the `group`, where
        that is another than the language."""
        language, group = pc.fill_null(batch["language"], CORPUS), _groups(batch, self.settings)
        parts = []
        for place, name in enumerate(self.of):
            value = as_float(batch[name])
            column = pa.array(np.full(batch.num_rows, place, np.int32))
            rows = pa.table({"id": batch["id"], "language": language, "column": column, "value": value})
            if _domain(self.settings):
                rows = rows.append_column("group", pa.chunked_array([group]))
            parts.append(rows.filter(pc.is_finite(value)))
        return self.downsample(pa.concat_tables(parts))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
        levels = [("column",), ("column", "language"), *([("column", "group")] if _domain(self.settings) else [])]
        chosen = [self._smallest(numbered, *by)["row"].to_numpy() for by in levels]
        return rows.take(np.unique(np.concatenate(chosen)))

    def _smallest(self, rows: pa.Table, *by: str) -> pa.Table:
        return smallest(rows, SAMPLE, by, self.seed, "ensemble")

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: documents with a value per column, groups with ranks of their own in one or more, digest of the
        sample. Raises ValueError where a column has no value at all."""
        rows = self.downsample(rows).sort_by([("id", "ascending"), ("column", "ascending")])
        corpus = self._smallest(rows, "column")
        tables = {CORPUS: [self._quantiles(corpus, place) for place in range(len(self.of))]}
        languages = self._of_groups(rows, "language") if "language" in self.settings.per else {}
        groups = self._of_groups(rows, "group") if _domain(self.settings) else {}
        documents = {name: int((corpus["column"].to_numpy() == n).sum()) for n, name in enumerate(self.of)}
        facts: dict[str, Any] = {"documents": documents, "languages": sorted(languages)}
        if groups:
            facts["groups"] = sorted(groups)
        return orjson.dumps(tables | languages | groups), facts | {"sample": value_digest(rows["id"])}

    def _of_groups(self, rows: pa.Table, by: str) -> dict[str, list[list[float] | None]]:
        """The quantiles of each group in the columns of which enough of its documents have a value."""
        own, tables = self._smallest(rows, "column", by), {}
        for name in sorted(set(own[by].to_pylist()) - {CORPUS}):
            part = own.filter(pc.equal(own[by], name))
            counts = np.bincount(part["column"].to_numpy(), minlength=len(self.of))
            if counts.max() >= FEWEST:
                each = enumerate(counts >= FEWEST)
                tables[name] = [self._quantiles(part, place) if enough else None for place, enough in each]
        return tables

    def _quantiles(self, rows: pa.Table, place: int) -> list[float]:
        values = np.sort(rows.filter(pc.equal(rows["column"], place))["value"].to_numpy())
        if not len(values):
            raise ValueError(f"stages.{self.label}.of: no document has a value of {self.of[place]}")
        return values[np.round(np.linspace(0, len(values) - 1, STEPS + 1)).astype(int)].tolist()
