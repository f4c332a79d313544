"""The JSON schema of a spec: as editors read it (`schema.json`), and as a map of which keys stand where.

`python -m data_specs.schema` writes `schema.json` anew; a test fails when it is not current. A spec names it in its
first line, `# yaml-language-server: $schema=schema.json`.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_args

from pydantic.fields import FieldInfo

from data_specs.base import Expression, Settings
from data_specs.document import Place
from data_specs.spec import Spec

FILE = Path(__file__).with_name("schema.json")

Node = dict[str, Any]

_SQL = {"format": "sql"}

RULES = {
    "description": "In order; the first that is true is the reason. An item is `name: expression`, or a file of rules.",
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "include": {"type": "string", "description": "A file of rules, relative to the file that names it."},
            "where": {"type": "string", "format": "sql", "description": "Judge only documents for which this is true."},
        },
        "patternProperties": {
            "^(?!include$|where$)[a-z][a-z0-9_]{0,99}$": {
                "type": "string",
                "format": "sql",
                "description": "drop: true drops a document, false and null do not.",
            }
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    },
}
"""Rules as they are written; `data_specs.load` makes `Rule`s of them."""


def written() -> Node:
    """JSON schema of the YAML form."""
    schema = _pruned(_described(deepcopy(_settings())))
    schema["properties"]["rules"] = RULES
    del schema["$defs"]["Rule"]
    schema["properties"]["stages"] |= _stages(schema["properties"]["stages"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _described(schema: Node) -> Node:
    """With the docstrings of settings, which are read here, as pydantic would do that in every command (80 ms)."""
    for model in _models(Settings):
        whole = f"{model.__module__.replace('.', '__')}__{model.__name__}"  # where several have the name
        node = schema if model is Spec else schema["$defs"].get(whole) or schema["$defs"].get(model.__name__, {})
        properties = node.get("properties", {})
        for name, text in _docstrings(model).items():
            if name in properties:
                properties[name] = dict(sorted(({"description": text} | properties[name]).items()))
    return schema


def _models(base: type[Settings]) -> Iterator[type[Settings]]:
    """The settings of a spec; not those of a stage of one's own."""
    for model in base.__subclasses__():
        if model.__module__.partition(".")[0] == __package__:
            yield model
            yield from _models(model)


def _docstrings(model: type[Settings]) -> dict[str, str]:
    """Field -> its docstring, or that of the class that it was inherited from."""
    found: dict[str, str] = {}
    for each in reversed([each for each in model.__mro__ if issubclass(each, Settings)]):
        body = cast(ast.ClassDef, ast.parse(inspect.getsource(each)).body[0]).body
        for field, after in pairwise([*body, ast.Pass()]):
            match field, after:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = inspect.cleandoc(text)
                case ast.AnnAssign(target=ast.Name(name)), _:
                    found.pop(name, None)
    return found


def _stages(node: Node) -> Node:
    """Stages as they are written: one that is named as a kind need not say it."""
    [choice] = node["patternProperties"].values()
    kinds = {kind: {"$ref": place} for kind, place in choice["discriminator"]["mapping"].items()}
    others = {"oneOf": [each | {"required": ["kind"]} for each in kinds.values()]}
    return {"properties": kinds, "patternProperties": {rf"^(?!({'|'.join(kinds)})$)[a-z][a-z0-9_]*$": others}}


def names(place: Place, values: Any, settings: type[Settings] = Spec) -> list[str]:
    """Keys that the settings at a place of these values may have; empty where keys are free."""
    node = root = _settings(settings)
    for part in place:
        node = _child(_resolved(node, values, root), part)
        values = values[part]
    return list(_resolved(node, values, root).get("properties", ()))


def expressions(spec: Spec) -> Iterator[tuple[Place, str]]:
    """Every SQL expression of a spec and its place."""
    yield from _expressions(spec, (), False)


def _expressions(value: Any, place: Place, sql: bool) -> Iterator[tuple[Place, str]]:
    """Those of a setting; `sql`: whether its texts are some."""
    if isinstance(value, Settings):
        for name, field in type(value).model_fields.items():
            yield from _expressions(getattr(value, name), (*place, name), _of_sql(field))
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _expressions(each, (*place, name), sql)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _expressions(each, (*place, number), sql)
    elif sql and isinstance(value, str):
        yield place, value


def _of_sql(field: FieldInfo) -> bool:
    """Whether a setting is an expression, or has some: `Expression`, `Expression | None`, `dict[Name, Expression]`."""
    return field.json_schema_extra == _SQL or Expression in get_args(field.annotation)


@cache
def _settings(settings: type[Settings] = Spec) -> Node:
    return settings.model_json_schema()


def _child(node: Node, part: str | int) -> Node:
    """Schema of one key or item; empty where anything goes."""
    if isinstance(part, int):
        return node.get("items", {})
    free = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
    return node.get("properties", {}).get(part) or (free if isinstance(free, dict) else {})


def _resolved(node: Node, value: Any, root: Node) -> Node:
    """The node a reference or a choice stands for: of sources by their kind, else the first that is not null."""
    while True:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
        elif "oneOf" in node:
            mapping = node["discriminator"]["mapping"]
            kind = value.get(node["discriminator"]["propertyName"]) if isinstance(value, dict) else None
            node = {"$ref": mapping.get(kind, next(iter(mapping.values())))}
        elif "anyOf" in node:
            node = next(choice for choice in node["anyOf"] if choice.get("type") != "null")
        else:
            return node


def _pruned(node: Any) -> Any:
    """Without pydantic's titles; keys that match no pattern are refused."""
    if isinstance(node, list):
        return [_pruned(child) for child in node]
    if not isinstance(node, dict):
        return node
    strict = {"additionalProperties": False} if "patternProperties" in node else {}
    kept = {key: _pruned(child) for key, child in node.items() if not (key == "title" and isinstance(child, str))}
    return kept | strict


if __name__ == "__main__":
    FILE.write_text(json.dumps(written(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
