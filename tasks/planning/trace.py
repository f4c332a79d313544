"""Rows of a written plan: traced back to their documents, or written out as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.planning.files import place_of, read_plan, read_rows, read_tokens, rows_of_a_file
from tasks.planning.objectives import Noise, prefix_lengths
from tasks.planning.run_plan import Folder
from tasks.storage.store import Store


def step_documents(store: Store, folder: str, step: int) -> pa.Table:
    """What a step of the plan (0-based) reads, as `row_documents` says it. Raises ValueError where the plan has no such
    step."""
    plan = read_plan(store, folder)
    found = [n for n, p in enumerate(plan["phases"]) if p["first_step"] <= step < p["first_step"] + p["steps"]]
    if not found:
        raise ValueError(f"{folder} has steps 0 to {plan['steps'] - 1}, not {step}")
    phase = plan["phases"][found[0]]
    return row_documents(
        store, folder, found[0], (step - phase["first_step"]) * phase["rows_per_step"], phase["rows_per_step"]
    )


def row_documents(store: Store, folder: str, phase: int, first: int, count: int) -> pa.Table:
    """What rows first .. first+count of a phase read, for tracing it back: `row` (int32, from `first` on), `channel`
    (string), `file` (string), `position` (int64, the document's row in its shard), `offset` (int64), `length` (int32);
    in order."""
    plan = read_plan(store, folder)
    size = rows_of_a_file(plan, phase)
    names = [f"rows-{phase}-{number:05d}.arrow" for number in range(first // size, (first + count - 1) // size + 1)]
    rows = pa.concat_tables([_rows(store, folder, plan, name) for name in names])
    rows = rows.slice(first - first // size * size, count)
    counts = pc.list_value_length(rows["length"]).to_numpy()
    file, offset = pc.list_flatten(rows["file"]).to_numpy(), pc.list_flatten(rows["offset"]).to_numpy()
    position = np.empty(len(file), np.int64)
    for index in np.unique(file):
        ends = _tokens(store, plan, index).offsets.to_numpy()
        position[file == index] = np.searchsorted(ends, offset[file == index], "right") - 1
    return pa.table(
        {
            "row": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            "channel": pa.array(plan["channels"]).take(np.repeat(rows["channel"].to_numpy(), counts)),
            "file": pa.array(plan["files"]).take(file),
            "position": position,
            "offset": offset,
            "length": pc.list_flatten(rows["length"]).combine_chunks(),
        }
    )


def rows_of(store: Store, folder: str, documents: Mapping[str, Sequence[int]]) -> pa.Table:
    """Where a plan reads documents, which are rows of token files: `phase` (int16, -1: held out), `row` (int64, of the
    phase), `channel` (int16, in the order of the plan's), `targets` (int64, their tokens there that are targets; where
    these are drawn among the tokens of a row, all that it reads of them); in order. Empty where it does not.

    Every row file is scanned, 12 bytes a segment."""
    plan = read_plan(store, folder)
    found = [(np.empty(0, np.int16), np.empty(0, np.int64), np.empty(0, np.int16), np.empty(0, np.int64))]
    wanted = {plan["files"].index(file): positions for file, positions in documents.items() if file in plan["files"]}
    ends = {index: _tokens(store, plan, index).offsets.to_numpy() for index in wanted}
    for name in (name for name in plan["content"] if wanted and name.startswith(("rows-", "held_out"))):
        rows = _rows(store, folder, plan, name)
        file, offset = pc.list_flatten(rows["file"]).to_numpy(), pc.list_flatten(rows["offset"]).to_numpy()
        asked = np.zeros(len(file), bool)
        for index, positions in wanted.items():
            mine = np.flatnonzero(file == index)
            position = np.searchsorted(ends[index], offset[mine], "right") - 1
            asked[mine] = np.isin(position, np.asarray(positions))
        segment = np.flatnonzero(asked)
        segments = pc.list_value_length(rows["length"]).to_numpy().astype(np.int64)
        last = np.cumsum(segments)
        number, first = place_of(name, plan)
        targets = _targets(plan, number, first, pc.list_flatten(rows["length"]).to_numpy(), segments)[segment]
        row = np.searchsorted(last, segment, "right")
        channel = rows["channel"].to_numpy()[row].astype(np.int16)
        found.append((np.full(len(segment), number, np.int16), first + row, channel, targets))
    columns = (np.concatenate(part) for part in zip(*found, strict=True))
    table = pa.table(dict(zip(("phase", "row", "channel", "targets"), columns, strict=True)))
    return table.filter(pc.greater(table["targets"], 0)).sort_by([("phase", "ascending"), ("row", "ascending")])


def _targets(plan: dict[str, Any], phase: int, first: int, lengths: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Targets of each segment (int64) of rows of a phase (-1: held out), of which `first` is the first and which have
    so many `segments` of so many tokens each (`lengths`); of objectives that draw them among a row's tokens, these."""
    shape = plan if phase < 0 else plan["phases"][phase]
    kind = shape.get("objective", {"kind": "causal"})["kind"]
    lengths = lengths.astype(np.int64)
    if kind == "prefix":
        noise = Noise(plan["seed"], None if phase < 0 else phase)
        return lengths - np.minimum(prefix_lengths(lengths, noise.of_segments(first, segments)), lengths)
    return lengths - (kind == "causal")


def usage(store: Store, folder: str) -> pa.Table:
    """How often a plan begins each document it may train on: `channel` and `file` (string), `offset` (int64, its first
    token), `length` (int32, tokens), `uses` (int32). Raises FileNotFoundError of a plan by an earlier version."""
    plan = read_plan(store, folder)
    if (digest := plan["content"].get("usage.arrow")) is None:
        raise FileNotFoundError(f"{folder} is a plan by an earlier version, which kept no usage of each document")
    table = read_rows(store, f"{folder}/usage.arrow", digest)
    for name, values in (("channel", plan["channels"]), ("file", plan["files"])):
        column = pa.array(values, pa.string()).take(table[name].combine_chunks())
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def materialise(store: Store, folder: str) -> None:
    """Write every row's tokens in order (`mixture.shards: rows`), `tokens.json` last; nothing where that exists.

    Each token file is opened once per row file that names it; on an object store it is then read whole."""
    if store.exists(f"{folder}/tokens.json"):
        return
    plan = read_plan(store, folder)
    written = Folder(store, folder)
    for name in (name for name in plan["content"] if name.startswith("rows-")):
        rows = _rows(store, folder, plan, name)
        tokens = tokens_of_rows(store, plan, rows)
        table = pa.table(
            {
                "channel": rows["channel"],
                "tokens": pa.FixedSizeListArray.from_arrays(tokens, len(tokens) // len(rows)),
                "length": rows["length"],
                "supervised": rows["supervised"],
                **{column: rows[column] for column in plan.get("loss_by", ())},
            }
        )
        written.write(name.replace("rows-", "tokens-", 1), table)
    store.commit_json(f"{folder}/tokens.json", {"digest": plan["digest"], "content": written.content})


def tokens_of_rows(store: Store, plan: dict[str, Any], rows: pa.Table) -> np.ndarray:
    """The tokens of all segments of some rows, end to end, as the token files hold them: uint16 or uint32."""
    file = pc.list_flatten(rows["file"]).to_numpy()
    offset = pc.list_flatten(rows["offset"]).to_numpy()
    length = pc.list_flatten(rows["length"]).to_numpy().astype(np.int64)
    into = np.cumsum(length) - length
    result = np.empty(0, np.uint16)
    for index in np.unique(file):
        values = _tokens(store, plan, index).values.to_numpy()
        if not len(result):
            result = np.empty(int(length.sum()), values.dtype)
        for segment in np.flatnonzero(file == index).tolist():
            begin, count = offset[segment], length[segment]
            result[into[segment] : into[segment] + count] = values[begin : begin + count]
    return result


def _rows(store: Store, folder: str, plan: dict[str, Any], name: str) -> pa.Table:
    return read_rows(store, f"{folder}/{name}", plan.get("content", {}).get(name))


def _tokens(store: Store, plan: dict[str, Any], index: int) -> pa.ListArray:
    checksums = plan.get("checksums", {})
    return read_tokens(store, plan["files"][index], checksums[index] if checksums else "")
