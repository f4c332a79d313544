"""Expressions of a spec evaluated on Arrow tables with DuckDB: rules, gates, channels, labels.

The same rows in the same order, on one thread, with nothing but the table in reach: what DuckDB is given was checked
and written back by `data_specs.expressions`. NULL is kept apart from FALSE. Division by zero is NULL, so that no
comparison meets a NaN that arithmetic made (NaN is above every number in DuckDB). Whole numbers are computed in 64 bits
with sign, so that `words - lines` of two unsigned columns does not overflow. A literal such as 0.3 is compared with a
float32 column in float32: a stored 0.3 is not above 0.3.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.expressions import bind, parse
from data_specs.sql_parser import ExpressionError, locked


def evaluate(
    expressions: Mapping[str, str], table: pa.Table, types: Mapping[str, pa.DataType] | None = None
) -> pa.Table:
    """One column per expression, named by its key: boolean unless `types` says otherwise, TRUE, FALSE or NULL.

    40 rules over 30,000 rows of 20 columns take 14 ms on one core. Raises ExpressionError, naming the expression, when
    it is not allowed, reads a column that the table lacks, has the wrong type, or fails on a value (an overflow, a cast
    of a text that is no number).
    """
    if not expressions:
        return pa.table({})
    parsed = {}
    for name, text in expressions.items():
        try:
            parsed[name] = parse(text, table.column_names)
        except ExpressionError as error:
            raise ExpressionError(f"{name}: {error}") from None
        if parsed[name].percentiles:
            raise ExpressionError(f"{name}: percentile is not bound to a pinned threshold")
    columns = sorted(set().union(*(each.columns for each in parsed.values()))) or table.column_names[:1]
    given = _signed(table.select(columns))
    texts = {name: each.text for name, each in parsed.items()}
    try:
        result = _run(texts, given)
    except duckdb.Error:
        _blame(texts, given)
        raise
    return _typed(result, types or {})


def first_true(expressions: Mapping[str, str], table: pa.Table) -> pa.Array:
    """string [n]: for each row the name of the first expression that is TRUE; null where none is.

    Raises ExpressionError as `evaluate` does."""
    truths = evaluate(expressions, table)
    result = pa.nulls(table.num_rows, pa.string())
    for name in reversed(truths.column_names):
        result = pc.if_else(pc.fill_null(truths[name].combine_chunks(), False), name, result)
    return result


_tried: dict[pa.Schema, dict[str, str]] = {}
"""By columns, expressions that were tried on such, and why they cannot be evaluated; empty where they can."""


def mistaken(texts: Iterable[str], columns: pa.Schema) -> dict[str, str]:
    """Which of some expressions cannot be evaluated on such columns, or are neither true nor false -> why."""
    known = _tried.setdefault(columns, {})
    new = [text for text in dict.fromkeys(texts) if text not in known]
    known |= dict.fromkeys(new, "") | _mistaken(new, columns)
    return {text: why for text in texts if (why := known[text])}


def _mistaken(texts: Sequence[str], columns: pa.Schema) -> dict[str, str]:
    row = pa.Table.from_pylist([{}], columns)

    def tried(*some: str) -> str:
        try:
            evaluate({str(number): _bound(text, columns) for number, text in enumerate(some)}, row)
        except ExpressionError as error:
            return str(error).removeprefix("0: ")
        return ""

    return {text: why for text in texts if (why := tried(text))} if tried(*texts) else {}


def _bound(text: str, columns: pa.Schema) -> str:
    """An expression with a number in the place of each percentile. Raises ExpressionError for one of no numbers."""
    asked = parse(text, columns.names).percentiles
    for column, p in asked:
        kind = columns.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ExpressionError(f"percentile({column}, {p}) needs a column of numbers; {column} is {kind}")
    return bind(text, dict.fromkeys(asked, 0.0))


def _signed(table: pa.Table) -> pa.Table:
    """Integers of up to 32 bits as int64."""
    narrow = {pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32()}
    fields = [field.with_type(pa.int64()) if field.type in narrow else field for field in table.schema]
    return table.cast(pa.schema(fields))


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return locked(ieee_floating_point_ops=False, error_on_division_by_zero=False)


atexit.register(_connection.cache_clear)


def _run(texts: Mapping[str, str], table: pa.Table) -> pa.Table:
    with _connection().cursor() as cursor:
        cursor.register("given", table)
        selected = ", ".join(f'{text} AS "{name}"' for name, text in texts.items())
        return cursor.sql(f"SELECT {selected} FROM given").to_arrow_table().combine_chunks()


def _blame(texts: Mapping[str, str], table: pa.Table) -> None:
    """Raise ExpressionError for the first expression that fails alone."""
    for name, text in texts.items():
        try:
            _run({name: text}, table)
        except duckdb.Error as error:
            raise ExpressionError(f"{name}: `{text}` fails: {str(error).splitlines()[0]}") from None


def _typed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    for number, field in enumerate(table.schema):
        wanted = types.get(field.name, pa.bool_())
        if field.type == wanted:
            continue
        if wanted == pa.bool_() and not pa.types.is_null(field.type):
            raise ExpressionError(f"{field.name}: is {field.type}, not true or false")
        try:
            column = table.column(number).cast(wanted)
        except pa.ArrowInvalid as error:
            raise ExpressionError(f"{field.name}: is {field.type}, not {wanted}: {error}") from None
        table = table.set_column(number, pa.field(field.name, wanted), column)
    return table
