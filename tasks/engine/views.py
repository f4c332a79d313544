"""Views of the columns, as DuckDB scans them: one per stage with the documents' ids, `corpus` with every column, and
`refused`, the records that reading made no document of.

A view joins the column files of each shard by position. A scan goes through shards in order of sources, ROW_GROUP rows
at a time, and reads only the columns asked for; those that its condition does not name are read only where a row meets
it. So it holds no more than such a part in memory, and one that is stopped reads no further.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import dataset

from tasks.engine.corpus import Corpus
from tasks.engine.job import shard_uid
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import REFUSED, refused_path
from tasks.engine.runner import StageError
from tasks.engine.snapshot import Snapshot
from tasks.storage import columns
from tasks.storage.columns import ROW_GROUP, Part, Recorded
from tasks.storage.store import DamagedError

BASE = ("id", "source", "url", "text", "kept", "reason")
"""Columns that `corpus` begins with."""
ADDRESS = pa.schema([("shard", pa.uint64()), ("position", pa.uint32())])
"""What `copy_of`, `alike` and `duplicate_of` name a document by."""
AGAIN = "`sluice run SPEC --from documents --replace` makes it again"
"""What to do about a damaged file of refused records, which no stage reads."""
_ROW = ""
"""A column that no stage writes: numbers of the rows that a condition leaves."""


def views(pipeline: Pipeline | Snapshot) -> dict[str, View]:
    """View by name: one per stage that is computed, which has the documents it computed, `corpus`, which has all of
    them, with null where a stage has not computed its columns, and `refused`. Raises StageError where nothing is
    computed."""
    index = pipeline.outputs["documents"].index
    documents = index.done
    if not documents.any():
        raise StageError(f"the store {pipeline.store.url} holds no documents of this spec yet: `sluice run` reads them")
    kinds = {field.name: field for field in pipeline.documents_schema} | {"id": pa.field("id", pa.string())}
    kinds |= {field.name: field for field in ADDRESS}
    stages = {"documents": (tuple(kinds), documents)}
    for node in pipeline.nodes:
        if node.writes and pipeline.outputs[node.name].index.done.any():
            kinds |= {field.name: field for field in node.schema}
            stages[node.name] = (("id", *node.writes), pipeline.outputs[node.name].index.done)
    every = dict.fromkeys(name for name in (*BASE, *kinds) if name in kinds)
    found = {
        name: View(pipeline, pa.schema([kinds[column] for column in names]), np.flatnonzero(done & documents).tolist())
        for name, (names, done) in (stages | {"corpus": (tuple(every), documents)}).items()
    }
    return found | {"refused": Refused(pipeline, REFUSED, sorted(index.refused))}


class View(dataset.Dataset):
    """One view. DuckDB takes it for a dataset of pyarrow, of which it uses `schema` and `scanner` alone."""

    def __init__(self, pipeline: Corpus, schema: pa.Schema, places: Sequence[int]) -> None:
        self.pipeline, self.columns, self.places = pipeline, schema, places
        self.error: BaseException | None = None
        """What a scan raised: DuckDB makes a text of it."""

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types; ids are text, as people write them."""
        return self.columns

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> SimpleNamespace:  # noqa: A002
        """A scan of some columns, all by default, of the rows for which the expression `filter` is true."""
        schema = self.columns if columns is None else pa.schema([self.columns.field(name) for name in columns])

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for _, table in self.scan(schema.names, filter):
                    yield from table.to_batches()
            except (Exception, KeyboardInterrupt) as error:
                self.error = error
                raise

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        return SimpleNamespace(projected_schema=schema, to_reader=lambda: reader)

    def scan(self, names: Sequence[str], condition: Any = None) -> Iterator[tuple[int, pa.Table]]:
        """(shard's place, the next of its rows) with columns `names`. Raises StoreError for a file that is gone,
        damaged or another shard's."""
        asked = self._named(condition)
        others = [name for name in names if name not in asked]
        schema = pa.schema([self.columns.field(name) for name in names])
        for place in self.places:
            with Shard(self.pipeline, self.columns, place) as shard:
                for begin in range(0, shard.rows, ROW_GROUP):
                    # Of rows with the languages en, zh, en, zh, and the condition `language = 'zh'`: `table` becomes
                    # the rows 1 and 3, `chosen` [1, 3]; only of parts with such rows the other columns are read.
                    table = shard.read(asked, begin)
                    chosen = None
                    if condition is not None:
                        table = table.append_column(_ROW, pa.array(np.arange(table.num_rows))).filter(condition)
                        chosen = table[_ROW]
                        if not len(chosen):
                            continue
                    rest = shard.read(others, begin)
                    if chosen is not None and len(chosen) < rest.num_rows:
                        rest = rest.take(chosen)
                    found = {name: table[name] if name in asked else rest[name] for name in names}
                    yield place, pa.table(found, schema)

    def _named(self, condition: Any) -> list[str]:
        """Columns that a condition names. Arrow's expressions tell them in print alone: `(language == "zh")`. A
        constant that is called as a column is taken for it, too; that column is then read for all rows, which costs
        time and changes nothing."""
        printed = "" if condition is None else str(condition)
        return [name for name in self.columns.names if re.search(rf"\b{re.escape(name)}\b", printed)]


