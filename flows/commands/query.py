"""Questions to the columns: one read-only SELECT over their views.

DuckDB sees the views and nothing else: no file, no setting, no extension, no table function beside ranges, and exactly
one SELECT statement. It scans them as far as the answer is read, in order of sources and on one thread, so an answer is
always the same; what it has to hold beyond half of the memory goes to a temporary folder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np

from data_specs.amounts import plural
from data_specs.expressions import suggestion
from data_specs.load import SpecError
from data_specs.sql_parser import locked
from flows.terminal import line
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import StageError
from tasks.engine.views import View, views

MEMORY = "50%"
"""Of this machine's memory, what DuckDB holds before it spills."""
_TABLES = frozenset({"range", "generate_series", "unnest"})
"""Table functions that read nothing."""
_AT_ONCE = 1000
"""Rows fetched from DuckDB at a time."""
_OFFSET = re.compile(r"""(?<!["\w])offset(?!["\w]|\s+\d)""", re.IGNORECASE)
"""The column of documents whose name is a word of SQL, as it cannot be written."""

Tree = dict[str, Any]


@dataclass
class Answer:
    """What a SELECT gives: names, and rows as they are read, with values as JSON has them."""

    columns: list[str]
    rows: Iterator[list[Any]]
    not_computed: str
    """What to say of stages that are asked and not computed for all documents; "" where all are."""


@contextmanager
def select(pipeline: Pipeline, sql: str) -> Iterator[Answer]:
    """Answer one SELECT over the views while the block runs. Raises SpecError for what is none, StageError where
    nothing is computed or memory does not suffice, StoreError for a file that cannot be read; all of them also while
    rows are read."""
    with (
        TemporaryDirectory(prefix="sluice-query-") as spill,
        closing(locked(memory_limit=MEMORY, temp_directory=spill)) as connection,
    ):
        nodes = _statement(connection, sql)
        known = views(pipeline)
        _check_names(pipeline, nodes, known, connection)
        for name, view in known.items():
            connection.register(name, view)
        try:
            result = connection.execute(sql)
            warning = not_computed(pipeline, _stages(pipeline, nodes, known))
            yield Answer([column[0] for column in result.description], _rows(result), warning)
        except duckdb.Error as error:
            for view in known.values():
                if view.error:
                    raise view.error from None
            message = line(str(error).splitlines()[0])
            if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
                raise StageError(
                    f"query: too large for this machine: {message}; ask for fewer rows or columns"
                ) from None
            raise SpecError([f"query: {message.rstrip('!')}{_hint(pipeline, nodes, known)}"]) from None
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
                raise KeyboardInterrupt from None
            raise


def not_computed(pipeline: Pipeline, stages: Iterable[str]) -> str:
    """What to say where stages are not computed for all documents, as new ones have come, some were taken down, or
    shards are quarantined: what is counted by them is then of the others alone."""
    documents, lacks = pipeline.outputs["documents"].index.done, []
    for stage in stages:
        lacking = np.flatnonzero(documents & ~pipeline.outputs[stage].index.done).tolist()
        if lacking:
            names = ", ".join(pipeline.shards[place].name for place in lacking[:3]) + (", ..." if lacking[3:] else "")
            lacks.append(f"{stage} for {len(lacking):,} of {plural(int(documents.sum()), 'shard')} ({names})")
    return f"not computed: {'; '.join(lacks)}; the answer knows nothing of their documents there" if lacks else ""


