"""The jobs of corpus stages: map a shard to rows of partitions, reduce a partition, scatter back to a shard; and in
later generations what older documents say, and the state that earlier ones left.

What goes through a shuffle is a file of slices, each with a digest of its own, so that a job reads only its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa

from tasks.arrays.addresses import partners
from tasks.arrays.external import Sorted, batched, mapped
from tasks.arrays.groups import changes, distinct
from tasks.engine import contract
from tasks.engine.blockwise import BlockwiseStage
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
MOST = 2**18
"""Rows of a block of which all have one key: it is read in slices of so many."""
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
    return _slices(rows, [partitions[order]], entry), rows.schema


def _slices(rows: pa.Table, groups: Iterable[np.ndarray], entry: Entry, most: int = 0) -> list[pa.Table]:
    """Cut at each change of the sorted `groups`, and note every slice's digest. Where a group has more than so many
    rows, others of its slices are called `GROUP:1` and so on."""
    starts: list[int] = []
    found: list[int] = []
    count = 0
    for part in groups:
        begins = np.flatnonzero(changes(part)).tolist()
        begins = begins[1:] if found and begins and part[0] == found[-1] else begins
        starts += [count + begin for begin in begins]
        found += part[begins].tolist()
        count += len(part)
    parts: dict[str, pa.Table] = {}
    for group, (start, end) in zip(found, pairwise([*starts, count]), strict=True):
        for number, begin in enumerate(range(start, end, most or end - start)):
            name = f"{group}:{number}" if number else str(group)
            parts[name] = rows.slice(begin, min(end - begin, most or end - start))
    entry["rows"] = rows.num_rows
    entry["columns"] = {}
    entry["slices"] = {name: columns.slice_digest(part) for name, part in parts.items()}
    return [*parts.values()]


def _collected(job: Job, store: Store, schema: pa.Schema | None = None) -> pa.Table:
    """The slices of a job, with the columns of a schema, all by default."""
    if schema is None:
        return pa.Table.from_batches(_each(job, store))
    plain = [batch.select(schema.names) for batch in _each(job, store)]
    return pa.Table.from_batches(plain, schema) if plain else schema.empty_table()


def _each(job: Job, store: Store) -> Iterator[pa.RecordBatch]:
    """The slices of a job one by one."""
    by_file: dict[str, dict[int, str]] = {}
    for path, number, digest in job.slices:
        by_file.setdefault(path, {})[number] = digest
    for path, wanted in by_file.items():
        yield from columns.read_slices(store, path, wanted)


def _uids(rows: pa.Table, job: Job) -> pa.Array:
    return pa.array(np.full(rows.num_rows, job.uid, np.uint64))


def do_ask(stage: AskingStage, job: Job, store: Store, entry: Entry) -> Slices:
    """What the documents of a shard name, by the shard that it is in."""
    by, others = partners(inputs(job, store).select(list(stage.asks)))
    shard, position, similarity = others.flatten()
    rows = pa.table({"shard": shard, "position": position, "by_position": by.astype(np.uint32)})
    rows = rows.append_column("by_shard", _uids(rows, job)).append_column("similarity", similarity)
    rows = rows.sort_by([("shard", "ascending"), ("position", "ascending"), ("by_position", "ascending")])
    return _slices(rows.select(ASKED.names).cast(ASKED), [rows["shard"].to_numpy()], entry), ASKED


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
    return _slices(answers, [answers["by_shard"].to_numpy()], entry), schema


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
    whose key begins with 11; what a large one has beyond `MOST` rows is in `2:3:1` and so on."""
    parts = [replace(job, slices=job.slices[start:end]) for start, end in pairwise((0, *job.ends))]
    rows = _remembered(stage, parts, store, pa.schema([*stage.shuffled, ("shard", pa.uint64())]))
    bits = max(0, (rows.num_rows // BLOCK).bit_length())
    blocks = (_block(chunk.to_numpy(), bits) for chunk in rows[stage.state_key].chunks)
    found = _slices(rows, blocks, entry, MOST)
    entry["slices"] = {f"{bits}:{block}": digest for block, digest in entry["slices"].items()}
    return found, rows.schema


def _remembered(stage: CorpusStage, parts: Sequence[Job], store: Store, schema: pa.Schema) -> pa.Table:
    """What is kept of what is kept of one part after another, by its key."""
    if not isinstance(stage, BlockwiseStage):
        rows = schema.empty_table()
        for part in parts:
            rows = stage.remember(pa.concat_tables([rows, _collected(part, store, schema)]))
        return rows.combine_chunks().take(np.argsort(rows[stage.state_key].to_numpy(), kind="stable"))
    known = Sorted()
    for part in parts:
        kept = Sorted()
        for each in stage.remember_blocks(partial(_both, known, part, store, schema)):
            kept.add(each)
        known = kept
    ordered = Sorted((stage.state_key, "ascending"))
    for each in known:
        ordered.add(each)
    return mapped(schema, ordered)


def _both(known: Sorted, part: Job, store: Store, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    before = chain.from_iterable(rows.to_batches() for rows in known)
    return batched(chain(before, (batch.select(schema.names) for batch in _each(part, store))))


def _block(key: np.ndarray, bits: int) -> np.ndarray:
    return key >> np.uint64(64 - bits) if bits else np.zeros(len(key), np.uint64)


def _before(stage: CorpusStage, job: Job, store: Store, keys: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Rows of earlier generations that have one of these keys, oldest first."""
    for path, names, digests in job.state:
        bits = int(names[0].partition(":")[0]) if names else 0
        wanted = {f"{bits}:{block}" for block in np.unique(_block(keys, bits)).tolist()}
        numbers = {
            number: digests[number] for number, name in enumerate(names) if ":".join(name.split(":")[:2]) in wanted
        }
        for part in columns.read_slices(store, path, numbers) if numbers else ():
            known = part[stage.state_key].to_numpy()
            place = np.minimum(np.searchsorted(keys, known), len(keys) - 1)
            yield part.filter(pa.array(keys[place] == known))


def do_reduce(stage: CorpusStage, job: Job, store: Store, entry: Entry) -> Slices:
    names = [*stage.shuffled.names, "shard"]

    def read() -> Iterator[pa.RecordBatch]:
        return (batch.select(names) for batch in _each(job, store))

    rows_here = None if isinstance(stage, BlockwiseStage) else [*read()]
    before: Iterator[pa.RecordBatch] = iter(())
    if job.state:
        keys = distinct(batch[stage.state_key].to_numpy() for batch in (read() if rows_here is None else rows_here))
        before = (batch.select(names) for batch in _before(stage, job, store, keys))
    rows = chain(before, read() if rows_here is None else rows_here)
    schema = pa.schema([*stage.reduced, ("shard", pa.uint64()), ("position", pa.uint32())])
    found = _reduced(stage, rows, schema)
    return _slices(found, (chunk.to_numpy() for chunk in found["shard"].chunks), entry), found.schema


def _reduced(stage: CorpusStage, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """What a stage says of rows, by shard and position."""
    who = f"{stage.name}.reduce"
    if isinstance(stage, BlockwiseStage):
        blocks = (each.select(schema.names) for each in stage.reduce_blocks(batched(batches)))
        return mapped(schema, (contract.checked(each, schema, each.num_rows, who) for each in blocks))
    found = stage.reduce(pa.Table.from_batches([*batches], pa.schema([*stage.shuffled, ("shard", pa.uint64())])))
    found = contract.checked(found.select(schema.names), schema, found.num_rows, who).combine_chunks()
    return found.take(np.lexsort((found["position"].to_numpy(), found["shard"].to_numpy())))


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
