"""Questions to the columns: one read-only SELECT over their views, and everything that is known of one document.

DuckDB sees the views and nothing else: no file, no setting, no extension, no table function beside ranges, and exactly
one SELECT statement. It scans them as far as the answer is read, in order of sources and on one thread, so an answer is
always the same; what it has to hold beyond half of the memory goes to a temporary folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from pyarrow import compute, dataset

from data_specs.expressions import locked, suggestion
from data_specs.load import SpecError
from tasks.execute import StageError
from tasks.pipeline import Pipeline
from tasks.views import View, views

MEMORY = "50%"
"""Of this machine's memory, what DuckDB holds before it spills."""
_TABLES = frozenset({"range", "generate_series", "unnest"})
"""Table functions that read nothing."""
_AT_ONCE = 1000
"""Rows fetched from DuckDB at a time."""

Tree = dict[str, Any]


@dataclass
class Answer:
    """What a SELECT gives: names, and rows as they are read, with values as JSON has them."""

    columns: list[str]
    rows: Iterator[list[Any]]


@contextmanager
def select(pipeline: Pipeline, sql: str) -> Iterator[Answer]:
    """Answer one SELECT over the views while the block runs. Raises SpecError for what is none, StageError where
    nothing is computed or memory does not suffice, StoreError for a file that cannot be read; all of them also while
    rows are read."""
    with (
        TemporaryDirectory(prefix="sluice-query-") as spill,
        closing(locked(memory_limit=MEMORY, temp_directory=spill)) as connection,
    ):
        nodes = list(_nodes(_statement(connection, sql)))
        known = views(pipeline)
        asked = {node["table_name"].lower() for node in nodes if node.get("type") == "BASE_TABLE"}
        local = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", [])}
        for name in sorted(asked - local - set(known)):
            pending = name in {node.name for node in pipeline.nodes if node.writes}
            why = f"{name} is not computed yet" if pending else f"there is no view {name}"
            hint = "" if pending else suggestion(name, known, mark="")
            raise SpecError([f"query: {why}{hint}; the views are {', '.join(known)}"])
        for name, view in known.items():
            connection.register(name, view)
        try:
            result = connection.execute(sql)
            yield Answer([column[0] for column in result.description], _rows(result))
        except duckdb.Error as error:
            for view in known.values():
                if view.error:
                    raise view.error from None
            said = str(error).splitlines()[0]
            if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
                raise StageError(f"query: too large for this machine: {said}; ask for fewer rows or columns") from None
            alone = {
                node["column_names"][0].lower()
                for node in nodes
                if node.get("class") == "COLUMN_REF" and len(node["column_names"]) == 1
            }
            raise SpecError([f"query: {said}{_hint(pipeline, alone, asked, known)}"]) from None


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[list[Any]]:
    while rows := result.fetchmany(_AT_ONCE):
        for row in rows:
            yield [_plain(value) for value in row]


def _statement(connection: duckdb.DuckDBPyConnection, sql: str) -> Tree:
    """The syntax tree of one SELECT that names tables only. Raises SpecError."""
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    if tree["error"]:
        parser = tree.get("error_type") == "parser"
        raise SpecError([f"query: {tree['error_message'] if parser else 'only one SELECT is answered'}"])
    if len(tree["statements"]) != 1:
        raise SpecError([f"query: {len(tree['statements'])} statements, but only one SELECT is answered"])
    for node in _nodes(tree):
        if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"] not in _TABLES:
            raise SpecError([f"query: {node['function']['function_name']}() is no view; only views are read"])
        if node.get("type") == "SHOW_REF" and not node["query"]:
            raise SpecError(["query: only one SELECT is answered; `describe corpus` tells columns and types"])
    return tree


def _nodes(tree: Any) -> Iterator[Tree]:
    """Every object of a syntax tree."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _hint(pipeline: Pipeline, alone: set[str], asked: set[str], known: dict[str, View]) -> str:
    """What a column may have been meant to be, or that its stage has not run."""
    columns_known = sorted({name for view in asked & set(known) for name in known[view].schema.names})
    for name in sorted(alone - {column.lower() for column in columns_known}):
        if name in pipeline.provider:
            return f"; {name} is written by {pipeline.provider[name]}, which is not computed yet"
        if near := suggestion(name, columns_known, mark=""):
            return near
    return ""


def _plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hexadecimal, no NaN, integers of 64 bits, the rest as text."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value)
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
    return str(value)


def document(pipeline: Pipeline, doc_id: str) -> dict[str, Any]:
    """Every column of one document, those of `corpus` first. Raises SpecError where no document, or more than one, has
    an id that begins so, StageError where nothing is computed."""
    beginning = doc_id.lower()
    if not beginning or set(beginning) - set("0123456789abcdef") or len(beginning) > 32:
        raise SpecError([f"inspect: {doc_id!r} is not a document's id (up to 32 hexadecimal digits)"])
    corpus = views(pipeline)["corpus"]
    ids = corpus.scan(("id",), compute.starts_with(dataset.field("id"), beginning))
    found = [(place, name) for place, table in ids for name in table["id"].to_pylist()]
    if not found:
        raise SpecError([f"inspect: no document has an id that begins with {beginning}"])
    if len(found) > 1:
        some = ", ".join(name for _, name in found[:3]) + (", ..." if len(found) > 3 else "")
        raise SpecError([f"inspect: {len(found)} documents have an id that begins with {beginning}: {some}"])
    [(place, name)] = found
    corpus.places = [place]
    [(_, table)] = corpus.scan(corpus.schema.names, dataset.field("id") == name)
    [values] = table.to_pylist()
    return {name: _plain(value) for name, value in values.items()} | {"shard": pipeline.shards[place].name}
