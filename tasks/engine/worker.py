"""What a worker does with one job: read the columns, call the stage, check what it returned, commit it.

Knows no Ray: the fan-out calls `run` in its workers, tests and benchmarks call it directly. A job whose output is
committed returns the manifest entry that also stands in the file's footer; running it twice writes the same values.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrays.addresses import partners
from tasks.engine.counts import Counts
from tasks.engine.reading import EXTRACTED, InputShard, refused_path
from tasks.engine.stage import CorpusStage, Estimator, RepeatedStage, Stage
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Entry
from tasks.storage.pins import fetched
from tasks.storage.store import DamagedError, Store

Inputs = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Column files of one shard, each with the columns to be read of it: (what it is called there, what it is read as). Of
no file, columns of nulls: (the type, what it is read as)."""
Slices = tuple[list[pa.Table], pa.Schema]
"""A file's record batches, and their schema."""
BATCH = 2048
"""Rows given to a shard stage at once."""
BLOCK = 4096
"""Rows of a block of state, up to twice as many: what is read to find one key."""
ASKED = pa.schema(
    [("position", pa.uint32()), ("by_shard", pa.uint64()), ("by_position", pa.uint32()), ("similarity", pa.float32())]
)
"""What is asked about a document of another shard: its position there, and whose column names it."""
DOWNSAMPLE_ABOVE = 100_000
"""Sampled rows in memory from which a fit lets go of what it would not use; again whenever they have doubled."""


class ContractError(TypeError):
    """A stage returned something else than it declared."""


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


def prepare(stage: Any, store: Store) -> Any:
    """Set a stage up in this process: its pinned files are fetched and verified, its models loaded."""
    files = getattr(stage, "files", {})
    if any(not Path(path).is_absolute() for path in files):
        stage = copy.copy(stage)
        stage.files = {
            path if Path(path).is_absolute() else str(fetched(store, path, sha256)): sha256
            for path, sha256 in files.items()
        }
    if hasattr(stage, "setup"):
        stage.setup()
    return stage


def run(stage: Any, job: Job, store: Store) -> Entry:
    """Do the job. Raises ContractError, DamagedError, or whatever the stage raises."""
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
            raise columns.damaged(path, f"it has {part.num_rows} rows, its shard has {rows}")
        table |= {role: part[name] for name, role in wanted}
    return pa.table(table)


def _inputs(job: Job, store: Store) -> pa.Table:
    return read(store, job.inputs, job.ids, job.rows, job.recorded)


def _gate(where: str | None, table: pa.Table) -> np.ndarray | None:
    """Positions of the rows for which the gate is true; None without a gate."""
    if where is None:
        return None
    from tasks.engine.sql import evaluate

    mask = evaluate({"gate": where}, table)["gate"]
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())


def _checked(result: pa.Table, schema: pa.Schema, rows: int, who: str) -> pa.Table:
    if result.num_rows != rows:
        raise ContractError(f"{who} returned {result.num_rows} rows for {rows}")
    if result.schema.names != schema.names:
        raise ContractError(f"{who} returned columns {result.schema.names}, declared {schema.names}")
    result = result.cast(schema)
    for name in schema.names:
        if columns.has_nan(result[name]):
            raise ContractError(f"{who} wrote NaN into {name}; undefined is null")
    return result


def _keep(entry: Entry, table: pa.Table) -> pa.Table:
    entry |= {"rows": table.num_rows, "columns": columns.digests(table)}
    return table


def _read(reader: Any, job: Job, store: Store, entry: Entry) -> pa.Table:
    read = reader.read(job.read, _earlier(job, store)) if job.earlier else reader.read(job.read)
    if job.read:
        job.read.check()
    table = _keep(entry, read.documents.combine_chunks())
    entry["ids"] = entry["columns"]["id"]
    entry["ledger"] = read.ledger
    if refused := read.refused.num_rows:
        told = {name: entry[name] for name in ("key", "shard", "ids")} | {"rows": refused}
        written = columns.write(store, refused_path(job.path), read.refused, told, once=False)
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
    table = _inputs(job, store)
    result = computed(stage, table)
    _keep(entry, result)
    if ledger := stage.ledger(result, table):
        entry["ledger"] = ledger
    return result


def computed(stage: Stage, table: pa.Table) -> pa.Table:
    """The columns that a stage writes for the rows of its inputs, null where its gate skips them."""
    chosen = _gate(stage.where, table)
    wanted = table.select(list(stage.reads)) if chosen is None else table.select(list(stage.reads)).take(chosen)
    parts = []
    for start in range(0, wanted.num_rows, BATCH):
        batch = wanted.slice(start, BATCH)
        parts.append(_checked(stage(batch), stage.writes, batch.num_rows, stage.name))
    result = pa.concat_tables(parts) if parts else stage.writes.empty_table()
    if chosen is not None:
        places = np.full(table.num_rows, -1, np.int64)
        places[chosen] = np.arange(len(chosen))
        result = stage.filled(result.combine_chunks().take(pa.array(places, mask=places < 0)), table)
    return result


