"""What a worker does with one job: read the columns, call the stage, check what it returned, commit it.

Knows no Ray: the fan-out calls `run` in its workers, tests and benchmarks call it directly. A job whose output is
committed returns the manifest entry that also stands in the file's footer; running it twice writes the same values.
"""

from __future__ import annotations

import copy
import hashlib
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine import contract, corpus_work, custom
from tasks.engine.corpus_work import Slices
from tasks.engine.counts import Counts
from tasks.engine.job import Job, inputs
from tasks.engine.reading import EXTRACTED, refused_path
from tasks.engine.stage import Estimator, Stage
from tasks.storage import columns
from tasks.storage.manifest import Entry
from tasks.storage.pins import fetched
from tasks.storage.store import DamagedError, Store

BATCH = 2048
"""Rows given to a shard stage at once."""
DOWNSAMPLE_ABOVE = 100_000
"""Sampled rows in memory from which a fit lets go of what it would not use; again whenever they have doubled."""


class OtherValuesError(RuntimeError):
    """A process of a run has other code or libraries than the run."""


def prepare(stage: Any, store: Store) -> Any:
    """Set a stage up in this process: its pinned files are fetched and verified, its models loaded. Raises SpecError
    where a stage of one's own is another here, or fails on an empty text."""
    if getattr(stage, "code", ""):
        custom.check(stage)
    files = getattr(stage, "files", {})
    if any(not Path(path).is_absolute() for path in files):
        stage = copy.copy(stage)
        stage.files = {
            path if Path(path).is_absolute() else str(fetched(store, path, sha256)): sha256
            for path, sha256 in files.items()
        }
    if hasattr(stage, "setup"):
        with custom.located(stage):
            stage.setup()
    if getattr(stage, "code", ""):
        custom.try_empty(stage, computed)
    return stage


def recipe(stage: Any) -> dict[str, Any]:
    """What shapes a stage's values, as this process has it; {} of one that does not say."""
    return stage.fingerprint_fields() if hasattr(stage, "fingerprint_fields") else {}


def check(stage: Any, expected: Mapping[str, Any]) -> None:
    """Raises OtherValuesError where this process would make other values of a stage than the one whose `recipe` is
    expected, as a node with other libraries, or another version of Sluice, would: they would go by that one's name."""
    found = recipe(stage)
    wrong = [
        f"{name} {found.get(name)}, not {wanted}" for name, wanted in expected.items() if found.get(name) != wanted
    ]
    if wrong:
        raise OtherValuesError(
            f"{socket.gethostname()} would make other values of {stage.name}, as it has {'; '.join(wrong)}: every node "
            "needs the same checkout and environment"
        )


def run(stage: Any, job: Job, store: Store) -> Entry:
    """Do the job. Raises contract.ContractError, DamagedError, or whatever the stage raises."""
    started = time.perf_counter()
    entry: Entry = {"key": job.key, "shard": job.shard, "ids": job.ids, "run": job.run}
    write = _WORK[job.kind](stage, job, store, entry)
    entry["seconds"] = round(time.perf_counter() - started, 4)
    if isinstance(write, bytes):
        store.commit(job.path, write)
        return entry | {"bytes": len(write)}
    if isinstance(write, pa.Table):
        return entry | columns.write(store, job.path, write, entry)
    parts, schema = write
    return entry | columns.write_slices(store, job.path, parts, schema, entry)


def _keep(entry: Entry, table: pa.Table) -> pa.Table:
    entry |= {"rows": table.num_rows, "columns": columns.digests(table)}
    return table


def _read(reader: Any, job: Job, store: Store, entry: Entry) -> pa.Table:
    read = reader.read(job.read, _earlier(job, store)) if job.earlier else reader.read(job.read)
    table = _keep(entry, read.documents.combine_chunks())
    entry["ids"] = entry["columns"]["id"]
    entry["ledger"] = read.ledger
    if refused := read.refused.num_rows:
        facts = {name: entry[name] for name in ("key", "shard", "ids")} | {"rows": refused}
        written = columns.write(store, refused_path(job.path), read.refused, facts, once=False)
        entry["refused"] = {"rows": refused} | written
    return table


