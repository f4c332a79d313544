"""The documents that a run plan is made of, taken from their shards' tables: by channel, as arrays of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    train = {name: [_no_documents(spec)] for name in spec.mixed}
    held_out = {name: [_no_documents(spec)] for name in spec.mixed}
    values = {name: Values() for name in spec.training.loss_by}
    repetitive = {name: {"documents": 0, "tokens": 0} for name in spec.mixed} if spec.mixture.repetitions else {}
    files: list[str] = []
    for path, table in shards:
        documents = _documents(spec, len(files), table, values)
        inside = {name: _flags(pc.equal(table["channel"], name)) for name in spec.mixed}
        held = _flags(table["held_out"])
        _check_channels(spec, path, table, (documents.length > 0) & ~held & ~np.any(list(inside.values()), axis=0))
        left_out = _flags(table["repetitive"]) if repetitive else np.zeros(len(table), bool)
        for name, of_channel in inside.items():
            to_train, to_evaluate = (of_channel & (documents.length > 1) & each for each in (~held, held))
            train[name].append(documents.take(np.flatnonzero(to_train & ~left_out)))
            held_out[name].append(documents.take(np.flatnonzero(to_evaluate)))
            if repetitive:
                repetitive[name]["documents"] += int((to_train & left_out).sum())
                repetitive[name]["tokens"] += int(documents.length[to_train & left_out].sum())
        files.append(path)
    return Collected(
        files,
        {name: turned_documents(spec, Documents.concatenated(parts)) for name, parts in train.items()},
        {name: Documents.concatenated(parts) for name, parts in held_out.items()},
        repetitive,
        {name: list(found.number) for name, found in values.items()},
    )


def _check_channels(spec: Spec, path: str, table: pa.Table, without: np.ndarray) -> None:
    """Raises MixtureError where a document to train on is `without` a channel of the spec."""
    if without.any():
        row = int(np.flatnonzero(without)[0])
        raise MixtureError(
            f"channels: {path}: document {row} is to be trained on, but its channel is {table['channel'][row]}; "
            f"the spec has {', '.join(spec.channels)}: call them as they were called when the corpus was made"
        )


def _documents(spec: Spec, file: int, table: pa.Table, values: Mapping[str, Values]) -> Documents:
    """All documents of a shard, whose token file has a number."""
    length = pc.fill_null(table["length"], 0).to_numpy().astype(np.int64)
    return Documents(
        file=np.full(len(table), file, np.int32),
        offset=np.cumsum(length) - length,
        length=length.astype(np.int32),
        hash=words(table["id"]),
        where={number: _flags(table[f"where_{number}"]) for number in _phases(spec, "where")},
        groups={name: found.numbered(table[f"by_{name}"]) for name, found in values.items()},
        order={number: table[f"order_{number}"].to_numpy().astype(np.float64) for number in _phases(spec, "order")},
        extra=_extra(spec, table) if repeats.asked(spec) else {},
        cuts={number: table[f"cut_{number}"].combine_chunks() for number in cut_phases(spec)},
    )


def _no_documents(spec: Spec) -> Documents:
    """The same of no shard."""
    return Documents(
        file=np.empty(0, np.int32),
        offset=np.empty(0, np.int64),
        length=np.empty(0, np.int32),
        hash=np.empty(0, np.uint64),
        where={number: np.empty(0, bool) for number in _phases(spec, "where")},
        groups={name: np.empty(0, np.int16) for name in spec.training.loss_by},
        order={number: np.empty(0) for number in _phases(spec, "order")},
        extra={
            **({"times": np.empty(0)} if repeats.asked(spec) else {}),
            **({"host": np.empty(0, np.uint64)} if spec.mixture.host_tokens else {}),
        },
        cuts={number: pa.array([], pa.list_(pa.int32())) for number in cut_phases(spec)},
    )


def _phases(spec: Spec, setting: str) -> list[int]:
    """Numbers of the phases that have a setting."""
    return [number for number, phase in enumerate(spec.mixture.phases) if getattr(phase, setting)]


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
