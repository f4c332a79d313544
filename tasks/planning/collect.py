"""The documents that a run plan is made of, taken from their shards' tables: by channel, as arrays of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.groups import named
from data_specs.spec import Spec
from tasks.arrays.hashing import words
from tasks.planning import repeats
from tasks.planning.middle import turned_documents
from tasks.planning.mixture import MixtureError
from tasks.planning.objectives import RowShape, row_shape
from tasks.planning.packing import Documents

INPUT = pa.schema([("id", pa.binary(16)), ("channel", pa.string()), ("length", pa.int32()), ("held_out", pa.bool_())])
"""One table per shard, all its documents in order: tokens with the end-of-text token, null where not tokenised. A bool
column `where_<number>` per phase (from 0) that has a `where`; null counts as false. A column of text `by_<column>`
for each of `training.loss_by`; null is a value of its own. Numbers `order_<number>` per phase that has an order. Where
the mixture asks for it: bool columns `repeat_<number>` per cell and `repetitive`, `cluster_size` (int64), `host`
(uint64), and per phase of `cut_phases` a list `cut_<number>` of where a document is cut."""


class _DocumentChunks:
    """Documents of one channel as they come in, shard by shard."""

    def __init__(
        self,
        phases: Iterable[int],
        groups: Iterable[str],
        orders: Iterable[int] = (),
        extra: Iterable[str] = (),
        cuts: Iterable[int] = (),
    ) -> None:
        self.chunks: list[list[np.ndarray]] = [[np.empty(0, kind)] for kind in Documents.TYPES]
        self.where: dict[int, list[np.ndarray]] = {number: [np.empty(0, bool)] for number in phases}
        self.groups: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.int16)] for name in groups}
        self.order: dict[int, list[np.ndarray]] = {number: [np.empty(0)] for number in orders}
        kinds: dict[str, Any] = {"times": np.float64, "host": np.uint64}
        self.cuts: dict[int, list[pa.Array]] = {number: [pa.array([], pa.list_(pa.int32()))] for number in cuts}
        self.extra: dict[str, list[np.ndarray]] = {name: [np.empty(0, kinds[name])] for name in extra}

    def add(
        self,
        columns: Sequence[np.ndarray],
        where: dict[int, np.ndarray],
        groups: dict[str, np.ndarray],
        order: dict[int, np.ndarray],
        extra: dict[str, np.ndarray],
        cuts: dict[int, pa.Array],
        chosen: np.ndarray,
    ) -> None:
        for chunks, column in zip(self.chunks, columns, strict=True):
            chunks.append(column[chosen].astype(chunks[0].dtype))
        for number, chunks in self.where.items():
            chunks.append(where[number][chosen])
        for name, chunks in self.groups.items():
            chunks.append(groups[name][chosen])
        for number, chunks in self.order.items():
            chunks.append(order[number][chosen])
        for name, chunks in self.extra.items():
            chunks.append(extra[name][chosen])
        for number, lists in self.cuts.items():
            lists.append(cuts[number].filter(pa.array(chosen)))

    def concatenated(self) -> Documents:
        file, offset, length, hashes = (np.concatenate(chunks) for chunks in self.chunks)
        where = {number: np.concatenate(chunks) for number, chunks in self.where.items()}
        groups = {name: np.concatenate(chunks) for name, chunks in self.groups.items()}
        order = {number: np.concatenate(chunks) for number, chunks in self.order.items()}
        extra = {name: np.concatenate(chunks) for name, chunks in self.extra.items()}
        cuts = {number: pa.concat_arrays(lists) for number, lists in self.cuts.items()}
        return Documents(file, offset, length, hashes, where, groups, order, extra=extra, cuts=cuts)


class Values:
    """The values of a column of `training.loss_by`, by what they are called, numbered as they come."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def numbered(self, column: pa.ChunkedArray) -> np.ndarray:
        """int16, one for each document. Raises ValueError where there are more values than losses can be kept of."""
        encoded = pc.dictionary_encode(column.cast(pa.string()).combine_chunks(), null_encoding="encode")
        numbers = [self.number.setdefault(named(value), len(self.number)) for value in encoded.dictionary.to_pylist()]
        if len(self.number) > np.iinfo(np.int16).max:
            raise ValueError("a column of training.loss_by has more than 32,767 values; take one with fewer")
        return np.array(numbers or [0], np.int16)[encoded.indices.to_numpy()]


