"""The formats of an export: what writes the rows of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tasks.engine.runner import StageError
from tasks.storage.columns import has_infinity

Form = Literal["parquet", "jsonl"]
ENDS = {"parquet": ".parquet", "jsonl": ".jsonl.zst"}
"""How the names of files end, by format."""
_UNIQUE = ("id", "text", "url")
"""Columns of values that do not come again: a dictionary of them would be made for nothing."""

_INSTEAD = "take --format parquet, or leave the column out of --columns, or such documents by --where"
"""What to do where JSON has no such value: it would be null without a word."""


@contextmanager
def _parquet(file: Any, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    repeated = [name for name in schema.names if name not in _UNIQUE]
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeated) as writer:
        yield lambda table: writer.write_table(table, row_group_size=max(1, table.num_rows))


@contextmanager
def _lines(file: Any, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as writer:

        def write(table: pa.Table) -> None:
            if found := [name for name in table.column_names if has_infinity(table[name])]:
                raise StageError(f"export: JSON has no infinity, as is in {', '.join(found)}; {_INSTEAD}")
            for part in range(0, table.num_rows, 1024):
                rows = table.slice(part, 1024).to_pylist()
                writer.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))

        yield write


WRITERS: dict[str, Callable[[Any, pa.Schema], Any]] = {"parquet": _parquet, "jsonl": _lines}
"""What opens a file of a format to write tables of a schema to."""
