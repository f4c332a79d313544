"""Questions to the columns: one read-only SELECT over Arrow tables, and everything that is known of one document.

Only the columns that a query names are loaded. DuckDB sees Arrow tables and nothing else: no file, no setting, no
extension, and exactly one SELECT statement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from data_specs.expressions import locked, suggestion
from data_specs.load import SpecError
from tasks import columns
from tasks.pipeline import Pipeline
from tasks.stage import DOCUMENTS

BASE = ("id", "source", "url", "text", "kept", "reason")
"""Columns that `corpus` begins with."""


def views(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """View -> its columns: one per stage that is computed, with the document's id, and `corpus` with all of them."""
    found = {"documents": tuple(DOCUMENTS.names)}
    for node in pipeline.nodes:
        if node.writes and pipeline.outputs[node.name].index.done.any():
            found[node.name] = ("id", *node.writes)
    everything = dict.fromkeys([*BASE, *(name for names in found.values() for name in names)])
    found["corpus"] = tuple(name for name in everything if any(name in names for names in found.values()))
    return found


def load(pipeline: Pipeline, names: tuple[str, ...]) -> pa.Table:
    """Columns of all documents for which all of them exist, in order of sources."""
    tables = []
    for place, files in pipeline.files(names):
        ids = pipeline.outputs["documents"].index.digests["id"][place].tobytes().hex()
        parts: dict[str, Any] = {}
        for path, wanted in files:
            table = columns.read(pipeline.store, path, wanted, ids)
            parts |= {name: table[name] for name in wanted}
        tables.append(pa.table({name: parts[name] for name in names}))
    return pa.concat_tables(tables) if tables else pa.table({name: [] for name in names})


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def select(pipeline: Pipeline, sql: str) -> dict[str, Any]:
    """{"columns": [...], "rows": [[...]]}. Raises SpecError for what is not one SELECT over the views."""
    connection = locked()
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        raise SpecError([f"query: {tree.get('error_message', 'not one SELECT')}"])
    if len(tree["statements"]) != 1:
        raise SpecError(["query: one SELECT statement, please"])
    nodes = list(_nodes(tree))
    known = views(pipeline)
    asked = {node["table_name"] for node in nodes if node.get("type") == "BASE_TABLE"}
    local = {entry["key"] for node in nodes for entry in (node.get("cte_map") or {}).get("map", [])}
    for name in sorted(asked - local - set(known)):
        raise SpecError([f"query: there is no view {name}{suggestion(name, known)}; the views are {', '.join(known)}"])
    stars = any(node.get("class") == "STAR" for node in nodes)
    named = {part for node in nodes if node.get("class") == "COLUMN_REF" for part in node["column_names"]}
    for view in sorted(asked & set(known)):
        wanted = tuple(name for name in known[view] if stars or name in named) or known[view][:1]
        table = load(pipeline, wanted)
        connection.register(view, _hexadecimal(table))
    try:
        result = connection.execute(sql)
        names = [column[0] for column in result.description]
        return {"columns": names, "rows": [list(row) for row in result.fetchall()]}
    except duckdb.Error as error:
        raise SpecError([f"query: {error}"]) from None


def _hexadecimal(table: pa.Table) -> pa.Table:
    """Ids as people write them."""
    if "id" not in table.column_names:
        return table
    text = pa.array([value.hex() for value in table["id"].to_pylist()], pa.string())
    return table.set_column(table.schema.get_field_index("id"), "id", text)


def show(found: dict[str, Any]) -> None:
    """Print a query's answer."""
    grid = Table(*found["columns"], title=f"{len(found['rows']):,} rows")
    for row in found["rows"]:
        grid.add_row(*("" if value is None else str(value) for value in row))
    Console().print(grid)


def document(pipeline: Pipeline, doc_id: str) -> dict[str, Any]:
    """Every column of one document. Raises SpecError where no document, or more than one, has an id that begins so."""
    beginning = doc_id.lower()
    if not beginning or set(beginning) - set("0123456789abcdef") or len(beginning) > 32:
        raise SpecError([f"inspect: {doc_id!r} is not a document's id (up to 32 hexadecimal digits)"])
    found: list[dict[str, Any]] = []
    for place, _ in pipeline.files(("id",)):
        path = pipeline.outputs["documents"].path(place)
        ids = columns.read(pipeline.store, path, ("id",))["id"]
        low, high = (bytes.fromhex((beginning + fill * 32)[:32]) for fill in "0f")
        hits = pc.and_(pc.greater_equal(ids.cast(pa.binary()), low), pc.less_equal(ids.cast(pa.binary()), high))
        for row in np.flatnonzero(hits.to_numpy()).tolist():
            found.append(_row(pipeline, place, row))
    if len(found) != 1:
        raise SpecError([f"inspect: {len(found)} documents have an id that begins with {beginning}"])
    return found[0]


def _row(pipeline: Pipeline, place: int, row: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for output in pipeline.outputs.values():
        if len(output.index.done) == len(pipeline.shards) and output.index.done[place] and output.index.digests:
            table = columns.read(pipeline.store, output.path(place)).slice(row, 1).to_pylist()[0]
            values |= {key: value.hex() if isinstance(value, bytes) else value for key, value in table.items()}
            values.setdefault("shard", pipeline.shards[place].name)
    return values


def show_document(found: dict[str, Any]) -> None:
    """Print one document, its text last."""
    grid = Table(show_header=False)
    for name, value in found.items():
        if name != "text":
            shown = orjson.dumps(value, default=str).decode()
            grid.add_row(name, shown if len(shown) < 200 else shown[:200] + " ...")
    console = Console()
    console.print(grid)
    console.print(found["text"], markup=False, highlight=False)
