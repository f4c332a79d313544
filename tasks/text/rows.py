"""Rows of files that are no sources: items of evaluation sets, labels."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_specs.document import SpecError


def rows_of(path: str, numbered: bool) -> Iterator[Any]:
    """The rows of a Parquet, CSV or JSONL file, the last two plain or in gzip; of a CSV file without a line of names
    where fields are `numbered`."""
    if path.lower().endswith(".parquet"):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise SpecError(f"{path} cannot be read as Parquet: {error}") from None
        return
    is_csv = ".csv" in Path(path).name.lower()
    try:
        body = Path(path).read_bytes()
        text = (gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body).decode("utf-8-sig")
        if is_csv:
            lines = io.StringIO(text, newline="")
            yield from csv.reader(lines) if numbered else csv.DictReader(lines)
        else:
            yield from map(orjson.loads, filter(str.strip, text.split("\n")))
    except (UnicodeDecodeError, orjson.JSONDecodeError, csv.Error, OSError, EOFError) as error:
        raise SpecError(f"{path} cannot be read as {'CSV' if is_csv else 'a JSON object a line'}: {error}") from None
