"""What a stage is given, where a gate leaves rows out, and what it must return."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.amounts import plural
from tasks.storage import columns


class ContractError(TypeError):
    """A stage returned something else than it declared."""


class OwnStageError(RuntimeError):
    """A stage of one's own failed: `file:line: Type: what it said`."""


class BugError(OwnStageError):
    """It failed as a wrong program does, which fails as often as it is tried."""


def gated(where: str | None, table: pa.Table) -> np.ndarray | None:
    """Positions of the rows for which the gate is true; None without a gate."""
    if where is None:
        return None
    from tasks.engine.sql import evaluate  # DuckDB, which few stages need

    mask = evaluate({"gate": where}, table)["gate"]
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())


def checked(result: pa.Table, schema: pa.Schema, rows: int, who: str) -> pa.Table:
    if not isinstance(result, pa.Table):
        raise ContractError(f"{who} returned {type(result).__name__}, not a table")
    if result.num_rows != rows:
        raise ContractError(f"{who} returned {plural(result.num_rows, 'row')} for {rows}")
    if result.schema.names != schema.names:
        raise ContractError(f"{who} returned columns {result.schema.names}, declared {schema.names}")
    result = pa.table([_cast(result[field.name], field, who) for field in schema], schema=schema)
    for name in schema.names:
        if columns.has_nan(result[name]):
            raise ContractError(f"{who} wrote NaN into {name}; undefined is null, as a share of an empty text")
    return result


def _cast(values: pa.ChunkedArray, field: pa.Field, who: str) -> pa.ChunkedArray:
    try:
        return values.cast(field.type)
    except pa.ArrowException as error:
        message = f"{who} returned {field.name} as {values.type}, declared {field.type}"
        raise ContractError(f"{message}: {error}") from None
