"""What stages share that make another text of some of the kept documents.

The text is a column beside the document's own, row for row, so its origin is its row: what the document is, where it is
from and what becomes of it holds for the text, too. It has an id of its own, by which exports name it, and tokens of
its own (`tokens.py`), which the run plan draws as those of a channel that is called as the stage is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.augmentation import Augmentation
from tasks.arrays.addresses import true
from tasks.arrays.hashing import below, seeded_hash, words
from tasks.engine.stage import Stage


class Augmenting(Stage):
    """A shard stage that writes such a text: a column of its name, empty where there is none, and `<name>_id`, the
    text's id in hexadecimal, null where there is none."""

    reads: tuple[str, ...] = ("id", "text", "kept")
    settings: Augmentation

    def __init__(self, settings: Augmentation, seed: int, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, files)
        self.where, self.seed = settings.where, seed
        self.writes = pa.schema([(self.name, pa.string()), (f"{self.name}_id", pa.string())])

    def hashed_settings(self) -> dict[str, Any]:
        named = {"called": self.instance} if self.instance else {}  # which chance goes by
        return super().hashed_settings() | {"seed": self.seed} | named

    def filled(self, columns: pa.Table, batch: pa.Table) -> pa.Table:
        """Skipped rows have no other text."""
        made, *more = columns.columns
        return pa.table([pc.fill_null(made, ""), *more], schema=self.writes)

    def table(self, batch: pa.Table, made: Sequence[str], *more: pa.Array) -> pa.Table:
        """What is written of the texts that were made of some rows, "" where none was, and what else is written."""
        pairs = zip(batch["id"].to_pylist(), made, strict=True)
        ids = [augmented_id(origin, self.name, text) if text else None for origin, text in pairs]
        return pa.table([pa.array(made, pa.string()), pa.array(ids, pa.string()), *more], schema=self.writes)


def chosen(batch: pa.Table, share: float, seed: int, name: str) -> np.ndarray:
    """Which rows are kept documents of the share of which another text is made, by the id and the stage's `name`, so
    that two stages of a kind choose others; bool [n]."""
    return true(batch["kept"]) & below(seeded_hash(words(batch["id"]), seed, name), share)


def augmented_id(origin: bytes, kind: str, text: str) -> str:
    """The id of a text that a kind of stage made of a document: 32 hexadecimal digits, as those of documents."""
    return hashlib.blake2b(b"\0".join([origin, kind.encode(), text.encode()]), digest_size=16).hexdigest()
