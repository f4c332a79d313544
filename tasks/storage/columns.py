"""Column files: how a table is written, read and compared.

Equality is of Arrow values, not of file bytes: `value_digest` does not depend on how a column is chunked, sliced or
encoded. Each file's footer carries its manifest entry, so a manifest can be rebuilt from the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_specs.amounts import plural
from tasks.storage.checksums import Summed, checksum, of_file
from tasks.storage.store import DamagedError, Store, StoreError

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
    return _any_number(column, pc.is_nan)


def has_infinity(column: pa.ChunkedArray) -> bool:
    """Whether a value is infinite, at any depth of lists and structs."""
    return _any_number(column, pc.is_inf)


def _any_number(column: pa.ChunkedArray, asked: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> bool:
    kind = column.type
    if pa.types.is_floating(kind):
        return bool(pc.any(asked(column)).as_py())
    if pa.types.is_struct(kind):
        return any(_any_number(each, asked) for each in column.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _any_number(pc.list_flatten(column), asked)
    return False


def _feed(state: Any, chunks: Sequence[pa.Array], kind: pa.DataType) -> None:
    """Hash values, however they are cut into chunks: which are null, where some are; a bar; then all of them, nulls as
    zeros. Of texts and lists first all lengths, then all that is in them: of "ab" and "c" 2, 1 and abc. Of structs a
    field after the other."""
    if any(chunk.null_count for chunk in chunks):
        for chunk in chunks:
            state.update(pc.is_valid(chunk).to_numpy(zero_copy_only=False).view(np.uint8))
    state.update(b"|")
    if pa.types.is_struct(kind):
        for index, field in enumerate(kind):
            _feed(state, [chunk.flatten()[index] for chunk in chunks], field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        for chunk in chunks:
            lengths = _filled(pc.list_value_length(chunk), 0)
            state.update(lengths.cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        _feed(state, [chunk.flatten() for chunk in chunks], kind.value_type)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        filled = [_filled(chunk, "" if pa.types.is_string(kind) else b"") for chunk in chunks]
        for chunk in filled:
            state.update(pc.binary_length(chunk).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        for chunk in filled:
            state.update(_text_bytes(chunk))
    elif pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        for chunk in chunks:
            filled_chunk = _filled(chunk, b"\0" * width)
            start = filled_chunk.offset * width
            state.update(memoryview(filled_chunk.buffers()[1])[start : start + len(chunk) * width])
    elif pa.types.is_boolean(kind):
        for chunk in chunks:
            state.update(_filled(chunk, False).to_numpy(zero_copy_only=False).view(np.uint8))
    elif pa.types.is_primitive(kind):
        for chunk in chunks:
            state.update(np.ascontiguousarray(_filled(chunk, 0).to_numpy(zero_copy_only=False)).view(np.uint8))
    else:
        raise TypeError(f"no digest for columns of type {kind}")


def _filled(array: pa.Array, value: Any) -> pa.Array:
    """An array with a value in the place of nulls; itself where it has values and no null, as most, which takes no
    call. An empty one may lack its buffer otherwise."""
    return array if len(array) and not array.null_count else pc.fill_null(array, value)


def _text_bytes(array: pa.Array) -> memoryview:
    _, offsets, values = array.buffers()
    if values is None or not len(array):
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return memoryview(values)[int(ends[0]) : int(ends[-1])]


def digests(table: pa.Table) -> dict[str, str]:
    """Column -> value digest."""
    return {name: value_digest(table[name]) for name in table.column_names}


def write(store: Store, path: str, table: pa.Table, entry: Mapping[str, Any], once: bool = True) -> dict[str, Any]:
    """Commit `table` as Parquet or, where the path ends in .arrow, as one Arrow IPC record batch; `entry` goes into
    the footer. Returns what its manifest says of the file beside that: `bytes` and `checksum`. Unless `once`, it also
    takes the place of a file that has the same values."""
    table = table.replace_schema_metadata({FOOTER: orjson.dumps(dict(entry))})

    def fill(file: Summed) -> None:
        if path.endswith(".arrow"):
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks())
        else:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)

    return _commit(store, path, fill, entry, once)


def write_slices(
    store: Store, path: str, slices: Sequence[pa.Table], schema: pa.Schema, entry: Mapping[str, Any]
) -> dict[str, Any]:
    """Commit slices as an Arrow IPC file of one record batch each, so that a reader fetches only its own. Returns what
    `write` does."""
    schema = schema.with_metadata({FOOTER: orjson.dumps(dict(entry))})

    def fill(file: Summed) -> None:
        with pa.ipc.new_file(file, schema) as writer:
            for part in slices:
                writer.write_batch(part.combine_chunks().to_batches()[0].cast(schema))

    return _commit(store, path, fill, entry, once=True)


def _commit(
    store: Store, path: str, fill: Callable[[Summed], None], entry: Mapping[str, Any], once: bool
) -> dict[str, Any]:
    """Commit a file, and say what its manifest says of it. Of one that is there already, where another process wrote it
    first: two that have the same values still tell of different runs, and whichever entry of a manifest comes last has
    to be that of the file. Of a folder one that is damaged, or has other values, makes room."""
    with store.writer(path, once and "columns" in entry) as raw:
        file = Summed(raw)
        fill(file)
    if not getattr(raw, "kept", False):
        return {"bytes": file.size, "checksum": file.checksum}
    try:
        found = recovered(store, path)
        if any(found.get(kind) != entry.get(kind) for kind in ("ids", "columns", "slices")):
            raise damaged(path, "it is there with other values, which another process wrote")
    except DamagedError:
        if store.local(path) is None:
            raise
        return _commit(store, path, fill, entry, once=False)
    return found


@dataclass(frozen=True)
class Recorded:
    """What manifests say of a column file, against which it is held when it is read."""

    ids: str | None = None
    """The digest of its shard's ids."""
    checksum: str = ""
    """Of the file; "" where an earlier version wrote it."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Value digests of its columns; what is read of a file without a checksum is held against them, and so is what is
    read of a large file of an object store, which is not fetched whole."""


