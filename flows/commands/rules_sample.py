"""A sample of each source's documents, with the columns of stages that need nothing that is not learned yet.

The documents are of shards that are spread over the source, and spread over these: of the store where it has them, else
of the source, of which some is then read in this process. The stages run in this process, too, and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.engine import job, worker
from tasks.engine.pipeline import Pipeline
from tasks.engine.sql import first_true
from tasks.engine.stage import Stage
from tasks.sources.warc import WarcReader

SPREAD = 8
"""Shards of each source, at most."""
BYTES = 4 * 2**20
"""Bytes of each source, as they lie, that are read of it; a file that cannot be read in part is read whole."""


def sampled(
    pipeline: Pipeline, wanted: Sequence[str], size: int, missing: list[str], left_out: dict[str, Counter[str]]
) -> Iterator[pa.Table]:
    """`size` documents of each source, with the columns `wanted`; those that are not known are null, and added to
    `missing`, and records that reading left out are counted in `left_out`, by source and reason."""
    needed, stages = set(wanted), list[Any]()
    for node in reversed(pipeline.nodes):
        if needed & set(node.writes):
            if isinstance(node.stage, Stage) and node.ready:
                stages.insert(0, (node, worker.prepare(node.stage, pipeline.store)))
                needed |= {node.stage.read_from(role) for role in node.stage.inputs}
            else:
                missing += sorted(needed & set(node.writes))
    types = {field.name: field.type for node in pipeline.nodes if node.writes for field in node.schema}
    for source in pipeline.readers:
        table = _documents(pipeline, source, size, left_out)
        if not table.num_rows:
            continue
        for name in types.keys() & missing:
            labels = getattr(pipeline.spec.stages.get(name), "labels", {})
            known = first_true(labels, table) if labels else pa.nulls(table.num_rows, types[name])
            table = table.append_column(name, known)
        for node, stage in stages:
            inputs = {role: table[stage.read_from(role)] for role in stage.inputs}
            result = worker.computed(stage, pa.table(inputs))
            for name, column in zip(node.writes, result.columns, strict=True):
                table = table.append_column(name, column)
        yield table


def _documents(pipeline: Pipeline, source: str, size: int, left_out: dict[str, Counter[str]]) -> pa.Table:
    """Documents of shards of a source."""
    places = [place for place, shard in enumerate(pipeline.shards) if shard.source == source]
    stored = [place for place in places if pipeline.outputs["documents"].index.done[place]]
    shards = [pipeline.shards[place] for place in places if pipeline.shards[place].parts]
    found = _stored(pipeline, _spread(stored)) if stored else _read(pipeline, source, _spread(shards), left_out)
    tables, left = list[pa.Table](), size
    for more, table in found:
        tables.append(table.take(pa.array(_spread(range(table.num_rows), -(-left // more)), pa.int64())))
        left -= tables[-1].num_rows
    return pa.concat_tables([pipeline.documents_schema.empty_table(), *tables])


def _stored(pipeline: Pipeline, places: list[int]) -> Iterator[tuple[int, pa.Table]]:
    """The documents of shards, as the store has them; with each, of how many shards they are still to come."""
    names = pipeline.documents_schema.names
    files = dict(pipeline.files(names))
    for number, place in enumerate(places):
        rows = int(pipeline.outputs["documents"].index.rows[place])
        ids = pipeline.outputs["documents"].index.digests["id"][place].tobytes().hex()
        table = job.read(pipeline.store, files[place], ids, rows, pipeline.recorded(place, names))
        yield len(places) - number, table.select(names)


def _read(
    pipeline: Pipeline, source: str, shards: list[Any], left_out: dict[str, Counter[str]]
) -> Iterator[tuple[int, pa.Table]]:
    """The same, as the source has them: of files that are read in ranges the beginning of each, of others as many as
    make up `BYTES`."""
    reader = pipeline.readers[source]
    by_range = isinstance(reader, WarcReader)
    beginnings = [_beginning(shard, by_range, BYTES // len(shards) if by_range else BYTES) for shard in shards]
    if not by_range:
        before = np.cumsum([0, *(sum(map(_size, shard.parts)) for shard in beginnings)])
        beginnings = [shard for shard, bytes_before in zip(beginnings, before, strict=False) if bytes_before < BYTES]
    prepared = worker.prepare(reader, pipeline.store)
    for number, shard in enumerate(beginnings):
        read = prepared.read(shard)
        for reasons in (read.ledger["dropped"], read.ledger["quarantined"]):
            if reasons:
                left_out.setdefault(source, Counter()).update(reasons)
        table = read.documents
        for field in pipeline.documents_schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        yield len(beginnings) - number, table.select(pipeline.documents_schema.names)
    if hasattr(prepared, "close"):
        prepared.close()


def _spread(values: Sequence[Any], most: int = SPREAD) -> list[Any]:
    """Some of many, evenly from first to last."""
    chosen = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[place] for place in chosen.tolist()]


def _size(part: Any) -> int:
    return max(0, part.end - part.start)


def _beginning(shard: Any, by_range: bool, most: int) -> Any:
    """The first `most` bytes of a shard, in whole files where a part of one cannot be read alone."""
    parts, size = [], 0
    for part in shard.parts:
        if size >= most:
            break
        parts.append(replace(part, end=min(part.end, part.start + most)) if by_range else part)
        size += _size(parts[-1])
    return replace(shard, parts=tuple(parts))
