"""Corpus stages run in memory, checking what they return against what they declare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tasks.engine.stage import CorpusStage, RepeatedStage, Stage

ABOUT = [("shard", pa.uint64()), ("position", pa.uint32())]


def number(shard: int) -> int:
    """A 64-bit number of the n-th shard, neither small nor in order."""
    return (2**63 + (shard + 1) * 0x9E3779B97F4A7C15) % 2**64


def partitioned(stage: CorpusStage, rows: pa.Table) -> pa.Table:
    """Rows as a stage deals them, checked."""
    rows = rows.select([*stage.shuffled.names, "shard", "partition"]).cast(
        pa.schema([*stage.shuffled, ("shard", pa.uint64()), ("partition", pa.int32())])
    )
    partitions = rows["partition"].to_numpy()
    assert ((partitions >= 0) & (partitions < stage.partitions)).all()
    return rows


def met(rows: pa.Table, partition_range: range) -> pa.Table:
    """The rows that meet in some partitions."""
    return rows.filter(np.isin(rows["partition"].to_numpy(), partition_range)).drop_columns(["partition"])


def repeated(stage: RepeatedStage, rows: pa.Table, reduce_groups: Sequence[range]) -> tuple[pa.Table, int]:
    """Rounds until nothing changes: the rows, and how many rounds it took."""
    for rounds in range(100):
        again = pa.concat_tables(partitioned(stage, stage.iterate(met(rows, each), each)) for each in reduce_groups)
        if again.equals(rows):
            return rows, rounds
        rows = again
    raise AssertionError("100 rounds, and rows still change")


def run(stage: CorpusStage | Stage, shards: Sequence[pa.Table]) -> list[pa.Table]:
    """Shards with at least the columns the stage reads -> each with the columns it writes beside its own."""
    stage.setup()
    if isinstance(stage, Stage):
        return [_beside(stage, shard, stage(shard.select(list(stage.reads)))) for shard in shards]
    mapped = []
    for each, shard in enumerate(shards):
        rows = stage.map(shard.select(list(stage.reads)))
        rows = rows.append_column("shard", pa.array(np.full(rows.num_rows, number(each), np.uint64)))
        mapped.append(partitioned(stage, stage.iterate(rows, range(0)) if isinstance(stage, RepeatedStage) else rows))
    order = sorted(range(len(shards)), key=number)
    rows = pa.concat_tables(mapped[each] for each in order)
    reduce_groups = stage.reduce_groups(rows.num_rows)
    if isinstance(stage, RepeatedStage) and len(reduce_groups) > 1:
        rows, _ = repeated(stage, rows, reduce_groups)
    schema = pa.schema([*stage.reduced, *ABOUT])
    parts = [stage.reduce(met(rows, partition_range)) for partition_range in reduce_groups]
    reduced = pa.concat_tables(part.select(schema.names).cast(schema) for part in parts)
    written = []
    for each, shard in enumerate(shards):
        about = reduced.filter(reduced["shard"].to_numpy() == number(each))
        about = about.take(np.argsort(about["position"].to_numpy(), kind="stable"))
        written.append(_beside(stage, shard, stage.scatter(shard.select(list(stage.scatters)), about)))
    return written


def _beside(stage: CorpusStage | Stage, shard: pa.Table, columns: pa.Table) -> pa.Table:
    """A shard with the columns that a stage wrote, checked."""
    assert columns.schema.names == stage.writes.names
    assert columns.num_rows == shard.num_rows
    columns = columns.cast(stage.writes)
    for name in columns.column_names:
        shard = shard.append_column(name, columns[name])
    return shard
