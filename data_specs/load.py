"""A spec from YAML: `load("data_specs/demo.yaml", ["training.steps=20"])`.

A mistake is one line that says where it is, what is wrong, and the nearest name that would be right; all mistakes are
told at once. `key=value` changes a value by its dotted key, and a rule by its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import ValidationError

from data_specs import schema
from data_specs.document import Document, Mistake, Place, SpecError, dotted, kind, parse, read, undotted
from data_specs.expressions import compared, suggestion
from data_specs.mistakes import explained, place_of, shown
from data_specs.ruleset import Ruleset
from data_specs.scoring import EVERY, Domain
from data_specs.spec import Spec
from data_specs.stages import with_kinds

__all__ = ["SpecError", "check_columns", "load", "placed", "unmatched"]

P = ParamSpec("P")
T = TypeVar("T")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """The spec of a file, with values changed by `key=value`. Raises SpecError with one line per mistake."""
    document = read(path)
    if not isinstance(document.value, dict):
        text = f"is {kind(document.value)}, but should be keys and values such as `name: demo`"
        raise SpecError([f"{document.line(())}: {text}"])
    mistakes = _rules(document)
    for override in overrides:
        mistakes += _override(document, override)
    if "stages" in document.value:
        document.value["stages"] = with_kinds(document.value["stages"])
    try:
        spec = Spec.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        mistakes += explained(error, document)
        mistakes += _behind(error, document)
    if mistakes:
        raise SpecError(dict.fromkeys(f"{line}: {text}" for line, text in sorted(mistakes, key=_order)))
    spec._places.update(document.lines)
    return spec


def _behind(error: ValidationError, document: Document) -> list[Mistake]:
    """Mistakes that hide behind wrong names and unknown keys, as what belongs together is compared once each by itself
    is right: those of the same spec without the keys and with names that are right."""
    values = deepcopy(document.value)
    wrong: dict[str, str] = {}
    for each in error.errors(include_url=False):
        place = place_of(each["loc"], document)
        if each["type"] == "string_pattern_mismatch":
            wrong.setdefault(each["input"], f"name_{len(wrong)}_as_it_should_be")
        elif each["type"] == "extra_forbidden":
            Document(document.file, values).at(place[:-1]).pop(place[-1], None)
    try:
        Spec.model_validate_json(json.dumps(_renamed(values, wrong)), strict=True)
    except ValidationError as further:
        found = explained(further, Document(document.file, _renamed(values, wrong), document.lines))
        return [(line, _restored(text, wrong)) for line, text in found]
    return []


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Values of which some keys, and rules, have other names."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        names.get(key, key): names.get(each, each) if key == "name" and isinstance(each, str) else _renamed(each, names)
        for key, each in value.items()
    }


def _restored(text: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(other, name)
    return text


def check_columns(spec: Spec, wrong: Callable[[tuple[str, ...], str | None], Mapping[str, str]]) -> None:
    """Say where the expressions of a spec stand of which `wrong` knows why they cannot be evaluated: on columns of
    documents, or on those of the records of a source. Raises SpecError with one line per expression."""
    written = Document(spec.name, spec.model_dump(mode="json"), spec._places)
    mistakes = []
    for source in (None, *spec.sources):
        texts = {place: text for place, text in schema.expressions(spec) if _refused_by(place) == source}
        reasons = wrong(tuple(texts.values()), source)
        mistakes += [
            f"{written.line(place)}: {shown(place, written.value)}: {reasons[text]}"
            for place, text in texts.items()
            if text in reasons
        ]
    if mistakes:
        raise SpecError(mistakes)


def unmatched(spec: Spec) -> list[str]:
    """What to say of expressions that compare a column with a text that it never is in this spec: a source, channel or
    label of another name, each where it is first. No mistake, as files of rules are shared between specs."""
    known: dict[str, Collection[str]] = {"source": spec.sources, "channel": spec.channels}
    known |= {name: (*EVERY, *each.labels) for name, each in spec.of_kind(Domain).items() if each.labels}
    found: dict[tuple[str, str], list[Place]] = {}
    for place, text in schema.expressions(spec):
        for column, values in known.items() if _refused_by(place) is None else ():
            for value in sorted(compared(text, column) - {*values}):
                found.setdefault((column, value), []).append(place)
    written = Document(spec.name, spec.model_dump(mode="json"), spec._places)
    return [
        f"{written.line(place)}: {shown(place, written.value)}: {column} is never '{value}' in this spec"
        f"{suggestion(value, known[column])}" + (f" (nor where {len(more)} more ask)" if more else "")
        for (column, value), (place, *more) in found.items()
    ]


def placed(make: Callable[Concatenate[Spec, P], T]) -> Callable[Concatenate[Spec, P], T]:
    """What is made of a spec, whose mistakes are said with file and line where they begin with a dotted key of it."""

    @wraps(make)
    def placing(spec: Spec, *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return make(spec, *arguments, **named)
        except SpecError as error:
            raise SpecError([_placed(spec, text) for text in error.mistakes]) from error.__cause__

    return placing


def _placed(spec: Spec, text: str) -> str:
    place = undotted(re.split(r":? ", text, maxsplit=1)[0])
    line = Document("", lines=spec._places).line(place) if place[:2] in spec._places else ""
    return f"{line}: {text}" if line else text


def _refused_by(place: Place) -> str | None:
    """The source of whose records an expression speaks; None of one that speaks of documents."""
    return str(place[1]) if place[:1] == ("sources",) and place[2:3] == ("refuse",) else None


def _order(mistake: Mistake) -> tuple[str, int]:
    """By file, then by line; what was set by hand comes first."""
    file, _, line = mistake[0].rpartition(":")
    return (file, int(line)) if line.isdecimal() else ("", 0)


def _rules(document: Document) -> list[Mistake]:
    """Replace the rules as they are written by what `Rule` takes."""
    if document.value.get("rules") is None:
        document.value.pop("rules", None)
        return []
    ruleset = Ruleset()
    ruleset.read(document)
    document.value["rules"] = ruleset.rules
    for place in [place for place in document.lines if place[0:1] == ("rules",) and len(place) > 1]:
        del document.lines[place]
    document.lines.update({("rules", number): line for number, line in enumerate(ruleset.lines)})
    return ruleset.mistakes


def _override(document: Document, override: str) -> Iterator[Mistake]:
    """Change one value, or say why not; whether key and value are right is seen when the whole is validated."""
    key, equals, text = override.partition("=")
    line = f"--set {key}"
    if not equals or not key:
        yield f"--set {override}", "is not `key=value`, such as training.steps=20"
        return
    try:
        value = parse(text, line).value
    except SpecError as error:
        yield line, f"the value {kind(text)} is not YAML; put it in quotes ({error.mistakes[0].rpartition(': ')[2]})"
        return
    place = undotted(key)
    if place == ("rules",):
        yield line, "rules are changed one by one, by name, such as rules.foreign"
        return
    if place[0] == "rules":
        names = [rule["name"] for rule in document.value.get("rules") or ()]
        if place[1] not in names or place[2:] not in ((), ("where",)):
            near = suggestion(str(place[1]), names, mark="")
            yield line, f"{key} is unknown{near or '; a new rule is written in the spec'}"
            return
        place = ("rules", names.index(place[1]), *(place[2:] or ("drop",)))
    if refused := _put(document.value, place, value):
        yield line, refused
        return
    for inner in [inner for inner in document.lines if inner[: len(place)] == place]:
        del document.lines[inner]
    for above in range(1, len(place) + 1):
        document.lines.setdefault(place[:above], line)


def _put(target: Any, place: Place, value: Any) -> str | None:
    """Set the value at a place, with keys made on the way; returns why it cannot be."""
    for number, part in enumerate(place):
        above = dotted(place[:number])
        if isinstance(target, list) and part not in range(len(target)):
            return f"{above} is a list of {len(target)}, and {part} is no position in it"
        if not isinstance(target, dict | list):
            return f"{above} is {kind(target)} and has no keys"
        below: Any = part
        if number == len(place) - 1:
            target[below] = value
        elif isinstance(target, dict) and target.get(below) is None:
            target[below] = {}
        target = target[below]
    return None