NOTHING = Recorded()
"""What is known of a file that no manifest names."""


def _source(store: Store, path: str) -> Any:
    """A file to read parts of: mapped where it is local; of an object store fetched whole, or part by part."""
    if local := store.local(path):
        return pa.memory_map(str(local))
    file: Any = store.open(path, _AHEAD)
    return pa.BufferReader(file.read()) if file.size <= _WHOLE else pa.PythonFile(file, "r")


def _known(store: Store, path: str, source: Any, recorded: Recorded) -> bool:
    """Whether a file is known to be what was recorded before it is read; what earlier versions wrote, and what is
    fetched part by part, is not. Raises DamagedError where it is something else."""
    if not recorded.checksum or isinstance(source, pa.PythonFile):
        return False
    local = store.local(path)
    found = of_file(local) if local else checksum(source.read_buffer())
    source.seek(0)
    if found != recorded.checksum:
        raise damaged(path, f"its checksum is {found}, recorded was {recorded.checksum}")
    return True


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """What Arrow cannot read becomes a DamagedError; a failure of the storage stays one."""
    try:
        yield
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    except OSError as error:
        if error.errno is None:  # Arrow's word for what it cannot decode
            raise damaged(path, error) from error
        raise StoreError(f"{path} cannot be read: {error}; run again to go on from here") from error
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise damaged(path, error) from error


def damaged(path: str, why: object) -> DamagedError:
    """What to say of a file that a stage or the plan wrote. A run repairs what it reads; where all is cached, it reads
    nothing."""
    top, _, rest = path.partition("/")
    stage = rest.partition("@")[0] if top == "columns" else top
    remedy = "a run that reads it makes it again"
    if top in ("documents", "columns", "tokens"):
        remedy += f", `sluice invalidate SPEC {stage}` and then `sluice run` at once"
    return DamagedError(f"{path} is missing or damaged ({why}); {remedy}", path)


def read_slices(store: Store, path: str, wanted: Mapping[int, str]) -> Iterator[pa.RecordBatch]:
    """Record batches of an Arrow IPC file one by one, by number and recorded digest ("" where there is none). Raises
    DamagedError."""
    with _readable(path), _source(store, path) as source:
        reader = pa.ipc.open_file(source)
        for number, digest in wanted.items():
            batch = reader.get_batch(number).replace_schema_metadata(None)
            _hold_slice(path, batch, number, digest)
            yield batch


def _hold_slice(path: str, batch: pa.RecordBatch, number: int, digest: str) -> None:
    """Raise DamagedError where a slice has other values than were recorded."""
    batch.validate(full=True)
    if digest and slice_digest(pa.Table.from_batches([batch])) != digest:
        raise damaged(path, f"slice {number} has other values than were recorded")


def slice_digest(part: pa.Table) -> str:
    """64 bits over the value digests of a slice's columns, hexadecimal."""
    joined = "".join(f"{name}{digest}" for name, digest in digests(part).items())
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()


Part = Callable[[Sequence[str], int, int], pa.Table]
"""Some columns of the rows from one number to another."""


