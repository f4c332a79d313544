"""Channels of documents: the named parts of the mixture, the unit of sampling weight and of channel loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from data_specs.base import Settings
from data_specs.expressions import normalised, parse
from tasks.engine.sql import first_true
from tasks.engine.stage import Stage


class Channel(Stage):
    """`channel`: the first channel whose expression is true of the document; null for none."""

    name, version = "channel", 1
    libraries = ("duckdb",)
    writes = pa.schema([("channel", pa.string())])

    def __init__(self, channels: Mapping[str, str]) -> None:
        """`channels`: name -> expression, percentiles bound; their order is part of the fingerprint."""
        super().__init__(Settings())
        self.channels = dict(channels)
        read = frozenset[str]().union(*(parse(text).columns for text in channels.values()))
        self.reads = tuple(sorted(read)) or ("id",)

    def hashed_settings(self) -> dict[str, Any]:
        return {"channels": [[name, normalised(text)] for name, text in self.channels.items()]}

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table([first_true(self.channels, batch)], schema=self.writes)
