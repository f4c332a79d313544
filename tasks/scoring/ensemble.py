"""What is made of ranks: one score of several, and the corpus in parts of equal size by a score.

The highest rank keeps what any scorer likes, the mean what all of them do. Ranks of several scorers taken together are
no longer spread evenly, so buckets are cut by the ranks of what came out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import stages
from tasks.scoring.ranks import Ranked, RanksEstimator


class Ensemble(Ranked):
    """`ensemble`: in [0, 1], null where no column has a value.

    A value's rank is the share of the sample below it, and half of what equals it, between two quantiles linear."""

    name, version = "ensemble", 2  # beyond a tied best and worst, and between tied values, the share below
    writes = pa.schema([("ensemble", pa.float32())])
    settings: stages.Ensemble

    def __init__(self, settings: stages.Ensemble, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, settings.of, files)
        self.lower = [name in settings.lower for name in settings.of]

    def hashed_settings(self) -> dict[str, Any]:
        """How ranks become one; what they are of is in the file and in the columns that are read."""
        own = {"lower": self.lower} if any(self.lower) else {}
        return self.settings.model_dump(mode="json", include={"take"}) | own

    def __call__(self, batch: pa.Table) -> pa.Table:
        ranks = self.ranks(batch, self.lower)
        present = ~np.isnan(ranks)
        some = present.any(axis=1)
        made = np.full(batch.num_rows, np.nan)
        best, total = np.where(present, ranks, -1).max(axis=1), np.where(present, ranks, 0).sum(axis=1)
        made[some] = (best if self.settings.take == "max" else total / np.maximum(present.sum(axis=1), 1))[some]
        return pa.table([pa.array(made, pa.float32(), from_pandas=True)], schema=self.writes)


class EnsembleEstimator(RanksEstimator):
    """The quantiles of an ensemble's columns."""

    name, version = "ensemble", 2  # a group has its own ranks in the columns that it has, whatever it lacks in others

    def __init__(self, settings: stages.Ensemble, seed: int) -> None:
        super().__init__(settings, settings.of, seed)

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"of", "per"})


class Buckets(Ranked):
    """`buckets`: from 0, the worst, up to one less than their number; null where the column has no value. Documents of
    equal values are in the same one."""

    name, version = "buckets", 2  # as of `ensemble`
    writes = pa.schema([("buckets", pa.int16())])
    settings: stages.Buckets

    def __init__(self, settings: stages.Buckets, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, [settings.of], files)

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"count", "lower"})

    def __call__(self, batch: pa.Table) -> pa.Table:
        count = self.settings.count
        rank = self.ranks(batch, [self.settings.lower])[:, 0]
        bucket = np.minimum(np.nan_to_num(rank) * count, count - 1).astype(np.int16)
        return pa.table([pa.array(bucket, mask=np.isnan(rank))], schema=self.writes)


class BucketsEstimator(RanksEstimator):
    """The quantiles of a column."""

    name, version = "buckets", 1

    def __init__(self, settings: stages.Buckets, seed: int) -> None:
        super().__init__(settings, [settings.of], seed)

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"of", "per"})
