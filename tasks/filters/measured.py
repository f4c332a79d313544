"""What stages share that measure texts one by one, in Python."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from typing import Any, ClassVar

import pyarrow as pa

from data_specs.stage import Stage as Settings
from tasks.engine.stage import Stage


class Measured(Stage):
    """A stage that measures each text by itself. What of a text has no measure is null, and so is all of no text."""

    reads = ("text",)
    by_unicode: ClassVar[bool] = True
    """Whether the version of Unicode, which says what a letter is, shapes the values."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        unicode = {"unicode": unicodedata.unidata_version} if self.by_unicode else {}
        return super().hashed_settings() | unicode

    @abstractmethod
    def measured(self, text: str) -> dict[str, Any]:
        """The columns of one text, by name."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [{} if text is None else self.measured(text) for text in batch["text"].to_pylist()]
        return pa.table([pa.array([row.get(f.name) for row in rows], f.type) for f in self.writes], schema=self.writes)
