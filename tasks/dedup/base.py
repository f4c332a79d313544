"""What the stages of duplicates share."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_specs.stages import Duplicates
from tasks.engine.stage import CorpusStage


class DuplicatesStage(CorpusStage):
    """What the four share: settings, and Unicode's version, which shapes how texts are read."""

    settings: Duplicates

    def __init__(self, settings: Duplicates) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where if "where" not in self.unhashed else None

    def hashed_settings(self) -> dict[str, Any]:
        """What pairs are looked for from is what shapes the values: a floor, or else the threshold."""
        found = super().hashed_settings()
        found.pop("floor", None)
        lowest = {"threshold": self.settings.compared_from} if "threshold" in found else {}
        unicode = {"unicode": unicodedata.unidata_version} if "text" in self.reads else {}
        return found | lowest | unicode


def as_table(**columns: NDArray[Any] | pa.Array) -> pa.Table:
    """Rows that a stage of duplicates hands on."""
    types = {"position": np.uint32, "partition": np.int32}
    return pa.table({name: column.astype(types[name]) if name in types else column for name, column in columns.items()})
