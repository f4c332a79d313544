"""Questions to the columns: one read-only SELECT over Arrow tables, and everything that is known of one document.

DuckDB sees Arrow tables and nothing else: no file, no setting, no extension, no table function beside ranges, and
exactly one SELECT statement. Only columns that the query mentions are loaded, all of them where it has a star.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.expressions import locked, suggestion
from data_specs.load import SpecError
from tasks import columns
from tasks.execute import StageError
from tasks.pipeline import Pipeline
from tasks.stage import DOCUMENTS

BASE = ("id", "source", "url", "text", "kept", "reason")
"""Columns that `corpus` begins with."""
_TABLES = frozenset({"range", "generate_series", "unnest"})
"""Table functions that read nothing."""

Tree = dict[str, Any]


def views(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """View -> its columns: one per stage that is computed, with the document's id, and `corpus` with all of them.
    Raises StageError where nothing is computed."""
    if not pipeline.outputs["documents"].index.done.any():
        raise StageError(f"the store {pipeline.store.url} holds no documents of this spec yet: `sluice run` reads them")
    found = {"documents": tuple(DOCUMENTS.names)}
    for node in pipeline.nodes:
        if node.writes and pipeline.outputs[node.name].index.done.any():
            found[node.name] = ("id", *node.writes)
    every = [name for names in found.values() for name in names]
    found["corpus"] = tuple(dict.fromkeys(name for name in (*BASE, *every) if name in every))
    return found


def load(pipeline: Pipeline, names: tuple[str, ...], view: str = "corpus") -> pa.Table:
    """Columns of a view in order of sources, ids as people write them. `corpus` has all documents, with null where a
    stage has not computed its columns; a stage's view has those that it computed."""
    kinds = {field.name: field.type for node in pipeline.nodes if node.writes for field in node.stage.writes}
    kinds |= dict(zip(DOCUMENTS.names, DOCUMENTS.types, strict=True)) | {"id": pa.string()}
    schema = pa.schema([(name, kinds[name]) for name in names])
    wanted: dict[str, list[str]] = {"documents": ["id"]}
    for name in names:
        if name not in wanted.setdefault(pipeline.provider[name], []):
            wanted[pipeline.provider[name]].append(name)
    documents, tables = pipeline.outputs["documents"].index, [schema.empty_table()]
    for place in np.flatnonzero(documents.done).tolist():
        if view != "corpus" and not pipeline.outputs[view].index.done[place]:
            continue
        ids = documents.digests["id"][place].tobytes().hex()
        found: dict[str, Any] = {}
        for provider, asked in wanted.items():
            output = pipeline.outputs[provider]
            if output.index.done[place]:
                table = columns.read(pipeline.store, output.path(place), asked, ids)
                found |= {name: table[name] for name in asked}
        found["id"] = pa.array([value.hex() for value in found["id"].to_pylist()], pa.string())
        missing = {name: pa.nulls(len(found["id"]), kinds[name]) for name in names if name not in found}
        tables.append(pa.table({name: (found | missing)[name] for name in names}, schema))
    return pa.concat_tables(tables)


def select(pipeline: Pipeline, sql: str) -> dict[str, Any]:
    """{"columns": [...], "rows": [[...]]}, values as JSON has them. Raises SpecError for what is not one SELECT over
    the views, StageError where nothing is computed."""
    connection = locked()
    nodes = list(_nodes(_statement(connection, sql)))
    known = views(pipeline)
    tables = [node for node in nodes if node.get("type") == "BASE_TABLE"]
    asked = {node["table_name"].lower() for node in tables}
    local = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", [])}
    for name in sorted(asked - local - set(known)):
        pending = name in {node.name for node in pipeline.nodes if node.writes}
        why = f"{name} is not computed yet" if pending else f"there is no view {name}{suggestion(name, known, mark='')}"
        raise SpecError([f"query: {why}; the views are {', '.join(known)}"])
    mentioned = {text.lower() for node in nodes for value in node.values() for text in _texts(value)}
    references = [node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF"]
    alone = {names[0].lower() for names in references if len(names) == 1}
    everything = any(node.get("class") in ("STAR", "POSITIONAL_REFERENCE") for node in nodes)
    everything |= any(node.get("ref_type") == "NATURAL" for node in nodes)
    for view in sorted(asked & set(known)):
        called = {view, *(node["alias"].lower() for node in tables)}
        row = everything or (alone & called) - {name.lower() for name in known[view]}
        wanted = tuple(name for name in known[view] if row or name.lower() in mentioned) or ("id",)
        connection.register(view, load(pipeline, wanted, view))
    try:
        result = connection.execute(sql)
        rows = [[_plain(value) for value in row] for row in result.fetchall()]
        return {"columns": [column[0] for column in result.description], "rows": rows}
    except duckdb.Error as error:
        raise SpecError([f"query: {str(error).splitlines()[0]}{_hint(pipeline, alone, asked, known)}"]) from None


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


def _texts(value: Any) -> Iterator[str]:
    """A text, or the texts of a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (text for text in value if isinstance(text, str))


def _hint(pipeline: Pipeline, alone: set[str], asked: set[str], known: dict[str, tuple[str, ...]]) -> str:
    """What a column may have been meant to be, or that its stage has not run."""
    columns_known = sorted({name for view in asked & set(known) for name in known[view]})
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
    views(pipeline)
    low, high = (bytes.fromhex((beginning + fill * 32)[:32]) for fill in "0f")
    found: list[tuple[int, int, str]] = []
    for place, [(path, _)] in pipeline.files(("id",)):
        ids = columns.read(pipeline.store, path, ("id",))["id"]
        plain = ids.cast(pa.binary())
        hits = pc.and_(pc.greater_equal(plain, low), pc.less_equal(plain, high))
        found += [(place, row, ids[row].as_py().hex()) for row in np.flatnonzero(hits.to_numpy()).tolist()]
    if not found:
        raise SpecError([f"inspect: no document has an id that begins with {beginning}"])
    if len(found) > 1:
        some = ", ".join(name for _, _, name in found[:3]) + (", ..." if len(found) > 3 else "")
        raise SpecError([f"inspect: {len(found)} documents have an id that begins with {beginning}: {some}"])
    place, row, _ = found[0]
    values: dict[str, Any] = {"shard": pipeline.shards[place].name}
    for output in pipeline.outputs.values():
        if output.index.digests and output.index.done[place]:
            table = columns.read(pipeline.store, output.path(place)).slice(row, 1)
            values |= {name: _plain(value) for name, value in table.to_pylist()[0].items()}
    return {name: values[name] for name in dict.fromkeys((*BASE, *values)) if name in values}