@contextmanager
def opened(store: Store, path: str, recorded: Recorded, may_lack: bool = False) -> Iterator[Part]:
    """A column file to read parts of, by row groups. Raises DamagedError where it is not what was recorded: known of
    a file of a folder or a small one before it is used, of a large one of an object store by its pages' checksums, and
    of one that has none, or that an earlier version wrote, by whole columns; and where it lacks a column that is asked
    for, unless it `may_lack` some, which are left out."""
    with ExitStack() as files:
        with _readable(path):
            source = files.enter_context(_source(store, path))
            known = _known(store, path, source, recorded)
            whole: Any = _table(source) if path.endswith(".arrow") else None
            file: Any = None
            if whole is None:
                file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=not known)
            schema = file.schema_arrow if file else whole.schema
            _check(path, schema, recorded)
            groups = range(file.metadata.num_row_groups) if file else range(0)
            starts = np.cumsum([0, *(file.metadata.row_group(number).num_rows for number in groups)])
            if file and starts[-1] != file.metadata.num_rows:
                raise ValueError(f"its row groups have {plural(starts[-1], 'row')}, it has {file.metadata.num_rows}")
        held = known or (recorded.checksum and file is not None)  # by pages, which Arrow's files have none of
        unread = {} if held else dict(recorded.digests)

        def part(columns: Sequence[str], begin: int, end: int) -> pa.Table:
            first, last = starts.searchsorted(begin, "right") - 1, starts.searchsorted(end)
            columns = [name for name in columns if name in schema.names or not may_lack]
            with _readable(path):
                for name in unread.keys() & columns:
                    _hold(path, whole.select([name]) if file is None else file.read([name]), {name: unread.pop(name)})
                if file is None:
                    return whole.select(columns).slice(begin, end - begin)
                read = file.read_row_groups(list(groups[first:last]), columns=columns)
                wanted = read.select(columns)
            return wanted.slice(begin - starts[first], end - begin)

        yield part


def read(store: Store, path: str, columns: Sequence[str] = (), recorded: Recorded = NOTHING) -> pa.Table:
    """Some columns of a column file, all by default. Raises DamagedError where it is not what was recorded."""
    with _readable(path), _source(store, path) as source:
        known = _known(store, path, source, recorded)
        if path.endswith(".arrow"):
            table = _table(source)
            table = table.select(list(columns)) if columns else table
        else:
            table = pq.ParquetFile(source, pre_buffer=True).read(columns=list(columns) or None)
        _check(path, table.schema, recorded)
        if not known:
            _hold(path, table, recorded.digests)
    return table.replace_schema_metadata(None)


def _table(source: Any) -> pa.Table:
    """All of an Arrow IPC file, whose buffers hold what its metadata says."""
    table = pa.ipc.open_file(source).read_all()
    table.validate()
    return table


def _hold(path: str, table: pa.Table, digests: Mapping[str, str]) -> None:
    """Raise DamagedError where columns have other values than were recorded."""
    table.validate(full=True)
    for name in table.column_names:
        if name in digests and value_digest(table[name]) != digests[name]:
            raise damaged(path, f"column {name} has other values than were recorded")


def _check(path: str, schema: pa.Schema, recorded: Recorded) -> None:
    if recorded.ids is not None and (ids := _entry(schema).get("ids")) != recorded.ids:
        raise damaged(path, f"it is of the shard with ids {ids}, not {recorded.ids}")


def _entry(schema: pa.Schema) -> dict[str, Any]:
    return orjson.loads((schema.metadata or {})[FOOTER])


def recovered(store: Store, path: str) -> dict[str, Any]:
    """The manifest entry of a file that none is known of, from its footer, once its values were held against that.
    Raises DamagedError."""
    with _readable(path):
        data = store.read(path)
        source = pa.BufferReader(data)
        if path.endswith(".parquet"):
            table = pq.ParquetFile(source, page_checksum_verification=True).read()
            entry = _entry(table.schema)
        else:
            reader = pa.ipc.open_file(source)
            entry = _entry(reader.schema)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            table = pa.Table.from_batches(batches, reader.schema)
        table.validate(full=True)
        if entry["rows"] != table.num_rows:
            raise damaged(path, f"it has {plural(table.num_rows, 'row')}, not {entry['rows']}")
        if "slices" in entry:
            plain = (pa.Table.from_batches([batch.replace_schema_metadata(None)]) for batch in batches)
            if [*map(slice_digest, plain)] != [*entry["slices"].values()]:
                raise damaged(path, "its slices have other values than its footer says")
        elif digests(table) != entry["columns"]:
            raise damaged(path, "its columns have other values than its footer says")
    return entry | {"bytes": len(data), "checksum": checksum(data)}
