"""SQL expressions of a spec: rules, gates, channels, labels.

An expression is written by people and evaluated by DuckDB, so it is parsed by DuckDB's own parser first, and only what
is known to be harmless passes: exactly one scalar expression over named columns, made of comparisons, arithmetic, CASE,
casts to plain types and a list of functions whose value depends on their arguments alone. No subquery, aggregate,
window, star, parameter, lambda, clock, randomness, setting or file. What is evaluated is `Parsed.text`, written back
from the syntax tree that was checked, never the text that came in.

`percentile(column, p)` is a function of Sluice: the p-th percentile of a column, per language, learned from the corpus
and pinned. `bind` puts the pinned values in its place.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from data_specs.sql_parser import ExpressionError, Tree, text_of, tree_of, walk
from data_specs.terms import ELSEWHERE


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _names("""
    abs ceil ceiling exp floor greatest least ln log log10 log2 mod pow power round sign sqrt trunc if nullif percentile
    concat contains ends_with instr left length lower ltrim md5 position prefix regexp_extract regexp_full_match
    regexp_matches regexp_replace replace right rtrim split_part starts_with strlen strpos substr substring suffix trim
    upper date_part len list_contains list_has list_value
    + - * / // % ** ^ || & | ~ << >> ^@ ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape
""")
"""Functions and operators that depend on their arguments alone, as DuckDB's parser names them."""

TYPES = _names("""
    bool boolean tinyint smallint int integer bigint hugeint utinyint usmallint uinteger ubigint real float double
    decimal string text varchar date
""")
"""Types that may be cast to: none depends on a time zone, a locale or an extension."""

_KEYS = {
    "COLUMN_REF": _names("column_names"),
    "CONSTANT": _names("literal"),
    "COMPARISON": _names("left right"),
    "CONJUNCTION": _names("children"),
    "OPERATOR": _names("children"),
    "BETWEEN": _names("input lower upper"),
    "CASE": _names("case_checks else_expr"),
    "CAST": _names("child try_cast type_expr"),
    "FUNCTION": _names("""function_name schema catalog qualified_name arguments filter order_bys distinct is_operator
                       export_state"""),
}
"""Classes of syntax nodes that are allowed, each with every key it has beside class, type and alias."""
_KINDS = _names("""
    COLUMN_REF VALUE_CONSTANT CASE_EXPR OPERATOR_CAST FUNCTION CONJUNCTION_AND CONJUNCTION_OR COMPARE_BETWEEN
    COMPARE_EQUAL COMPARE_NOTEQUAL COMPARE_LESSTHAN COMPARE_GREATERTHAN COMPARE_LESSTHANOREQUALTO
    COMPARE_GREATERTHANOREQUALTO COMPARE_DISTINCT_FROM COMPARE_NOT_DISTINCT_FROM COMPARE_IN COMPARE_NOT_IN
    OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL OPERATOR_COALESCE OPERATOR_TRY ARRAY_EXTRACT
""")
"""Types of syntax nodes that are allowed."""
_PLAIN = _names("COLUMN_REF CONSTANT COMPARISON CONJUNCTION OPERATOR BETWEEN")
_ORDERED = _names("""
    COMPARE_EQUAL COMPARE_NOTEQUAL COMPARE_LESSTHAN COMPARE_GREATERTHAN COMPARE_LESSTHANOREQUALTO
    COMPARE_GREATERTHANOREQUALTO
""")
"""Comparisons that are null where a side is."""
_PLAIN_OPERATORS = _names("COMPARE_IN COMPARE_NOT_IN OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL")
"""What `compares_with_constants` allows."""
_LITERALS = _names("INTEGER NUMERIC STRING BOOLEAN NULL_LITERAL")
_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "a star",
    "LAMBDA": "a lambda",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a positional reference",
    "COLLATE": "a collation",
    "DEFAULT": "DEFAULT",
}


@dataclass(frozen=True)
class Parsed:
    """One checked expression."""

    text: str
    """Canonical SQL: equal for texts that differ in spacing, case of keywords, comments or needless parentheses."""
    columns: frozenset[str]
    """Columns it reads."""
    percentiles: frozenset[tuple[str, int | float]]
    """(column, p) of each `percentile(column, p)`, 0 < p < 100."""


def parse(text: str, known: Collection[str] | None = None) -> Parsed:
    """Check one expression; with `known`, that it reads only these columns. Raises ExpressionError."""
    parsed = _parse(text)
    if known is not None and (unknown := parsed.columns - set(known)):
        raise ExpressionError(
            "; ".join(
                f"column `{column}` is written by no stage{suggestion(column, known) or _as_text(column, text)}"
                for column in sorted(unknown)
            )
        )
    return parsed