def _map(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    table = _inputs(job, store)
    chosen = _gate(stage.where, table)
    table = table.select(list(stage.reads))
    if job.slices:
        answers = pa.schema([*stage.answers, ("by_shard", pa.uint64())])
        rows = stage.map_recalled(table, _collected(job, store, answers))
    else:
        rows = stage.map(table if chosen is None else table.take(chosen))
    if chosen is not None:
        position = pa.array(chosen[rows["position"].to_numpy()].astype(np.uint32))
        rows = rows.set_column(rows.schema.get_field_index("position"), "position", position)
    if "shard" not in rows.column_names:
        rows = rows.append_column("shard", _uids(rows, job))
    if isinstance(stage, RepeatedStage):
        rows = stage.iterate(rows, job.partition_range)
    return _partitioned(stage, rows, "map", entry)


def _round(stage: RepeatedStage, job: Job, store: Store, entry: Entry) -> Slices:
    rows = _collected(job, store, pa.schema([*stage.shuffled, ("shard", pa.uint64())]))
    return _partitioned(stage, stage.iterate(rows, job.partition_range), "round", entry)


def _partitioned(stage: CorpusStage, rows: pa.Table, step: str, entry: Entry) -> Slices:
    """A slice for each partition, its rows in the order in which they were returned."""
    schema = pa.schema([*stage.shuffled, ("shard", pa.uint64()), ("partition", pa.int32())])
    rows = _checked(rows.select(schema.names), schema, rows.num_rows, f"{stage.name}.{step}")
    partitions = rows["partition"].to_numpy()
    if len(partitions) and not (partitions.min() >= 0 and partitions.max() < stage.partitions):
        raise ContractError(f"{stage.name}.{step} returned a partition outside 0..{stage.partitions - 1}")
    order = np.argsort(partitions, kind="stable")
    rows = rows.combine_chunks().drop_columns(["partition"]).take(order)
    return _slices(rows, partitions[order], entry), rows.schema


def _slices(rows: pa.Table, groups: np.ndarray, entry: Entry) -> list[pa.Table]:
    """Cut at each change of the sorted `groups`, and note every slice's digest."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.empty(0, np.int64)
    ends = np.append(starts, len(groups))[1:]
    parts = [rows.slice(int(a), int(b - a)).combine_chunks() for a, b in zip(starts, ends, strict=True)]
    entry["rows"] = rows.num_rows
    entry["columns"] = {}
    entry["slices"] = {
        str(groups[start]): columns.slice_digest(part) for start, part in zip(starts.tolist(), parts, strict=True)
    }
    return parts


def _collected(job: Job, store: Store, schema: pa.Schema | None = None) -> pa.Table:
    """The slices of a job, with the columns of a schema, all by default."""
    batches: list[pa.RecordBatch] = []
    by_file: dict[str, dict[int, str]] = {}
    for path, number, digest in job.slices:
        by_file.setdefault(path, {})[number] = digest
    for path, wanted in by_file.items():
        batches += columns.read_slices(store, path, wanted)
    if schema is None:
        return pa.Table.from_batches(batches)
    plain = [batch.select(schema.names) for batch in batches]
    return pa.Table.from_batches(plain, schema) if plain else schema.empty_table()


def _uids(rows: pa.Table, job: Job) -> pa.Array:
    return pa.array(np.full(rows.num_rows, job.uid, np.uint64))


def _ask(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    """What the documents of a shard name, by the shard that it is in."""
    by, others = partners(_inputs(job, store).select(list(stage.asks)))
    shard, position, similarity = others.flatten()
    rows = pa.table({"shard": shard, "position": position, "by_position": by.astype(np.uint32)})
    rows = rows.append_column("by_shard", _uids(rows, job)).append_column("similarity", similarity)
    rows = rows.sort_by([("shard", "ascending"), ("position", "ascending"), ("by_position", "ascending")])
    return _slices(rows.select(ASKED.names).cast(ASKED), rows["shard"].to_numpy(), entry), ASKED


def _recall(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    """What follows from the named rows of older shards, by partition or by the shard that asked."""
    schema = ASKED if stage.asks else None
    found = []
    for older in job.older:
        rows = _collected(older, store, schema).sort_by("position")
        positions = np.unique(rows["position"].to_numpy())
        batch = _rows(older, store, positions)
        batch = batch.append_column("position", pa.array(positions)).append_column("shard", _uids(batch, older))
        found.append(stage.recall(batch, rows))
    if stage.named_by:
        return _partitioned(stage, pa.concat_tables(found), "recall", entry)
    schema = pa.schema([*stage.answers, ("by_shard", pa.uint64())])
    answers = pa.concat_tables(
        [_checked(each.select(schema.names), schema, each.num_rows, f"{stage.name}.recall") for each in found]
    )
    answers = answers.combine_chunks().take(
        np.lexsort((answers["by_position"].to_numpy(), answers["by_shard"].to_numpy()))
    )
    return _slices(answers, answers["by_shard"].to_numpy(), entry), schema


def _rows(job: Job, store: Store, positions: np.ndarray) -> pa.Table:
    """Some rows of a shard's columns, of which those row groups are read that they are in."""
    table: dict[str, pa.ChunkedArray] = {}
    groups, within = np.divmod(positions, columns.ROW_GROUP)
    for path, wanted in job.inputs:
        with columns.opened(store, path, job.recorded.get(path, Recorded(job.ids))) as part:
            names = list(dict.fromkeys(name for name, _ in wanted))
            taken = []
            for group in np.unique(groups).tolist():
                begin = group * columns.ROW_GROUP
                end = min(begin + columns.ROW_GROUP, job.rows)
                taken.append(part(names, begin, end).take(within[groups == group]).replace_schema_metadata(None))
            found = pa.concat_tables(taken)
        table |= {role: found[name] for name, role in wanted}
    return pa.table(table)


def _state(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    """Rows that later generations need, sorted by their key, in blocks by its first bits: of two bits, `2:3` are those
    whose key begins with 11."""
    rows = stage.remember(_collected(job, store, pa.schema([*stage.shuffled, ("shard", pa.uint64())])))
    key = rows[stage.state_key].to_numpy()
    order = np.argsort(key, kind="stable")
    bits = max(0, (rows.num_rows // BLOCK).bit_length())
    parts = _slices(rows.combine_chunks().take(order), _block(key[order], bits), entry)
    entry["slices"] = {f"{bits}:{block}": found for block, found in entry["slices"].items()}
    return parts, rows.schema


def _block(key: np.ndarray, bits: int) -> np.ndarray:
    return key >> np.uint64(64 - bits) if bits else np.zeros(len(key), np.uint64)


def _before(stage: CorpusStage, job: Job, store: Store, rows: pa.Table) -> list[pa.Table]:
    """Rows of earlier generations that have a key of these rows, oldest first."""
    keys, found = np.unique(rows[stage.state_key].to_numpy()), []
    for path, names, digests in job.state:
        bits = int(names[0].partition(":")[0]) if names else 0
        wanted = {f"{bits}:{block}" for block in np.unique(_block(keys, bits)).tolist()}
        numbers = {number: digests[number] for number, name in enumerate(names) if name in wanted}
        if numbers:
            part = pa.Table.from_batches(columns.read_slices(store, path, numbers)).select(rows.column_names)
            known = part[stage.state_key].to_numpy()
            place = np.minimum(np.searchsorted(keys, known), len(keys) - 1)
            found.append(part.filter(pa.array(keys[place] == known)))
    return found


def _reduce(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    rows = _collected(job, store, pa.schema([*stage.shuffled, ("shard", pa.uint64())]))
    if job.state:
        rows = pa.concat_tables([*_before(stage, job, store, rows), rows])
    schema = pa.schema([*stage.reduced, ("shard", pa.uint64()), ("position", pa.uint32())])
    result = stage.reduce(rows)
    result = _checked(result.select(schema.names), schema, result.num_rows, f"{stage.name}.reduce").combine_chunks()
    order = np.lexsort((result["position"].to_numpy(), result["shard"].to_numpy()))
    result = result.take(order)
    return _slices(result, result["shard"].to_numpy(), entry), result.schema


def _scatter(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> pa.Table:
    table = _inputs(job, store)
    rows = _collected(job, store, pa.schema([*stage.reduced, ("shard", pa.uint64()), ("position", pa.uint32())]))
    rows = rows.take(np.argsort(rows["position"].to_numpy(), kind="stable"))
    batch = table.select(list(stage.scatters))
    result = stage.scatter(batch, rows)
    _keep(entry, _checked(result, stage.writes, job.rows, f"{stage.name}.scatter"))
    if ledger := stage.ledger(result, batch):
        entry["ledger"] = ledger
    return result.cast(stage.writes)


def _sample(learned: Estimator, job: Job, store: Store, entry: Entry) -> pa.Table:
    return _keep(entry, sampled(learned, _inputs(job, store)))


def sampled(learned: Estimator, table: pa.Table) -> pa.Table:
    """What is learned from some rows of its inputs."""
    if (chosen := _gate(learned.where, table)) is not None:
        table = table.take(chosen)
    if "held_out" in table.column_names:
        table = table.filter(pc.invert(pc.fill_null(table["held_out"], False)))
    return learned.sample(table.select(list(learned.reads))).combine_chunks()


def _count(counts: Counts, job: Job, store: Store, entry: Entry) -> pa.Table:
    return _keep(entry, counts.count(_inputs(job, store)).combine_chunks())


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
    "ask": _ask,
    "recall": _recall,
    "map": _map,
    "round": _round,
    "state": _state,
    "reduce": _reduce,
    "scatter": _scatter,
    "sample": _sample,
    "fit": _fit,
    "count": _count,
}


def inputs_by_file(wanted: Sequence[tuple[tuple[str, str], str]]) -> Inputs:
    """((file, column in it), what it is read as) -> each file with its columns, files in order of first mention."""
    files: dict[str, list[tuple[str, str]]] = {}
    for (path, name), role in wanted:
        files.setdefault(path, []).append((name, role))
    return tuple((path, tuple(names)) for path, names in files.items())
