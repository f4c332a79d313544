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
from tasks.dedup.lsh_index import LshIndex, facts_of
from tasks.engine.stage import Stage


class DuplicatesOf(Stage):
    """`duplicates_of`: the document of the index that this one is most alike to; `duplicates_of_similarity`: the
    Jaccard similarity of their shingle sets. Both are null where none is found from the index's floor on."""

    name, version = "duplicates_of", 1
    reads = ("text",)
    writes = pa.schema([("duplicates_of", pa.string()), ("duplicates_of_similarity", pa.float32())])
    unhashed = frozenset({"index", "where"})  # digests of its files are in the fingerprint, and so is the gate
    settings: stages.DuplicatesOf

    def __init__(self, settings: stages.DuplicatesOf) -> None:
        """Raises SpecError where the index is missing."""
        self._path = Path(settings.index).expanduser().resolve()
        self._facts = facts_of(self._path)
        super().__init__(settings, {str(self._path / name): sha256 for name, sha256 in self._facts["files"].items()})
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        shaping = ("floor", "hashes", "words", "characters", "unicode")
        return super().hashed_settings() | {name: self._facts[name] for name in shaping}

    def setup(self) -> None:
        """Raises SpecError where the index is not the one that the run began with."""
        self._index = LshIndex(self._path)
        if self._index.facts != self._facts:
            raise SpecError(f"{self._path} has changed since this run began; run again")

    def __call__(self, batch: pa.Table) -> pa.Table:
        nearest: list[str | None] = [None] * len(batch)
        similarity = np.full(len(batch), np.nan, np.float32)
        for number, name, found in self._index.nearest(batch["text"].to_pylist()):
            nearest[number], similarity[number] = name, found
        return pa.table(
            [pa.array(nearest, pa.string()), pa.array(similarity, mask=np.isnan(similarity))], schema=self.writes
        )
