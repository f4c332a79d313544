"""Tokens: the documents that are trained on, and those held out for evaluation, encoded once per tokenizer.

The output is one list per document of the shard, ended by the end-of-text token, null where nothing reads it; an Arrow
IPC file that training maps into memory (docs/run_plan.md). It is never reordered: a run plan says what is read when.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.training import Tokenizer
from tasks.stage import Stage
from tasks.tokenizer import TokenizerError, load


def token_type(size: int) -> pa.DataType:
    """What the tokens of a vocabulary of `size` entries are stored as."""
    return pa.uint16() if size <= 2**16 else pa.uint32()


class Tokens(Stage):
    """Encode kept documents, and those evaluated on. Why others were dropped is not read, so that a rule which changes
    reasons alone leaves the tokens as they are."""

    name, version = "tokens", 1
    libraries = ("tokenizers",)
    reads = ("text", "kept", "evaluated")
    format = "arrow"

    def __init__(self, settings: Tokenizer, files: dict[str, str], size: int | None = None) -> None:
        """`files`: the pinned `tokenizer.json`, path and sha256; `size`: its entries (its fact), by default at most
        `settings.vocabulary`; they decide between uint16 and uint32."""
        super().__init__(settings, files)
        self.type = token_type(size or settings.vocabulary)
        self.writes = pa.schema([("tokens", pa.list_(self.type))])
        self.folder = "/".join(["tokens", *(sha256[:8] for sha256 in files.values())])

    def declared(self) -> dict[str, str]:
        """Nothing: how the tokenizer was learned is in its file."""
        return {}

    def setup(self) -> None:
        [path] = self.files
        self.tokenizer = load(Path(path).read_bytes(), path)
        if self.tokenizer.size > 2**self.type.bit_width:
            raise TokenizerError(f"{path} has {self.tokenizer.size:,} entries, too many for tokens of type {self.type}")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """0.4 (code) to 1.3 (Chinese) million tokens/s on one busy core, 97 % of the time inside the tokenizer."""
        wanted = pc.fill_null(pc.or_kleene(batch["kept"], batch["evaluated"]), False).to_numpy()
        found = self.tokenizer.encode(batch["text"].filter(pa.array(wanted)).to_pylist())
        length = np.zeros(batch.num_rows, np.int64)
        length[wanted] = [len(tokens) for tokens in found]
        values = pa.array(np.concatenate([np.empty(0, np.uint32), *found]).astype(self.type.to_pandas_dtype()))
        splits = pa.array(np.concatenate([[0], np.cumsum(length)]).astype(np.int32))
        return pa.table([pa.ListArray.from_arrays(splits, values, mask=pa.array(~wanted))], schema=self.writes)


def estimate(
    size: pa.ChunkedArray, channel: pa.ChunkedArray, compression: Mapping[str, Mapping[str, float]]
) -> pa.ChunkedArray:
    """Tokens (int64) that documents of `size` bytes of UTF-8 would have, from the bytes per token of their channel
    (the tokenizer's facts); the mean over channels where a channel is null or was not in the sample."""
    known = {name: facts["bytes"] for name, facts in compression.items()}
    mean = sum(known.values()) / len(known) if known else 4.0
    index = pc.index_in(channel, pa.array([*known], pa.string()))
    rate = pc.fill_null(pa.array([*known.values()], pa.float64()).take(index.combine_chunks()), mean)
    return pc.cast(pc.add(pc.ceil(pc.divide(pc.cast(size, pa.float64()), rate)), 1), pa.int64())
