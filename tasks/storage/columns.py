"""Column files: how a table is written, read and compared.

Equality is of Arrow values, not of file bytes: `value_digest` does not depend on how a column is chunked, sliced or
encoded. Each file's footer carries its manifest entry, so a manifest can be rebuilt from the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.storage.store import DamagedError, Store

ROW_GROUP = 8192
"""Rows of a Parquet row group."""
FOOTER = b"sluice"
_WHOLE = 4 * 2**20
"""Bytes up to which a file of an object store is fetched whole: its parts would cost more requests than bytes."""
_AHEAD = 2**18
"""Bytes fetched beyond each part of a larger one."""


def value_digest(column: pa.ChunkedArray | pa.Array) -> str:
    """128 bits of BLAKE2b over the values, nulls and type, hexadecimal; about 1 GB/s. What a file format calls the
    child of a list, and whether it could be null, is no part of it."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    state = hashlib.blake2b(f"{_canonical(column.type)}:{len(column)}:".encode(), digest_size=16)
    _feed(state, chunks, column.type)
    return state.hexdigest()


def _canonical(kind: pa.DataType) -> pa.DataType:
    """A type whose lists name their child as Arrow does in memory; Parquet calls it `element`."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_canonical(kind.value_type), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_canonical(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_canonical(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_canonical(field.type)) for field in kind])
    return kind


def has_nan(column: pa.ChunkedArray) -> bool:
    """Whether a value is NaN, at any depth of lists and structs."""
    kind = column.type
    if pa.types.is_floating(kind):
        return bool(pc.any(pc.is_nan(column)).as_py())
    if pa.types.is_struct(kind):
        return any(map(has_nan, column.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return has_nan(pc.list_flatten(column))
    return False


def _feed(state: Any, chunks: Sequence[pa.Array], kind: pa.DataType) -> None:
    if any(chunk.null_count for chunk in chunks):
        for chunk in chunks:
            state.update(pc.is_valid(chunk).to_numpy(zero_copy_only=False).view(np.uint8))
    state.update(b"|")
    if pa.types.is_struct(kind):
        for index, field in enumerate(kind):
            _feed(state, [chunk.flatten()[index] for chunk in chunks], field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        for chunk in chunks:
            lengths = pc.fill_null(pc.list_value_length(chunk), 0)
            state.update(lengths.cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        _feed(state, [chunk.flatten() for chunk in chunks], kind.value_type)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        filled = [pc.fill_null(chunk, "" if pa.types.is_string(kind) else b"") for chunk in chunks]
        for chunk in filled:
            state.update(pc.binary_length(chunk).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        for chunk in filled:
            state.update(_text_bytes(chunk))
    elif pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        for chunk in chunks:
            filled_chunk = pc.fill_null(chunk, b"\0" * width)
            start = filled_chunk.offset * width
            state.update(memoryview(filled_chunk.buffers()[1])[start : start + len(chunk) * width])
    elif pa.types.is_boolean(kind):
        for chunk in chunks:
            state.update(pc.fill_null(chunk, False).to_numpy(zero_copy_only=False).view(np.uint8))
    elif pa.types.is_primitive(kind):
        for chunk in chunks:
            state.update(np.ascontiguousarray(pc.fill_null(chunk, 0).to_numpy(zero_copy_only=False)).view(np.uint8))
    else:
        raise TypeError(f"no digest for columns of type {kind}")


def _text_bytes(array: pa.Array) -> memoryview:
    _, offsets, values = array.buffers()
    if values is None or not len(array):
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return memoryview(values)[int(ends[0]) : int(ends[-1])]


def digests(table: pa.Table) -> dict[str, str]:
    """Column -> value digest."""
    return {name: value_digest(table[name]) for name in table.column_names}


def write(store: Store, path: str, table: pa.Table, entry: Mapping[str, Any]) -> int:
    """Commit `table` as Parquet or, where the path ends in .arrow, as one Arrow IPC record batch; `entry` goes into
    the footer. Returns the file's size in bytes."""
    table = table.replace_schema_metadata({FOOTER: orjson.dumps(dict(entry))})
    with store.writer(path, once=True) as file:
        if path.endswith(".arrow"):
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        else:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
        return file.tell()