def normalised(text: str) -> str:
    """Canonical SQL of an expression, for fingerprints. Raises ExpressionError."""
    return _parse(text).text


def bind(text: str, thresholds: Mapping[tuple[str, float], Mapping[str, float] | float]) -> str:
    """Put pinned values in the place of each `percentile(column, p)`.

    A mapping becomes a CASE over the column `language`, in which the key "" stands for every other value (without it
    they are NULL, and so is a comparison with them); a number becomes itself; both are DOUBLE, so that they keep every
    bit.
    Returns canonical SQL. Raises ExpressionError when a threshold is missing or not finite.
    """

    def threshold(node: Tree) -> Tree:
        column, p = key = _percentile(node)
        if key not in thresholds:
            raise ExpressionError(
                f"percentile({column}, {p}) has no pinned threshold; `--retrain percentiles_{column}` learns it"
            )
        pinned = thresholds[key]
        if not isinstance(pinned, Mapping):
            return tree_of(_double(pinned))
        cases = " ".join(f"when {_quoted(value)} then {_double(pinned[value])}" for value in sorted(pinned) if value)
        other = _double(pinned[""]) if "" in pinned else "null"
        return tree_of(f'case "language" {cases} else {other} end' if cases else other)

    def bound(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("class") == "FUNCTION" and value["function_name"] == "percentile":
                return threshold(value)
            return {key: bound(child) for key, child in value.items()}
        return [bound(child) for child in value] if isinstance(value, list) else value

    parsed = _parse(text)
    return text_of(bound(tree_of(text))) if parsed.percentiles else parsed.text


def check_nulls(text: str) -> None:
    """Raises ExpressionError where what is written compares with null: no such comparison is true."""
    for node in walk(tree_of(text)):
        if any(map(_is_null, _all_needed(node))):
            raise ExpressionError("a comparison with null is never true; write `is null` or `is not null`")
        if any(map(_is_null, _excluded(node))):
            raise ExpressionError("`not in` a list with null is never true; leave null out, and write `is not null`")


def _all_needed(node: Tree) -> list[Tree]:
    """Parts of a comparison that is never true where one of them is null: sides, bounds, the only value of a list."""
    if node["type"] in _ORDERED:
        return [node["left"], node["right"]]
    if node["type"] == "COMPARE_BETWEEN":
        return [node["input"], node["lower"], node["upper"]]
    return node["children"] if node["type"] == "COMPARE_IN" and len(node["children"]) == 2 else []


def _excluded(node: Tree) -> list[Tree]:
    """The list of a `not in`."""
    child = node["children"][0] if node["type"] == "OPERATOR_NOT" else node
    inside = child["type"] == ("COMPARE_NOT_IN" if child is node else "COMPARE_IN")
    return child["children"][1:] if inside else []


def _is_null(node: Tree) -> bool:
    return node.get("literal", {}).get("kind") == "NULL_LITERAL"


def compares_with_constants(text: str) -> bool:
    """Whether an expression does nothing but compare columns with constants, and combine that by AND, OR and NOT."""
    return all(
        node["class"] in _PLAIN
        and (node["class"] != "OPERATOR" or node["type"] in _PLAIN_OPERATORS)
        and (node["class"] != "COMPARISON" or "CONSTANT" in (node["left"]["class"], node["right"]["class"]))
        and (node["class"] != "BETWEEN" or {"CONSTANT"} == {node["lower"]["class"], node["upper"]["class"]})
        for node in walk(tree_of(text))
    )


def literals(text: str) -> frozenset[str]:
    """The constants in an expression, strings without their quotes."""
    nodes = [node for node in walk(tree_of(text)) if node["class"] == "CONSTANT"]
    return frozenset(node["literal"]["text"] for node in nodes if "text" in node["literal"])


def compared(text: str, column: str) -> frozenset[str]:
    """The strings that an expression compares a column with."""
    nodes = (node for node in walk(tree_of(text)) if node["type"].startswith("COMPARE_"))
    sides = ([*node.get("children", ()), node.get("left", {}), node.get("right", {})] for node in nodes)
    found = (part for each in sides if any(p.get("column_names") == [column] for p in each) for part in each)
    return frozenset(part["literal"]["text"] for part in found if "text" in part.get("literal", ()))


def renamed(text: str, columns: Mapping[str, str]) -> str:
    """The same expression over columns of other names; the text itself where it names none of them."""
    if not any(columns.get(name, name) != name for name in _parse(text).columns):
        return text

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("class") == "COLUMN_REF":
                return value | {"column_names": [columns.get(name, name) for name in value["column_names"]]}
            return {key: changed(child) for key, child in value.items()}
        return [changed(child) for child in value] if isinstance(value, list) else value

    return text_of(changed(tree_of(text)))


def _as_text(column: str, text: str) -> str:
    """What to write instead of a name that seems to be meant as a text; or nothing."""
    name, quoted = re.escape(column), column.replace("'", "''")
    return f"; as a text it is written '{quoted}'" if re.search(rf'"{name}"|(?:=|<>) *{name}\b', text) else ""


def suggestion(name: str, known: Collection[str], mark: str = "`") -> str:
    """`; did you mean ...?` with the nearest known name, or the one that is called otherwise elsewhere; or nothing."""
    near = difflib.get_close_matches(ELSEWHERE.get(name.lower(), name.lower()), sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {mark}{near[0]}{mark}?" if near else ""


@lru_cache(maxsize=4096)
def _parse(text: str) -> Parsed:
    tree = tree_of(text)
    columns: set[str] = set()
    percentiles: set[tuple[str, int | float]] = set()
    for node in walk(tree):
        _check(node)
        if node["class"] == "COLUMN_REF":
            columns.update(node["column_names"])
        elif node["class"] == "FUNCTION" and node["function_name"] == "percentile":
            percentiles.add(_percentile(node))
    return Parsed(text_of(tree), frozenset(columns), frozenset(percentiles))


def _check(node: Tree) -> None:
    kind = node["class"]
    if kind not in _KEYS:
        raise ExpressionError(f"{_REFUSED.get(kind, kind.lower())} is not allowed")
    if node["type"] not in _KINDS or node.keys() != _KEYS[kind] | {"class", "type", "alias"}:
        raise ExpressionError(f"{node['type'].lower()} is not allowed")
    if kind == "COLUMN_REF" and len(node["column_names"]) != 1:
        raise ExpressionError(f"`{'.'.join(node['column_names'])}` is not a column; name a column alone")
    if kind == "CONSTANT" and node["literal"]["kind"] not in _LITERALS:
        raise ExpressionError(f"a literal of kind {node['literal']['kind'].lower()} is not allowed")
    if kind == "CAST":
        _check_type(node["type_expr"])
    if kind == "FUNCTION":
        _check_function(node)


def _check_type(node: Tree) -> None:
    name = node.get("type_name", "")
    constants = all(child["class"] == "CONSTANT" for child in node.get("children", ()))
    if name.lower() not in TYPES or node.get("schema") or node.get("catalog") or not constants:
        raise ExpressionError(f"a cast to {name or 'an expression'} is not allowed{suggestion(name, TYPES)}")


def _check_function(node: Tree) -> None:
    name = node["function_name"]
    if node["schema"] or node["catalog"]:
        raise ExpressionError(f"`{'.'.join(node['qualified_name']['path'])}` is not allowed; name a function alone")
    if name not in FUNCTIONS:
        words = {function for function in FUNCTIONS if function[0].isalpha()}
        raise ExpressionError(f"function `{name}` is not allowed{suggestion(name, words)}")
    extras = (node["filter"], node["order_bys"]["orders"], node["distinct"], node["export_state"])
    if any(extras) or any(argument["name"] for argument in node["arguments"]):
        raise ExpressionError(f"function `{name}` takes plain arguments only: no names, DISTINCT, ORDER BY or FILTER")


def _percentile(node: Tree) -> tuple[str, int | float]:
    """(column, p) of a call of `percentile`. Raises ExpressionError when it is not `percentile(column, number)`, the
    number to a tenth."""
    match [argument["expression"] for argument in node["arguments"]]:
        case [
            {"class": "COLUMN_REF", "column_names": [column]},
            {"class": "CONSTANT", "literal": {"kind": "INTEGER" | "NUMERIC", "text": number}},
        ] if 0 < (p := float(number)) < 100 and p == round(p, 1):
            return column, int(p) if p.is_integer() else p
    raise ExpressionError(
        "percentile takes a column and a number between 0 and 100, to a tenth, as in percentile(quality, 2.5)"
    )


def _double(value: float) -> str:
    """A DOUBLE literal with every bit: an exponent keeps DuckDB from reading a DECIMAL."""
    if not math.isfinite(value):
        raise ExpressionError(f"a threshold of {value} is not a number to compare with")
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
