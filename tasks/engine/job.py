"""A job: one shard's or one partition's work, and the columns that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from data_specs.amounts import plural
from tasks.engine.reading import InputShard
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.store import Store

Inputs = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Column files of one shard, each with the columns to be read of it: (what it is called there, what it is read as). Of
no file, columns of nulls: (the type, what it is read as)."""


@dataclass(frozen=True)
class Job:
    """One shard's or one partition's work, which reads the columns `inputs`."""

    kind: Literal[
        "read", "shard", "ask", "recall", "map", "round", "state", "reduce", "scatter", "sample", "fit", "count"
    ]
    key: str
    path: str
    shard: str
    run: str
    ids: str | None = None
    rows: int = 0
    inputs: Inputs = ()
    slices: tuple[tuple[str, int, str], ...] = ()
    """(file, number of the record batch, its digest) for what reads slices."""
    ends: tuple[int, ...] = ()
    """Of a state: where among `slices` those of each run, or of each generation that is in none yet, end."""
    state: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = ()
    """Of a reduction in a later generation: the runs of what was before, oldest first (file, its blocks' names and
    their digests)."""
    older: tuple[Job, ...] = ()
    """Of a recall: what is read of each older shard."""
    partition_range: range = range(0)
    """The partitions that a round reads."""
    read: InputShard | None = None
    recorded: Mapping[str, Recorded] = field(default_factory=dict, compare=False)
    """What manifests say of the files of `inputs`, by path."""
    earlier: tuple[str, Recorded] | None = field(default=None, compare=False)
    """The same shard's documents as another admission chose them, and what is known of the file."""
    cost: int = field(default=0, compare=False)
    """Bytes read, as a guess of the work: large jobs go first."""

    @property
    def uid(self) -> int:
        """The shard's number inside shuffles: the first 64 bits of its ids' digest."""
        return shard_uid(self.ids or "0")


def shard_uid(ids: str) -> int:
    return int(ids[:16], 16)


def inputs_by_file(wanted: Sequence[tuple[tuple[str, str], str]]) -> Inputs:
    """((file, column in it), what it is read as) -> each file with its columns, files in order of first mention."""
    files: dict[str, list[tuple[str, str]]] = {}
    for (path, name), role in wanted:
        files.setdefault(path, []).append((name, role))
    return tuple((path, tuple(names)) for path, names in files.items())


def read(
    store: Store,
    inputs: Inputs,
    ids: str | None,
    rows: int | None = None,
    recorded: Mapping[str, Recorded] | None = None,
) -> pa.Table:
    """The columns of one shard, joined by position. Raises DamagedError, also for those of other ids or not so many
    `rows`, or where a file is not what was `recorded`."""
    table: dict[str, pa.ChunkedArray] = {}
    for path, wanted in sorted(inputs, key=lambda each: each[0] == ""):
        if not path:
            count = len(next(iter(table.values()))) if table else rows or 0
            table |= {role: pa.chunked_array([pa.nulls(count, pa.type_for_alias(kind))]) for kind, role in wanted}
            continue
        names = list(dict.fromkeys(name for name, _ in wanted))
        part = columns.read(store, path, names, (recorded or {}).get(path, Recorded(ids)))
        if rows is not None and part.num_rows != rows:
            raise columns.damaged(path, f"it has {plural(part.num_rows, 'row')}, its shard has {rows}")
        table |= {role: part[name] for name, role in wanted}
    return pa.table(table)


def inputs(job: Job, store: Store) -> pa.Table:
    return read(store, job.inputs, job.ids, job.rows, job.recorded)
