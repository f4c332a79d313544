"""What the stages of duplicates share."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_specs.dedup import Duplicates
from data_specs.expressions import normalised, parse
from tasks.arrays.addresses import true
from tasks.arrays.hashing import seeded_hash
from tasks.engine.stage import CorpusStage


class DuplicatesStage(CorpusStage):
    """What the four share: settings, and how texts are read: by which Unicode, and in which of them symbols count."""

    settings: Duplicates
    of_symbols: tuple[str, ...] = ()
    """Columns that say in which texts symbols count."""
    meets: ClassVar[bool] = False
    """Whether it decides which documents meet, and so keeps those apart that `per` does."""

    def __init__(self, settings: Duplicates) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where if "where" not in self.unhashed else None
        if settings.symbols and "text" in self.reads:
            self.of_symbols = tuple(sorted(parse(settings.symbols).columns - set(self.reads)))
            self.reads = (*self.reads, *self.of_symbols)
        if self.meets:
            self.reads = (*self.reads, *(name for name in settings.per if name not in self.reads))

    def hashed_settings(self) -> dict[str, Any]:
        """What pairs are looked for from is what shapes the values."""
        found = super().hashed_settings()
        found.pop("floor", None)
        found.pop("sources", None)  # which the verdict reads
        if not self.meets:
            found.pop("per", None)
        if symbols := found.pop("symbols", None):
            found |= {"symbols": normalised(symbols)} if "text" in self.reads else {}
        lowest = {"threshold": self.settings.compared_from} if "threshold" in found else {}
        unicode = {"unicode": unicodedata.unidata_version} if "text" in self.reads else {}
        return found | lowest | unicode

    def symbols(self, batch: pa.Table) -> NDArray[np.bool_] | None:
        """In which texts symbols count; None: in none."""
        if self.settings.symbols is None:
            return None
        from tasks.engine.sql import evaluate  # DuckDB, which this alone needs

        return true(evaluate({"symbols": self.settings.symbols}, batch)["symbols"])

    def scope(self, batch: pa.Table) -> NDArray[np.uint64]:
        """A hash of what documents must agree in to meet, uint64 [n]; 0 where all may."""
        found = np.zeros(batch.num_rows, np.uint64)
        for name in self.settings.per:
            values = batch[name].combine_chunks().dictionary_encode(null_encoding="encode")
            names = [repr(value).encode() for value in values.dictionary.to_pylist()]
            digests = [int.from_bytes(hashlib.blake2b(each, digest_size=8).digest(), "little") for each in names]
            known = np.array(digests, np.uint64)
            found = seeded_hash(found ^ known[values.indices.to_numpy()], "scope", name)
        return found


def texts(batch: pa.Table) -> Iterator[str]:
    return (text.as_py() for text in batch["text"])


def as_table(**columns: NDArray[Any] | pa.Array) -> pa.Table:
    """Rows that a stage of duplicates hands on."""
    types = {"position": np.uint32, "partition": np.int32}
    return pa.table({name: column.astype(types[name]) if name in types else column for name, column in columns.items()})
