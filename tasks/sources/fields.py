"""Values of records that lie within others: `metadata.url` is what stands at `url` in what stands at `metadata`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

_MISSING = object()


def value(row: Mapping[str, Any], path: str) -> Any:
    """What stands at a path, or at a key that is written so, dots and all; None where nothing does."""
    found = row.get(path, _MISSING)
    if found is not _MISSING:
        return found
    here: Any = row
    for key in path.split("."):
        if not isinstance(here, Mapping):
            return None
        here = here.get(key)
    return here


def tops(paths: Collection[str], names: Collection[str]) -> list[str]:
    """The columns of a table that some paths begin with, of those that there are."""
    there = [path if path in names else path.partition(".")[0] for path in paths]
    return [name for name in dict.fromkeys(there) if name in names]


def schema(paths: Mapping[str, pa.DataType]) -> pa.Schema:
    """Fields, within each other, for a parser that is told what to look for."""
    return pa.schema(_struct(paths))


def _struct(paths: Mapping[str, pa.DataType]) -> pa.StructType:
    below: dict[str, dict[str, pa.DataType]] = {}
    found: dict[str, pa.DataType] = {}
    for path, kind in sorted(paths.items()):
        key, dot, rest = path.partition(".")
        if dot:
            below.setdefault(key, {})[rest] = kind
        else:
            found[key] = kind
    return pa.struct(sorted((found | {key: _struct(rest) for key, rest in below.items()}).items()))
