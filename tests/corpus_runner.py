"""Corpus stages run in memory, checking what they return against what they declare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tasks.stage import CorpusStage

ABOUT = [("shard", pa.uint64()), ("position", pa.uint32())]


def number(shard: int) -> int:
    """A 64-bit number of the n-th shard, neither small nor in order."""
    return (2**63 + (shard + 1) * 0x9E3779B97F4A7C15) % 2**64


def run(stage: CorpusStage, shards: Sequence[pa.Table]) -> list[pa.Table]:
    """Shards with at least the columns the stage reads -> each with the columns it writes beside its own."""
    stage.setup()
    mapped = []
    for each, shard in enumerate(shards):
        rows = stage.map(shard.select(list(stage.reads)))
        rows = rows.select([*stage.shuffled.names, "partition"]).cast(
            pa.schema([*stage.shuffled, ("partition", pa.int32())])
        )
        mapped.append(rows.append_column("shard", pa.array(np.full(rows.num_rows, number(each), np.uint64))))
    rows = pa.concat_tables(mapped).sort_by("shard")
    partitions = rows["partition"].to_numpy()
    assert ((partitions >= 0) & (partitions < stage.partitions)).all()
    schema = pa.schema([*stage.reduced, *ABOUT])
    parts = [
        stage.reduce(rows.filter(partitions == partition).drop_columns(["partition"]))
        for partition in range(stage.partitions)
    ]
    reduced = pa.concat_tables(part.select(schema.names).cast(schema) for part in parts)
    written = []
    for each, shard in enumerate(shards):
        about = reduced.filter(reduced["shard"].to_numpy() == number(each))
        about = about.take(np.argsort(about["position"].to_numpy(), kind="stable"))
        columns = stage.scatter(shard.select(list(stage.scatters)), about)
        assert columns.schema.names == stage.writes.names
        assert columns.num_rows == shard.num_rows
        columns = columns.cast(stage.writes)
        for name in columns.column_names:
            shard = shard.append_column(name, columns[name])
        written.append(shard)
    return written
