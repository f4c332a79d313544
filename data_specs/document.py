"""A YAML file as plain values, with the line of every key.

YAML 1.2 by ruamel.yaml, read with suspicion: one document of mappings, lists, words and numbers; keys are words or
whole numbers; no tags, no key given twice, no alias that contains itself or multiplies beyond `MOST` values. A date is
a word. Every error names file and line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

LARGEST = 2**20
"""Bytes of a file, at most."""
MOST = 50_000
"""Values of a file, at most, each alias counted as often as it is used."""

Place = tuple[str | int, ...]
"""Where a value stands in its file: keys and list positions from the top."""

_CORE = "tag:yaml.org,2002:"
_NUMBERS = {f"{_CORE}{kind}" for kind in ("null", "bool", "int", "float")}
_WORDS = {f"{_CORE}{kind}" for kind in ("str", "timestamp", "merge", "value")}
_HINTS = {
    "'\\t'": "; indent with spaces, not tabs",
    "undefined alias": "; put what begins with * in quotes",
}
"""What to do about mistakes in YAML, by words of its errors."""

Mistake = tuple[str, str]
"""`file:line`, and what is wrong there."""


class SpecError(ValueError):
    """What is wrong in a spec: one line per mistake, `file:line: ...`."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = (mistakes,) if isinstance(mistakes, str) else tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


@dataclass
class Document:
    """The values of one file, and where each was written."""

    file: str
    value: Any = None
    lines: dict[Place, str] = field(default_factory=dict)
    """`file:line` (from 1) of the key or list item that a value belongs to."""

    def line(self, place: Place) -> str:
        """`file:line` of a value, or of the nearest one above it that was written."""
        return next((self.lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.lines), self.file)

    def at(self, place: Place) -> Any:
        """The value at a place. Raises LookupError where there is none."""
        value = self.value
        for part in place:
            value = value[part]
        return value

    def wrong(self, place: Place, text: str) -> Mistake:
        return self.line(place), text


def dotted(place: Place) -> str:
    return ".".join(map(str, place))


def undotted(key: str) -> Place:
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def kind(value: Any) -> str:
    """What a value is, for a message."""
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "keys and values" if isinstance(value, dict) else "a list"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def read(path: str | Path) -> Document:
    """A file's values. Raises SpecError when it is missing, no file, too large, not UTF-8 or not plain YAML."""
    file = str(path)
    try:
        with open(path, "rb") as opened:
            data = opened.read(LARGEST + 1)
    except FileNotFoundError:
        raise SpecError([f"{file}: there is no such file"]) from None
    except OSError as error:
        raise SpecError([f"{file}: cannot be read: {(error.strerror or str(error)).lower()}"]) from None
    if len(data) > LARGEST:
        raise SpecError([f"{file}: is larger than {LARGEST:,} bytes; is this a spec?"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError([f"{file}:{line}: is not UTF-8 text; is this a spec?"]) from None
    return parse(text, file)


def parse(text: str, file: str) -> Document:
    """A text's values; `file` names it in errors. Raises SpecError."""
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings(action="ignore", category=ReusedAnchorWarning):
            root = yaml.compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = next((hint for words, hint in _HINTS.items() if words in str(error.problem)), "")
        raise SpecError([f"{file}:{line}: is not YAML: {error.problem}{hint}"]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError([f"{file}:{line}: has a character that YAML does not allow: U+{error.character:04X}"]) from None
    except YAMLError as error:
        raise SpecError([f"{file}: is not YAML: {str(error).splitlines()[0]}"]) from None
    except RecursionError:
        raise SpecError([f"{file}: is nested too deep"]) from None
    document = Document(file)
    if root is not None:
        document.value = _Reader(document, yaml).value(root, ())
    return document


class _Reader:
    """Nodes to values."""

    def __init__(self, document: Document, yaml: YAML) -> None:
        self.document = document
        self.yaml = yaml
        self.count = 0
        self.open: list[Node] = []

    def line(self, node: Node) -> str:
        return f"{self.document.file}:{node.start_mark.line + 1}"

    def mistake(self, node: Node, text: str) -> SpecError:
        return SpecError([f"{self.line(node)}: {text}"])

    def value(self, node: Node, place: Place) -> Any:
        self.count += 1
        if self.count > MOST:
            raise self.mistake(node, f"the file has more than {MOST:,} values, aliases counted")
        if any(node is above for above in self.open):
            raise self.mistake(node, "an alias contains itself")
        self.document.lines.setdefault(place, self.line(node))
        self.open.append(node)
        try:
            if isinstance(node, MappingNode) and node.tag == f"{_CORE}map":
                return self.mapping(node, place)
            if isinstance(node, SequenceNode) and node.tag == f"{_CORE}seq":
                return [self.value(child, (*place, number)) for number, child in enumerate(node.value)]
            return self.scalar(node)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, child in node.value:
            name = self.key(key)
            if name in values:
                first = self.document.line((*place, name))
                raise self.mistake(key, f"{dotted((*place, name))} is given twice, first at {first}")
            self.document.lines[(*place, name)] = self.line(key)
            values[name] = self.value(child, (*place, name))
        return values

    def key(self, node: Node) -> str:
        """A word; or a whole number, such as the sizes of `mixture.rehydration`, in its one spelling."""
        if isinstance(node, ScalarNode) and node.tag == f"{_CORE}int":
            return str(self.scalar(node))
        if not isinstance(node, ScalarNode) or node.tag not in _WORDS:
            raise self.mistake(node, "a key is neither a word nor a whole number")
        return self.word(node)

    def word(self, node: ScalarNode) -> str:
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise self.mistake(node, "a word has half of a surrogate pair, which is no character")
        return node.value

    def scalar(self, node: Node) -> Any:
        if isinstance(node, ScalarNode) and node.tag in _WORDS:
            return self.word(node)
        if isinstance(node, ScalarNode) and node.tag in _NUMBERS:
            try:
                value = self.yaml.constructor.construct_object(node)
                if isinstance(value, int) and abs(value) >= 2**62:
                    raise ValueError("it has more than 62 bits")
                return value
            except ValueError as error:
                raise self.mistake(node, f"`{node.value[:40]}` is not a number: {error}") from None
        raise self.mistake(node, f"the tag {str(node.tag).removeprefix(_CORE)} is not allowed")
