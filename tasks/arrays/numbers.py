"""Columns of numbers of any kind as float64."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa

Values = TypeVar("Values", pa.Array, pa.ChunkedArray)


def as_float(values: Values) -> Values:
    """float64; of a whole number beyond 2^53, which not all are, the nearest."""
    found: Values = values.cast(pa.float64(), safe=False)
    return found