def write_slices(
    store: Store, path: str, slices: Sequence[pa.Table], schema: pa.Schema, entry: Mapping[str, Any]
) -> int:
    """Commit slices as an Arrow IPC file of one record batch each, so that a reader fetches only its own."""
    schema = schema.with_metadata({FOOTER: orjson.dumps(dict(entry))})
    with store.writer(path, once=True) as file:
        with pa.ipc.new_file(file, schema) as writer:
            for part in slices:
                writer.write_batch(part.combine_chunks().to_batches()[0].cast(schema))
        return file.tell()


def _source(store: Store, path: str) -> Any:
    """A file to read parts of: mapped where it is local; of an object store fetched whole, or part by part."""
    if local := store.local(path):
        return pa.memory_map(str(local))
    file: Any = store.open(path, _AHEAD)
    return pa.BufferReader(file.read()) if file.size <= _WHOLE else pa.PythonFile(file, "r")


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """What Arrow cannot read becomes a DamagedError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def damaged(path: str, why: object) -> DamagedError:
    """What to say of a file that a stage or the plan wrote."""
    folder = path.rpartition("/")[0]
    return DamagedError(f"{path} is missing or damaged; remove {folder}, and the next run makes it again ({why})")


def read_slices(store: Store, path: str, numbers: Sequence[int]) -> list[pa.RecordBatch]:
    """Record batches of an Arrow IPC file by number. Raises DamagedError."""
    with _readable(path), _source(store, path) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(number) for number in numbers]


Part = Callable[[Sequence[str], int, int], pa.Table]
"""Some columns of the rows from one number to another."""


@contextmanager
def opened(store: Store, path: str, expect: str) -> Iterator[Part]:
    """A column file to read parts of, by row groups. Raises DamagedError, also for ids other than `expect`."""
    with ExitStack() as files:
        with _readable(path):
            source = files.enter_context(_source(store, path))
            whole: Any = pa.ipc.open_file(source).read_all() if path.endswith(".arrow") else None
            file: Any = pq.ParquetFile(source, pre_buffer=True) if whole is None else None
        schema = file.schema_arrow if file else whole.schema
        _check(path, schema, expect)
        groups = range(file.metadata.num_row_groups) if file else range(0)
        starts = np.cumsum([0, *(file.metadata.row_group(number).num_rows for number in groups)])

        def part(columns: Sequence[str], begin: int, end: int) -> pa.Table:
            if whole is not None:
                return whole.select(list(columns)).slice(begin, end - begin)
            first, last = starts.searchsorted(begin, "right") - 1, starts.searchsorted(end)
            with _readable(path):
                wanted = file.read_row_groups(list(groups[first:last]), columns=list(columns))
            return wanted.slice(begin - starts[first], end - begin)

        yield part


def read(store: Store, path: str, columns: Sequence[str] = (), expect: str | None = None) -> pa.Table:
    """Some columns of a column file, all by default. Raises DamagedError, also for ids other than `expect`."""
    with _readable(path), _source(store, path) as source:
        if path.endswith(".arrow"):
            table = pa.ipc.open_file(source).read_all()
            table = table.select(list(columns)) if columns else table
        else:
            table = pq.ParquetFile(source, pre_buffer=True).read(columns=list(columns) or None)
    if expect is not None:
        _check(path, table.schema, expect)
    return table.replace_schema_metadata(None)


def _check(path: str, schema: pa.Schema, expect: str) -> None:
    ids = orjson.loads(schema.metadata[FOOTER]).get("ids")
    if ids != expect:
        raise damaged(path, f"it is of the shard with ids {ids}, not {expect}")


def footer(store: Store, path: str) -> dict[str, Any]:
    """The manifest entry in a column file's footer. Raises DamagedError."""
    with _readable(path), _source(store, path) as file:
        schema = pa.ipc.open_file(file).schema if path.endswith(".arrow") else pq.read_schema(file)
    return orjson.loads(schema.metadata[FOOTER])