class Refused(View):
    """The view of refused records: rows of their own, in a file beside the documents of each shard that has some."""

    def scan(self, names: Sequence[str], condition: Any = None) -> Iterator[tuple[int, pa.Table]]:
        output = self.pipeline.outputs["documents"]
        wanted = list(dict.fromkeys([*names, *self._named(condition)]))
        for place in self.places:
            path, (rows, checksum) = refused_path(output.path(place)), output.index.refused[place]
            recorded = Recorded(output.index.digests["id"][place].tobytes().hex(), checksum)
            try:
                with columns.opened(self.pipeline.store, path, recorded, may_lack=True) as part:
                    for begin in range(0, rows, ROW_GROUP):
                        table = _whole(part(wanted, begin, min(begin + ROW_GROUP, rows)), wanted)
                        chosen = table if condition is None else table.filter(condition)
                        yield place, chosen.select(list(names)).replace_schema_metadata(None)
            except DamagedError as error:
                raise DamagedError(f"{path} is missing or damaged; {AGAIN}", path) from error


def _whole(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Columns of refused records, null where an earlier version did not write them."""
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, REFUSED.field(name).type))
    return table


class Shard:
    """The column files of one shard, each opened when it is first read."""

    def __init__(self, pipeline: Corpus, schema: pa.Schema, place: int) -> None:
        documents = pipeline.outputs["documents"].index
        self.pipeline, self.schema, self.place = pipeline, schema, place
        self.rows = int(documents.rows[place])
        self.ids = documents.digests["id"][place].tobytes().hex()
        self.files = ExitStack()
        self.parts: dict[str, Part] = {}

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def read(self, names: Sequence[str], begin: int) -> pa.Table:
        """Columns of ROW_GROUP rows or what is left, joined by position; null where they are not computed."""
        end = min(begin + ROW_GROUP, self.rows)
        providers: dict[str, list[str]] = {}
        for name in names:
            if name not in ADDRESS.names:
                providers.setdefault(self.pipeline.provider[name], []).append(name)
        found: dict[str, Any] = {
            "shard": pa.array(np.full(end - begin, shard_uid(self.ids), np.uint64)),
            "position": pa.array(np.arange(begin, end, dtype=np.uint32)),
        }
        for provider, wanted in providers.items():
            if self.pipeline.outputs[provider].index.done[self.place]:
                role = self.pipeline.role
                lacking = [name for name in wanted if self.pipeline.lacks(name, self.place)]
                found |= {name: pa.nulls(end - begin, self.schema.field(name).type) for name in lacking}
                wanted = [name for name in wanted if name not in lacking]
                table = self._part(provider, [role[name] for name in wanted], begin, end)
                found |= {name: table[role[name]] for name in wanted}
            else:
                found |= {name: pa.nulls(end - begin, self.schema.field(name).type) for name in wanted}
        if "id" in found:
            found["id"] = hexadecimal(found["id"].combine_chunks())
        return pa.table({name: found[name] for name in names})

    def _part(self, provider: str, names: Sequence[str], begin: int, end: int) -> pa.Table:
        path = self.pipeline.outputs[provider].path(self.place)
        if provider not in self.parts:
            index = self.pipeline.outputs[provider].index
            recorded = index.recorded(self.place, self.ids, index.digests)
            self.parts[provider] = self.files.enter_context(columns.opened(self.pipeline.store, path, recorded))
        table = self.parts[provider](names, begin, end)
        if table.num_rows != end - begin:
            raise columns.damaged(path, f"it has no rows {begin} to {end}")
        return table


def hexadecimal(ids: pa.Array) -> pa.Array:
    """Ids as text. 30 ns an id."""
    width = ids.type.byte_width
    start = ids.offset * width
    digits = binascii.hexlify(memoryview(ids.buffers()[1])[start : start + len(ids) * width])
    ends = np.arange(len(ids) + 1, dtype=np.int32) * (2 * width)
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(digits))
