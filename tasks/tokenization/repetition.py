"""The stage that counts how often a few tokens stand in a row."""

from __future__ import annotations

import pyarrow as pa

from data_specs.base import Settings
from tasks.arrays.repetitions import repeated
from tasks.engine.stage import Stage


class RepeatedTokens(Stage):
    """`repeated_tokens`: how many times in a row the same 1 to 13 tokens stand, at most; null where not tokenised."""

    name, version = "repeated_tokens", 1
    reads = ("tokens",)
    writes = pa.schema([("repeated_tokens", pa.int32())])

    def __init__(self) -> None:
        super().__init__(Settings())

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table([repeated(batch["tokens"])], schema=self.writes)
