"""Rows of files that are no sources: items of evaluation sets, labels."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_specs.amounts import plural
from data_specs.document import SpecError


def is_csv(path: str) -> bool:
    """Whether a file is read as CSV."""
    return ".csv" in Path(path).name.lower()


def is_parquet(path: str) -> bool:
    """Whether a file is read as Parquet."""
    return path.lower().endswith(".parquet")


def rows_of(path: str, numbered: bool) -> Iterator[Any]:
    """The rows of a Parquet, CSV or JSONL file, the last two plain or in gzip; of a CSV file without a line of names
    where fields are `numbered`. Raises SpecError where it cannot be read, or a row of CSV has more or fewer fields than
    the first: a comma or a quotation mark of a text then stands where one of the table's would."""
    if is_parquet(path):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise SpecError(f"{path} cannot be read as Parquet: {error}") from None
        return
    try:
        body = Path(path).read_bytes()
        text = (gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body).decode("utf-8-sig")
        if is_csv(path):
            yield from _csv(path, text, numbered)
        else:
            yield from map(orjson.loads, filter(str.strip, text.split("\n")))
    except (UnicodeDecodeError, orjson.JSONDecodeError, csv.Error, zlib.error, OSError, EOFError) as error:
        raise SpecError(
            f"{path} cannot be read as {'CSV' if is_csv(path) else 'a JSON object a line'}: {error}"
        ) from None


def text_of(value: Any, path: str, row: int) -> str:
    """A value of a row as text: bytes, which Parquet files have that do not say that they are text, by UTF-8. Raises
    SpecError where they are none."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: row {row:,} has bytes where a text is asked for, and no UTF-8: {error}") from None


def _csv(path: str, text: str, numbered: bool) -> Iterator[Any]:
    rows = filter(None, csv.reader(io.StringIO(text, newline=""), strict=True))
    first = next(rows, [])
    if twice := [name for name, count in Counter(first).items() if count > 1 and not numbered]:
        raise SpecError(f"{path} has two columns of the name {twice[0]}")
    for number, row in enumerate(chain([first] if numbered and first else [], rows)):
        if len(row) != len(first):
            raise SpecError(
                f"{path}: row {number:,} has {plural(len(row), 'field')}, the first line {len(first)}: "
                f"{', '.join(row)[:80]}"
            )
        yield row if numbered else dict(zip(first, row, strict=True))
