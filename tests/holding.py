"""Which files of a store hold a text or numbers: every file is unpacked and decoded, whatever wrote it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard


def holding(store: Path, needles: Sequence[str], skip: tuple[str, ...] = ()) -> set[str]:
    """Files of a store in which some text stands, but for those whose path begins with one of `skip`."""
    wanted = [needle.encode() for needle in needles]
    return {
        name
        for name, path in _files(store)
        if not name.startswith(skip) and any(w in part for part in _unpacked(path) for w in wanted)
    }


def holding_numbers(store: Path, numbers: np.ndarray) -> set[str]:
    """Files of columns in which these numbers stand one after another; of 64-bit integers, most of them anywhere; of
    floats, a vector of their direction."""
    return {name for name, path in _files(store) if any(_holds(column, numbers) for column in _columns(path))}


def _holds(column: np.ndarray, numbers: np.ndarray) -> bool:
    if np.issubdtype(column.dtype, np.floating) != np.issubdtype(numbers.dtype, np.floating):
        return False
    if numbers.dtype == np.uint64:
        return bool(np.isin(numbers, column.astype(np.uint64)).mean() > 0.5)
    if np.issubdtype(numbers.dtype, np.integer):
        return numbers.astype(np.uint64).tobytes() in column.astype(np.uint64).tobytes()
    if len(column) % len(numbers):
        return False
    rows = column.reshape(-1, len(numbers))
    return bool((np.abs(_unit(rows) - _unit(numbers[None])) < 1e-6).all(axis=1).any())


def _unit(rows: np.ndarray) -> np.ndarray:
    """Vectors of length one."""
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _files(store: Path) -> Iterator[tuple[str, Path]]:
    for path in filter(Path.is_file, store.rglob("*")):
        yield path.relative_to(store).as_posix(), path


def _unpacked(path: Path) -> Iterator[bytes]:
    """A file's bytes as they stand, decompressed, and its columns as JSON."""
    data = path.read_bytes()
    yield data
    if data.startswith(b"\x1f\x8b"):
        yield zlib.decompress(data, 31)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        yield zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    for table in _tables(path):
        yield str(table.schema.metadata).encode()
        for column in table.columns:
            yield json.dumps(column.to_pylist(), default=str, ensure_ascii=False).encode()


def _tables(path: Path) -> Iterator[pa.Table]:
    """What a file holds of columns."""
    if path.suffix == ".parquet":
        yield pq.ParquetFile(path).read()
    elif path.suffix == ".arrow":
        yield pa.ipc.open_file(path).read_all()


def _columns(path: Path) -> Iterator[np.ndarray]:
    """Numbers of a file's columns, those in lists one after another."""
    for table in _tables(path):
        for column in table.columns:
            array = column.combine_chunks()
            while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
                array = array.flatten()
            if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
                yield array.drop_null().to_numpy()