def _earlier(job: Job, store: Store) -> pa.Table | None:
    """The documents from which what was extracted is taken over; None where they are gone or damaged meanwhile."""
    assert job.earlier is not None  # the caller has seen that
    path, recorded = job.earlier
    try:
        return columns.read(store, path, ["id", *EXTRACTED], recorded).combine_chunks()
    except DamagedError:
        return None


def _shard(stage: Stage, job: Job, store: Store, entry: Entry) -> pa.Table:
    table = inputs(job, store)
    with custom.located(stage):
        result = computed(stage, table)
    _keep(entry, result)
    if ledger := stage.ledger(result, table):
        entry["ledger"] = ledger
    return result


def computed(stage: Stage, table: pa.Table) -> pa.Table:
    """The columns that a stage writes for the rows of its inputs, null where its gate skips them."""
    chosen = contract.gated(stage.where, table)
    wanted = table.select(list(stage.reads)) if chosen is None else table.select(list(stage.reads)).take(chosen)
    parts = []
    for start in range(0, wanted.num_rows, BATCH):
        batch = wanted.slice(start, BATCH)
        parts.append(contract.checked(stage(batch), stage.writes, batch.num_rows, stage.name))
    result = pa.concat_tables(parts) if parts else stage.writes.empty_table()
    if chosen is not None:
        places = np.full(table.num_rows, -1, np.int64)
        places[chosen] = np.arange(len(chosen))
        result = stage.filled(result.combine_chunks().take(pa.array(places, mask=places < 0)), table)
    return result


def _sample(learned: Estimator, job: Job, store: Store, entry: Entry) -> pa.Table:
    return _keep(entry, sampled(learned, inputs(job, store)))


def sampled(learned: Estimator, table: pa.Table) -> pa.Table:
    """What is learned from some rows of its inputs."""
    if (chosen := contract.gated(learned.where, table)) is not None:
        table = table.take(chosen)
    if "held_out" in table.column_names:
        table = table.filter(pc.invert(pc.fill_null(table["held_out"], False)))
    return learned.sample(table.select(list(learned.reads))).combine_chunks()


def _count(counts: Counts, job: Job, store: Store, entry: Entry) -> pa.Table:
    return _keep(entry, counts.count(inputs(job, store)).combine_chunks())


def _fit(learned: Estimator, job: Job, store: Store, entry: Entry) -> bytes:
    tables: list[pa.Table] = []
    most = DOWNSAMPLE_ABOVE
    for path, _ in job.inputs:
        tables.append(columns.read(store, path, (), job.recorded.get(path, columns.NOTHING)))
        if sum(table.num_rows for table in tables) > most:
            tables = [learned.downsample(pa.concat_tables(tables))]
            most = max(DOWNSAMPLE_ABOVE, 2 * tables[0].num_rows)
    rows = pa.concat_tables(tables)
    data, facts = learned.fit_in(store, rows.sort_by("id"))
    entry |= {"rows": rows.num_rows, "columns": {}, "facts": facts, "sha256": hashlib.sha256(data).hexdigest()}
    return data


_WORK: dict[str, Callable[[Any, Job, Store, Entry], pa.Table | Slices | bytes]] = {
    "read": _read,
    "shard": _shard,
    "ask": corpus_work.do_ask,
    "recall": corpus_work.do_recall,
    "map": corpus_work.do_map,
    "round": corpus_work.do_round,
    "state": corpus_work.do_state,
    "reduce": corpus_work.do_reduce,
    "scatter": corpus_work.do_scatter,
    "sample": _sample,
    "fit": _fit,
    "count": _count,
}
