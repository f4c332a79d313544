"""A run plan for those who train elsewhere: its rows as Parquet, which Hugging Face's `datasets` reads, or its
documents as Megatron-LM's indexed datasets with a blend file for each phase.

Rows are what a step reads, token for token. Megatron cuts rows and orders documents itself, so it gets each document as
often as the plan begins it, channel by channel, and of each phase the shares of the channels.

An index (`.idx`) is little-endian: `MMIDIDX\\0\\0`, version (uint64, 1), kind of numbers (uint8: 4 int32, 8 uint16),
sequences and documents and one (uint64 each); then tokens of each sequence (int32), where its bytes begin in `.bin`
(int64), and at which sequence each document begins (int64), with an end. Here a sequence is a document.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.planning.files import read_plan, read_rows, read_tokens
from tasks.planning.trace import tokens_of_rows, usage
from tasks.storage.store import Store

_MAGIC, _VERSION = b"MMIDIDX\x00\x00", 1
_KINDS = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}


class PlanExportError(ValueError):
    """The plan cannot be written in this form; the message says why."""


def rows(store: Store, folder: str, target: Store) -> dict[str, int]:
    """`<phase>-<number>.parquet` for each row file: `input_ids` (list<int32>), `lengths` (list<int32>, tokens of each
    document's part), `channel` and `phase` (string); size in rows of each, by name."""
    plan = read_plan(store, folder)
    _whole(plan, folder)
    written = {}
    for name in (name for name in plan["content"] if name.startswith("rows-")):
        table = read_rows(store, f"{folder}/{name}", plan["content"][name])
        if "turned" in table.column_names:
            raise PlanExportError(f"{folder}: its documents are turned round (fill_in_the_middle) as they are read")
        counts = np.concatenate([[0], np.cumsum(pc.list_value_length(table["length"]).to_numpy())])
        ends = np.concatenate([[0], np.cumsum(pc.list_flatten(table["length"]).to_numpy(), dtype=np.int64)])[counts]
        ids = pa.array(tokens_of_rows(store, plan, table).astype(np.int32))
        made = pa.table(
            {
                "input_ids": pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), ids),
                "lengths": table["length"],
                "channel": pa.array(plan["channels"]).take(table["channel"].combine_chunks()),
                "phase": pa.array([plan["phases"][int(name.split("-")[1])]["name"]] * len(table)),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(made, buffer, compression="zstd")
        path = name.removeprefix("rows-").replace(".arrow", ".parquet")
        target.commit(path, buffer.getvalue())
        written[path] = len(table)
    return written


def megatron(store: Store, folder: str, target: Store) -> dict[str, int]:
    """`<channel>_document.bin` and `.idx`, and `blend-<phase>.txt` with a line of weight and prefix for each channel;
    documents of each channel. Raises PlanExportError for a plan of which a phase reads some documents alone."""
    plan = read_plan(store, folder)
    _whole(plan, folder)
    if chosen := [phase for phase in plan["phases"] if phase["where"]]:
        raise PlanExportError(
            f"{folder}: phase {chosen[0]['name']} reads only documents where {chosen[0]['where']}, and Megatron-LM "
            "would read those of all phases in it; take the rows, or leave `where` out"
        )
    table = usage(store, folder)
    written = {}
    for channel in plan["channels"]:
        mine = table.filter(pc.and_(pc.equal(table["channel"], channel), pc.greater(table["uses"], 0)))
        lengths = np.repeat(mine["length"].to_numpy(), mine["uses"].to_numpy()).astype(np.int32)
        kind = np.dtype(np.uint16 if plan["vocabulary"] <= 2**16 else np.int32)
        with target.writer(f"{channel}_document.bin") as file:
            for tokens in _documents(store, plan, mine):
                file.write(tokens.astype(kind.newbyteorder("<")).tobytes())
        target.commit(f"{channel}_document.idx", index(lengths, kind))
        written[channel] = len(lengths)
    for phase in plan["phases"]:
        shares = {name: each["share"] for name, each in phase["channels"].items() if each["rows"]}
        lines = "".join(f"{share!r} {name}_document\n" for name, share in shares.items())
        target.commit(f"blend-{phase['name']}.txt", lines.encode())
    return written


def index(lengths: np.ndarray, kind: np.dtype[Any]) -> bytes:
    """The `.idx` of documents of so many tokens, one after another."""
    count = len(lengths)
    pointers = (np.cumsum(lengths, dtype=np.int64) - lengths) * kind.itemsize
    head = _MAGIC + struct.pack("<QBQQ", _VERSION, _KINDS[kind], count, count + 1)
    body = (
        lengths.astype("<i4").tobytes(),
        pointers.astype("<i8").tobytes(),
        np.arange(count + 1, dtype="<i8").tobytes(),
    )
    return b"".join([head, *body])


def _documents(store: Store, plan: dict[str, Any], table: pa.Table) -> Iterator[np.ndarray]:
    """The tokens of documents, each as often as it is used, in the order of the table, which goes file by file."""
    checksums = dict(zip(plan["files"], plan.get("checksums") or [""] * len(plan["files"]), strict=True))
    opened, values = None, np.empty(0, np.uint16)
    for path, offset, length, uses in zip(
        *(table[name].to_pylist() for name in ("file", "offset", "length", "uses")), strict=True
    ):
        if path != opened:
            opened, values = path, read_tokens(store, path, checksums[path]).values.to_numpy()
        for _ in range(uses):
            yield values[offset : offset + length]


def _whole(plan: dict[str, Any], folder: str) -> None:
    if plan["takedowns"]:
        raise PlanExportError(f"{folder} reads documents that were taken down; `sluice run` makes another plan")
