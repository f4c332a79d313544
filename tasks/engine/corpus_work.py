"""The jobs of corpus stages: map a shard to rows of partitions, reduce a partition, scatter back to a shard; and in
later generations what older documents say, and the state that earlier ones left.

What goes through a shuffle is a file of slices, each with a digest of its own, so that a job reads only its own.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from tasks.arrays.addresses import partners
from tasks.engine import contract
from tasks.engine.job import Job, inputs
from tasks.engine.stage import AskingStage, CorpusStage, RecallingStage, RepeatedStage
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Entry
from tasks.storage.store import Store

Slices = tuple[list[pa.Table], pa.Schema]
"""A file's record batches, and their schema."""
BLOCK = 4096
"""Rows of a block of state, up to twice as many: what is read to find one key."""
ASKED = pa.schema(
    [("position", pa.uint32()), ("by_shard", pa.uint64()), ("by_position", pa.uint32()), ("similarity", pa.float32())]
)
"""What is asked about a document of another shard: its position there, and whose column names it."""


def do_map(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    table = inputs(job, store)
    chosen = contract.gated(stage.where, table)
    table = table.select(list(stage.reads))
    if job.slices and isinstance(stage, AskingStage):
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


def do_round(stage: RepeatedStage, job: Job, store: Store, entry: Entry) -> Slices:
    rows = _collected(job, store, pa.schema([*stage.shuffled, ("shard", pa.uint64())]))
    return _partitioned(stage, stage.iterate(rows, job.partition_range), "round", entry)


def _partitioned(stage: CorpusStage, rows: pa.Table, step: str, entry: Entry) -> Slices:
    """A slice for each partition, its rows in the order in which they were returned."""
    schema = pa.schema([*stage.shuffled, ("shard", pa.uint64()), ("partition", pa.int32())])
    rows = contract.checked(rows.select(schema.names), schema, rows.num_rows, f"{stage.name}.{step}")
    partitions = rows["partition"].to_numpy()
    if len(partitions) and not (partitions.min() >= 0 and partitions.max() < stage.partitions):
        raise contract.ContractError(f"{stage.name}.{step} returned a partition outside 0..{stage.partitions - 1}")
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


def do_ask(stage: AskingStage, job: Job, store: Store, entry: Entry) -> Slices:
    """What the documents of a shard name, by the shard that it is in."""
    by, others = partners(inputs(job, store).select(list(stage.asks)))
    shard, position, similarity = others.flatten()
    rows = pa.table({"shard": shard, "position": position, "by_position": by.astype(np.uint32)})
    rows = rows.append_column("by_shard", _uids(rows, job)).append_column("similarity", similarity)
    rows = rows.sort_by([("shard", "ascending"), ("position", "ascending"), ("by_position", "ascending")])
    return _slices(rows.select(ASKED.names).cast(ASKED), rows["shard"].to_numpy(), entry), ASKED


def do_recall(stage: RecallingStage, job: Job, store: Store, entry: Entry) -> Slices:
    """What follows from the named rows of older shards, by partition or by the shard that asked."""
    schema = ASKED if isinstance(stage, AskingStage) else None
    found = []
    for older in job.older:
        rows = _collected(older, store, schema).sort_by("position")
        positions = np.unique(rows["position"].to_numpy())
        batch = _rows(older, store, positions)
        batch = batch.append_column("position", pa.array(positions)).append_column("shard", _uids(batch, older))
        found.append(stage.recall(batch, rows))
    if not isinstance(stage, AskingStage):
        return _partitioned(stage, pa.concat_tables(found), "recall", entry)
    schema = pa.schema([*stage.answers, ("by_shard", pa.uint64())])
    answers = pa.concat_tables(
        [contract.checked(each.select(schema.names), schema, each.num_rows, f"{stage.name}.recall") for each in found]
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


def do_state(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    """Rows that later generations need, sorted by their key, in blocks by its first bits: of two bits, `2:3` are those
    whose key begins with 11."""
    schema = pa.schema([*stage.shuffled, ("shard", pa.uint64())])
    rows = schema.empty_table()
    for start, end in pairwise((0, *job.ends)):
        more = _collected(replace(job, slices=job.slices[start:end]), store, schema)
        rows = stage.remember(pa.concat_tables([rows, more]))
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


def do_reduce(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    rows = _collected(job, store, pa.schema([*stage.shuffled, ("shard", pa.uint64())]))
    if job.state:
        rows = pa.concat_tables([*_before(stage, job, store, rows), rows])
    schema = pa.schema([*stage.reduced, ("shard", pa.uint64()), ("position", pa.uint32())])
    result = stage.reduce(rows)
    result = contract.checked(
        result.select(schema.names), schema, result.num_rows, f"{stage.name}.reduce"
    ).combine_chunks()
    order = np.lexsort((result["position"].to_numpy(), result["shard"].to_numpy()))
    result = result.take(order)
    return _slices(result, result["shard"].to_numpy(), entry), result.schema


def do_scatter(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> pa.Table:
    table = inputs(job, store)
    rows = _collected(job, store, pa.schema([*stage.reduced, ("shard", pa.uint64()), ("position", pa.uint32())]))
    rows = rows.take(np.argsort(rows["position"].to_numpy(), kind="stable"))
    batch = table.select(list(stage.scatters))
    result = stage.scatter(batch, rows)
    contract.checked(result, stage.writes, job.rows, f"{stage.name}.scatter")
    entry |= {"rows": result.num_rows, "columns": columns.digests(result)}
    if ledger := stage.ledger(result, batch):
        entry["ledger"] = ledger
    return result.cast(stage.writes)
