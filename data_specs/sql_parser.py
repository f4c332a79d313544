"""DuckDB's own parser: the text of one expression to its syntax tree, and back.

A text passes only where it is exactly one scalar expression; what of it is allowed is for data_specs/expressions.py.
What is written back from a tree reads back as the same tree.
"""

from __future__ import annotations

import atexit
import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import duckdb

from data_specs.amounts import plural

LONGEST = 10_000
"""Characters of an expression, at most."""
DEEPEST = 100
"""Nested operators, at most; DuckDB's parser enforces it."""

Tree = dict[str, Any]


class ExpressionError(ValueError):
    """An expression that is not allowed; the message says why, without the place."""


def locked(**config: Any) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB of one thread that reaches no file, network, extension, Python variable or setting."""
    return duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "enable_external_access": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,
            **config,
            "lock_configuration": True,
        },
    )


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return locked(max_expression_depth=DEEPEST)


atexit.register(_connection.cache_clear)


def _asked(sql: str, *arguments: str) -> tuple[str, ...]:
    """The one row of a query."""
    with _connection().cursor() as cursor:
        return cursor.execute(sql, arguments).fetchall()[0]


def _statements(*texts: str) -> list[Tree]:
    """DuckDB's syntax tree of each text of SELECT statements, without places, or `{"error": true, "error_message":
    ...}`. One query for all, as a query takes longer than to parse an expression."""
    places = {"query_location", "query_location_length"}
    found = _asked(f"SELECT {', '.join(['json_serialize_sql(?::VARCHAR)'] * len(texts))}", *texts)
    return [
        json.loads(text, object_hook=lambda node: {k: v for k, v in node.items() if k not in places}) for text in found
    ]


@cache
def _bare() -> Tree:
    """The statement `SELECT 1` without its expression."""
    [statement] = _statements("SELECT 1")
    statement["statements"][0]["node"]["select_list"] = []
    return statement


def _selected(statement: Tree) -> Tree | None:
    """The one expression of a bare `SELECT expression`; null when the statement is anything else."""
    if statement["error"]:
        parser = statement["error_type"] == "parser"
        raise ExpressionError(statement["error_message"] if parser else "it is several statements")
    node = statement["statements"][0]["node"]
    chosen, node["select_list"] = node.get("select_list", []), []
    return chosen[0] if statement == _bare() and len(chosen) == 1 and not chosen[0]["alias"] else None


_CONNECTING = frozenset("and as between by case else end false from in is like not null on or then true when".split())
"""Words of SQL in expressions, at which a parser stops for other reasons than a name."""


@lru_cache(maxsize=1024)
def tree_of(text: str) -> Tree:
    """Syntax tree of a text that is exactly one expression; nobody changes it, as it is kept.

    The text is parsed in parentheses, and again in brackets that close on the next line, and both must be a bare SELECT
    of the same one expression: what closes its bracket, lists several things, starts a clause or comments the end away
    fails one of them.
    """
    quoted = f"`{text if len(text) <= 80 else text[:77] + '...'}`"
    if not text.strip():
        raise ExpressionError("an empty text is not one expression")
    if len(text) > LONGEST:
        raise ExpressionError(f"{quoted} has {plural(len(text), 'character')}, more than {LONGEST:,}")
    if any(not (character.isprintable() or character in "\n\t") for character in text):
        raise ExpressionError(f"{text[:80]!r} has a character that cannot be printed")
    try:
        tree, listed = map(_selected, _statements(f"SELECT ({text})", f"SELECT [{text}\n]"))
    except ExpressionError as error:
        why = str(error).splitlines()[0]
        raise ExpressionError(f"{quoted} is not one expression: {why}{_quoting(why)}") from None
    match listed:
        case {"function_name": "list_value", "arguments": [{"expression": alone}]} if alone == tree:
            return alone
    raise ExpressionError(f"{quoted} is not one expression")


def _quoting(why: str) -> str:
    """What to do where a column is called as a word of SQL that the parser stopped at."""
    near = re.search(r'at or near "([A-Za-z_]\w*)"$', why)
    if not near or near[1].lower() in _CONNECTING:
        return ""
    return f'; a column of this name, which is a word of SQL, is written "{near[1]}", in double quotes'


def text_of(tree: Tree) -> str:
    """SQL of a checked tree; reading it again gives the same tree."""
    [bare] = _bare()["statements"]
    statement = {"error": False, "statements": [bare | {"node": bare["node"] | {"select_list": [tree]}}]}
    [text] = _asked("SELECT json_deserialize_sql(?::JSON)", json.dumps(statement))
    text = text.removeprefix("SELECT ")
    if _plain(tree_of(text)) != _plain(tree):
        raise ExpressionError(f"`{text}` does not read back as it was written; please write it another way")
    return text


def _plain(value: Any) -> Any:
    """A tree without the mark that tells `a LIKE b ESCAPE c` from `like_escape(a, b, c)`."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items() if key != "is_operator"}
    return [_plain(child) for child in value] if isinstance(value, list) else value


def walk(node: Tree) -> Iterator[Tree]:
    """A node, then the nodes below it; a node is checked by the caller before its children are sought."""
    yield node
    children: list[Tree] = [*node.get("children", ()), *(a["expression"] for a in node.get("arguments", ()))]
    children += [node[key] for key in ("left", "right", "input", "lower", "upper", "child", "else_expr") if key in node]
    children += [check[key] for check in node.get("case_checks", ()) for key in ("when_expr", "then_expr")]
    for child in children:
        yield from walk(child)