@dataclass(frozen=True)
class Collected:
    """Token files; the documents to train on and those to evaluate on, by channel; the values of `training.loss_by`."""

    files: list[str]
    train: dict[str, Documents]
    held_out: dict[str, Documents]
    repetitive: dict[str, dict[str, int]]
    """Channel -> `documents` and their `tokens` that `mixture.repetitions` leaves out; {} where it asks for nothing."""
    values: dict[str, list[str]]


def collect(spec: Spec, shards: Iterable[tuple[str, pa.Table]]) -> Collected:
    """Documents of one token (no text) have no target and are left out. Raises MixtureError where a document to train
    on has no channel."""
    phases = [number for number, phase in enumerate(spec.mixture.phases) if phase.where]
    loss_by = spec.training.loss_by
    orders = [number for number, phase in enumerate(spec.mixture.phases) if phase.order]
    wanted_extra = ["times"] * repeats.asked(spec) + ["host"] * bool(spec.mixture.host_tokens)
    cut = [*cut_phases(spec)]
    train = {name: _DocumentChunks(phases, loss_by, orders, wanted_extra, cut) for name in spec.mixed}
    held_out = {name: _DocumentChunks((), loss_by) for name in spec.mixed}
    values = {name: Values() for name in loss_by}
    repetitive = {name: {"documents": 0, "tokens": 0} for name in spec.mixed} if spec.mixture.repetitions else {}
    files: list[str] = []
    for path, table in shards:
        length = pc.fill_null(table["length"], 0).to_numpy().astype(np.int64)
        columns = np.full(len(table), len(files)), np.cumsum(length) - length, length, words(table["id"])
        where = {number: _flags(table[f"where_{number}"]) for number in phases}
        groups = {name: values[name].numbered(table[f"by_{name}"]) for name in loss_by}
        order = {number: table[f"order_{number}"].to_numpy().astype(np.float64) for number in orders}
        extra = _extra(spec, table) if wanted_extra else {}
        cuts = {number: table[f"cut_{number}"].combine_chunks() for number in cut}
        held, unassigned = _flags(table["held_out"]), length > 0
        left_out = _flags(table["repetitive"]) if repetitive else np.zeros(len(table), bool)
        for name in spec.mixed:
            inside = _flags(pc.equal(table["channel"], name))
            unassigned &= ~inside
            wanted = inside & (length > 1) & ~held
            train[name].add(columns, where, groups, order, extra, cuts, wanted & ~left_out)
            if repetitive:
                repetitive[name]["documents"] += int((wanted & left_out).sum())
                repetitive[name]["tokens"] += int(length[wanted & left_out].sum())
            held_out[name].add(columns, where, groups, order, extra, cuts, inside & (length > 1) & held)
        if (unassigned & ~held).any():
            row = int(np.flatnonzero(unassigned & ~held)[0])
            raise MixtureError(
                f"channels: {path}: document {row} is to be trained on, but its channel is {table['channel'][row]}; "
                f"the spec has {', '.join(spec.channels)}: call them as they were called when the corpus was made"
            )
        files.append(path)
    documents = {name: turned_documents(spec, found.concatenated()) for name, found in train.items()}
    evaluated = {name: found.concatenated() for name, found in held_out.items()}
    numbered = {name: list(found.number) for name, found in values.items()}
    return Collected(files, documents, evaluated, repetitive, numbered)


def cut_phases(spec: Spec) -> dict[int, RowShape]:
    """The phases that cut long documents at the ends of lines or sentences, and the shape of their rows."""
    if spec.mixture.cut_at == "anywhere":
        return {}
    packed = {number: shape for number, shape in enumerate(spec.shapes) if shape.packing == "best_fit"}
    return {number: row_shape(shape.objective, shape.sequence) for number, shape in packed.items()}


def _extra(spec: Spec, table: pa.Table) -> dict[str, np.ndarray]:
    """How often each document of a shard stands in an epoch, and its host."""
    cells = [_flags(table[f"repeat_{number}"]) for number in range(len(spec.mixture.repeat))]
    sizes = pc.fill_null(table["cluster_size"], 1).to_numpy() if spec.mixture.rehydration else None
    found = {"times": repeats.times(spec, cells, sizes, len(table))}
    return found | ({"host": table["host"].to_numpy()} if spec.mixture.host_tokens else {})


def _flags(column: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(column, False).to_numpy().astype(bool)
