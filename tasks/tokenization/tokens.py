"""Tokens: the documents that are trained on, and those held out for evaluation, encoded once per tokenizer.

The output is one list per document of the shard, ended by the end-of-text token, null where nothing reads it; an Arrow
IPC file that training maps into memory (docs/run_plan.md). It is never reordered: a run plan says what is read when.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.base import Settings
from data_specs.tokenizer import Tokenizer
from tasks.engine.stage import Stage
from tasks.tokenization.tokenizer import TokenizerError, load


def token_type(size: int) -> pa.DataType:
    """What the tokens of a vocabulary of `size` entries are stored as."""
    return pa.uint16() if size <= 2**16 else pa.uint32()


class Tokens(Stage):
    """Encode kept documents, and those evaluated on. Why others were dropped is not read, so that a rule which changes
    reasons alone leaves the tokens as they are."""

    name, version = "tokens", 1
    libraries = ("tokenizers",)
    reads: tuple[str, ...] = ("text", "kept", "evaluated")
    format = "arrow"

    def __init__(self, settings: Tokenizer, files: dict[str, str], size: int | None = None) -> None:
        """`files`: the pinned `tokenizer.json`, path and sha256; `size`: its entries (its fact), by default at most
        `settings.vocabulary`; they decide between uint16 and uint32."""
        super().__init__(settings, files)
        self.settings: Tokenizer = settings
        self.type = token_type(size or settings.vocabulary)
        self.writes = pa.schema([("tokens", pa.list_(self.type))])
        self.folder = "/".join(["tokens", *(sha256[:8] for sha256 in files.values())])

    def hashed_settings(self) -> dict[str, str]:
        """Which token ends a document, where the spec names it: how the tokenizer was learned is in its file."""
        return self.settings.model_dump(mode="json", include={"end"}, exclude_none=True)

    def setup(self) -> None:
        [path] = self.files
        self.tokenizer = load(Path(path).read_bytes(), path, self.settings)
        if self.tokenizer.size > 2**self.type.bit_width:
            raise TokenizerError(f"{path} has {self.tokenizer.size:,} entries, too many for tokens of type {self.type}")

    def wanted(self, batch: pa.Table) -> np.ndarray:
        """Which rows are encoded; bool [n]."""
        return pc.fill_null(pc.or_kleene(batch["kept"], batch["evaluated"]), False).to_numpy()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """3.3 (code) to 6.5 (Chinese) million tokens/s of CPU time, where the faster encoder is taken."""
        wanted = self.wanted(batch)
        texts = batch["text"].filter(pa.array(wanted)).to_pylist()
        values, ends = self.tokenizer.encode_flat(texts, self.type.to_pandas_dtype())
        length = np.zeros(batch.num_rows, np.int64)
        length[wanted] = np.diff(ends, prepend=0)
        splits = pa.array(np.concatenate([[0], np.cumsum(length)]).astype(np.int32))
        return pa.table(
            [pa.ListArray.from_arrays(splits, pa.array(values), mask=pa.array(~wanted))], schema=self.writes
        )


class AugmentedTokens(Tokens):
    """Encode the texts that a stage made of documents: a column called as the stage is, with `_tokens`, null where
    there is no such text. Never is one evaluated on, as none is made of a document that is."""

    name, version = "augmented_tokens", 1
    reads = ("text",)

    def __init__(self, of: str, settings: Tokenizer, files: dict[str, str], size: int | None = None) -> None:
        """`of`: the stage, as the spec calls it."""
        super().__init__(settings, files, size)
        self.called(f"{of}_tokens", {"text": of})

    def written_as(self, role: str) -> str:
        return self.label

    def wanted(self, batch: pa.Table) -> np.ndarray:
        return pc.fill_null(pc.not_equal(batch["text"], ""), False).to_numpy()


class TokenEstimate(Stage):
    """About how many tokens a document has, kept or not: what another threshold would give or take. Column
    `token_estimate`: its bytes of UTF-8 over the bytes per token that the tokenizer reached on its channel, and one for
    the end; the mean over channels where it has none or its channel was not in the tokenizer's sample."""

    name, version = "token_estimate", 1
    reads = ("text", "channel")
    writes = pa.schema([("token_estimate", pa.int64())])

    def __init__(self, compression: Mapping[str, Mapping[str, float]]) -> None:
        """`compression`: the pinned tokenizer's fact of that name."""
        super().__init__(Settings())
        self.rates = {name: found["bytes"] for name, found in sorted(compression.items())}

    def hashed_settings(self) -> dict[str, Any]:
        return {"bytes_per_token": self.rates}

    def __call__(self, batch: pa.Table) -> pa.Table:
        index = pc.index_in(batch["channel"], pa.array([*self.rates], pa.string())).combine_chunks()
        mean = sum(self.rates.values()) / max(1, len(self.rates))
        rate = pc.fill_null(pa.array([*self.rates.values()], pa.float64()).take(index), mean)
        size = pc.cast(pc.binary_length(batch["text"]), pa.float64())
        return pa.table([pc.cast(pc.add(pc.ceil(pc.divide(size, rate)), 1), pa.int64())], schema=self.writes)
