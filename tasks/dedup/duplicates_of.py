"""Duplicates of other documents: an older corpus, another one, evaluation sets, of which `sluice index` made an index.

Each document is held against the index by itself, and nothing of theirs is touched: so the answer is the same whatever
else is in the corpus, and a rule says from which similarity a document goes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import stages
from data_specs.document import SpecError
from data_specs.expressions import normalised, parse
from tasks.arrays.addresses import true
from tasks.dedup.lsh_index import LshIndex, facts_of
from tasks.engine.stage import Stage
from tasks.sources.files import state


class DuplicatesOf(Stage):
    """`duplicates_of`: the document of the index that this one is most alike to; `duplicates_of_similarity`: the
    Jaccard similarity of their shingle sets. Both are null where none is found from the index's floor on."""

    name, version = "duplicates_of", 1
    reads: tuple[str, ...] = ("text",)
    writes = pa.schema([("duplicates_of", pa.string()), ("duplicates_of_similarity", pa.float32())])
    unhashed = frozenset({"index", "where"})  # digests of its files are in the fingerprint, and so is the gate
    settings: stages.DuplicatesOf

    def __init__(self, settings: stages.DuplicatesOf, symbols: str | None = None) -> None:
        """`symbols`: where they count to `duplicates`. Raises SpecError where the index is missing, or counts symbols
        though these count nowhere here, or does not."""
        self._path = Path(settings.index).expanduser().resolve()
        self._facts = facts_of(self._path)
        super().__init__(settings, {str(self._path / name): sha256 for name, sha256 in self._facts["files"].items()})
        self.where = settings.where
        symbols = settings.symbols or symbols
        self.symbols = normalised(symbols) if symbols and normalised(symbols) != normalised("false") else None
        if (self.symbols is not None) != self._facts.get("symbols", False):
            raise SpecError(self._otherwise(settings.index, symbols))
        self.reads = (*self.reads, *sorted(parse(self.symbols).columns - {"text"})) if self.symbols else self.reads

    @staticmethod
    def _otherwise(index: str, symbols: str | None) -> str:
        """What to do about an index that does not count symbols as they count here."""
        here = f"count where {symbols}" if symbols else "count nowhere"
        remedy = 'make it again with `--symbols`, or say `symbols: "false"`' if symbols else "say `symbols`"
        there = "without" if symbols else "with"
        return f"duplicates_of: the index {index} was made {there} symbols, which {here}; {remedy}"

    def hashed_settings(self) -> dict[str, Any]:
        shaping = ("floor", "hashes", "words", "characters", "unicode")
        found = super().hashed_settings() | {name: self._facts[name] for name in shaping}
        found.pop("symbols", None)
        return found | ({"symbols": self.symbols} if self.symbols else {})

    def setup(self) -> None:
        """Raises SpecError where the index is not the one that the run began with."""
        self._states = self._states_now()
        self._index = LshIndex(self._path)
        if self._index.facts != self._facts:
            raise SpecError(self._changed)

    def _states_now(self) -> list[str]:
        """What tells that the index's files, which are mapped into memory, are written to."""
        return [state(path) for path in self.files]

    @property
    def _changed(self) -> str:
        return f"{self._path} has changed since this run began; run again"

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Raises SpecError where the index was written to since `setup`."""
        nearest: list[str | None] = [None] * len(batch)
        similarity = np.full(len(batch), np.nan, np.float32)
        symbols = None
        if self.symbols:
            from tasks.engine.sql import evaluate  # DuckDB, which this alone needs

            symbols = true(evaluate({"symbols": self.symbols}, batch)["symbols"])
        for number, name, found in self._index.nearest(batch["text"].to_pylist(), symbols):
            nearest[number], similarity[number] = name, found
        if self._states_now() != self._states:
            raise SpecError(self._changed)
        return pa.table(
            [pa.array(nearest, pa.string()), pa.array(similarity, mask=np.isnan(similarity))], schema=self.writes
        )