def _stages(pipeline: Pipeline, nodes: list[Tree], known: Mapping[str, View]) -> list[str]:
    """The stages whose views a statement names, or whose columns it names of `corpus`."""
    asked = {node["table_name"].lower() for node in nodes if node.get("type") == "BASE_TABLE"} & known.keys()
    found = asked - {"corpus", "refused", "documents"}
    if "corpus" in asked:
        named = {part.lower() for node in nodes if node.get("class") == "COLUMN_REF" for part in node["column_names"]}
        every = any(node.get("class") == "STAR" for node in nodes)
        columns = (name for name in known["corpus"].schema.names if every or name.lower() in named)
        found |= {pipeline.provider[name] for name in columns if name in pipeline.provider} - {"documents"}
    return [node.name for node in pipeline.nodes if node.name in found]


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[list[Any]]:
    while rows := result.fetchmany(_AT_ONCE):
        for row in rows:
            yield [plain(value) for value in row]


def _statement(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Tree]:
    """Every object of the syntax tree of one SELECT that reads tables only. Raises SpecError."""
    try:
        tree = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
        nodes = list(_nodes(tree))
    except RecursionError:
        raise SpecError(["query: the statement is nested too deeply"]) from None
    except duckdb.Error as error:
        raise SpecError([f"query: the statement cannot be read: {line(error)}"]) from None
    if tree["error"]:
        parser = tree.get("error_type") == "parser"
        hint = '; the column is written "offset"' if parser and _OFFSET.search(sql) else ""
        raise SpecError([f"query: {line(tree['error_message']) if parser else 'only one SELECT is answered'}{hint}"])
    if len(tree["statements"]) != 1:
        raise SpecError([f"query: {len(tree['statements'])} statements, but only one SELECT is answered"])
    for node in nodes:
        if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"] not in _TABLES:
            raise SpecError([f"query: {node['function']['function_name']}() is no view; only views are read"])
        if node.get("type") == "SHOW_REF" and not node["query"]:
            raise SpecError(["query: only one SELECT is answered; `describe corpus` tells columns and types"])
    return nodes


def _check_names(
    pipeline: Pipeline, nodes: list[Tree], known: Collection[str], connection: duckdb.DuckDBPyConnection
) -> None:
    """Every table is a view, or what a WITH defines under a name that DuckDB has no table for. Raises SpecError."""
    catalog = "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views()"
    taken = {name.lower() for (name,) in connection.execute(catalog).fetchall()}
    local = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", [])} - taken
    for node in nodes:
        name = node.get("table_name", "").lower()
        if node.get("type") != "BASE_TABLE" or name in known or (name in local and not node["schema_name"]):
            continue
        pending = name in {node.name for node in pipeline.nodes if node.writes}
        why = f"{name} is not computed yet" if pending else f"there is no view {line(name)}"
        hint = "" if pending else suggestion(name, known, mark="")
        raise SpecError([f"query: {why}; the views are {', '.join(known)}{hint}"])


def _nodes(tree: Any) -> Iterator[Tree]:
    """Every object of a syntax tree."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _hint(pipeline: Pipeline, nodes: list[Tree], known: dict[str, View]) -> str:
    """What a column may have been meant to be, which view has it, or that its stage has not run."""
    asked = {node["table_name"].lower() for node in nodes if node.get("type") == "BASE_TABLE"} & set(known)
    names = [node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF"]
    columns = sorted({name for view in asked for name in known[view].schema.names})
    unknown = {parts[0].lower() for parts in names if len(parts) == 1} - {each.lower() for each in columns}
    for name in sorted(unknown):
        if holding := next((view for view in ("corpus", *known) if name in known[view].schema.names), ""):
            return f"; {name} is a column of {holding}"
        if name in pipeline.provider:
            return f"; {name} is written by {pipeline.provider[name]}, which `sluice run` has still to compute"
        if near := suggestion(name, columns, mark=""):
            return near
    return f"; `describe {min(asked)}` names its columns" if unknown and len(asked) == 1 else ""


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hexadecimal, numbers that JSON's readers keep, the rest as text, also `nan` and
    `inf`, which are no nulls."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return float(value) if Decimal(repr(float(value))) == value else str(value)
        case bytes():
            return value.hex()
        case list() | tuple():
            return [plain(each) for each in value]
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
    return str(value)
