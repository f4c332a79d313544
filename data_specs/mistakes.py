"""pydantic's errors about a spec, said in its writer's words: where, what is wrong, the nearest name that is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from data_specs import schema
from data_specs.base import Settings
from data_specs.document import Document, Mistake, Place, dotted, kind, undotted
from data_specs.expressions import suggestion

Known = Callable[[Place, Any], list[str]]
"""Keys that the settings at a place of a document's values may have."""

_WORDS = (
    ("an object", "keys and values"),
    ("a valid array", "a list"),
    ("a valid string", "text"),
    ("a valid integer.*", "a whole number"),
    ("a valid number.*", "a number"),
    ("a valid boolean.*", "true or false"),
)
"""pydantic's words for what it wants, and ours."""
_NAMES = {
    "^[a-z][a-z0-9_]{0,99}$": "a name that columns have is at most 100 lower-case letters, digits and underscores, a "
    "letter first",
    "^[a-z][a-z0-9_-]{0,99}$": "a name is at most 100 lower-case letters, digits, hyphens and underscores, a "
    "letter first",
    "^[a-z]{2,3}$": "a language is two or three lower-case letters, such as zh",
}
"""What patterns want."""


def explained(
    error: ValidationError, document: Document, within: Place = (), known: Known = schema.names
) -> Iterator[Mistake]:
    """One mistake per value that is wrong; of a name that is used in several places, the first. What is wrong are the
    values `within` the document, of which `known` has the keys."""
    wanted: dict[Place, list[str]] = {}
    names: set[str] = set()
    for each in error.errors(include_url=False):
        place = place_of((*within, *each["loc"]), document, each["type"] == "missing")
        if each["type"] == "string_pattern_mismatch":
            if each["input"] in names:
                continue
            names.add(each["input"])
        if each["msg"].startswith("Input should"):
            wanted.setdefault(place, []).append(_wanted(each["msg"]))
            continue
        yield from _texts(each, place, document, known)
    for place, choices in wanted.items():
        given = document.at(place)
        hint = suggestion(str(given), re.findall(r"`(.*?)`", " ".join(choices)))
        if choices == ["text"]:
            hint = ", in quotes"
        yield document.wrong(
            place, f"{shown(place, document.value)} is {kind(given)}, but should be {' or '.join(choices)}{hint}"
        )


def of_options(error: ValidationError, settings: Any, within: Place, options: type[Settings]) -> Iterator[str]:
    """The same of settings that a class of one's own takes, as they stand `within` a spec; without file and line."""
    values = settings
    for part in reversed(within):
        values = {part: values}

    def known(place: Place, _: Any) -> list[str]:
        return schema.names(place[len(within) :], settings, options)

    for _, text in explained(error, Document("", values), within, known):
        yield text


def shown(place: Place, values: Any) -> str:
    """A place as a reader would name it: `training.steps`, `rule foreign`."""
    if place[:1] != ("rules",) or len(place) == 1:
        return dotted(place)
    rule = values["rules"][place[1]]["name"]
    return f"rule {rule} where" if "where" in place else f"rule {rule}"


def _texts(error: Any, place: Place, document: Document, known: Known) -> Iterator[Mistake]:
    key, context = shown(place, document.value), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            near = suggestion(str(place[-1]), known(place[:-1], document.value), mark="")
            if not near and document.at(place[:-1]).get("kind") == "custom":
                near = "; what the class of a stage of one's own takes stands under `settings`"
            yield document.wrong(place, f"{key} is unknown{near}")
        case "missing":
            yield document.wrong(place, f"{key} is missing")
        case "union_tag_not_found":
            yield document.wrong(place, f"{key}.kind is missing")
        case "union_tag_invalid":
            kinds = re.findall(r"'(.*?)'", context["expected_tags"])
            hint = suggestion(context["tag"], kinds)
            place = (*place, "kind")
            yield document.wrong(
                place, f"{key}.kind is {kind(context['tag'])}, but should be one of {', '.join(kinds)}{hint}"
            )
        case "string_pattern_mismatch":
            rule = _NAMES.get(context["pattern"], error["msg"])
            yield document.wrong(place, f"{key if len(key) <= 60 else key[:57] + '...'}: {rule}")
        case "value_error":
            for text in str(context["error"]).splitlines():
                about = place if place else undotted(re.split(r":? ", text, maxsplit=1)[0])
                yield document.wrong(about, f"{key}: {text}" if key else text)
        case _:
            yield document.wrong(place, f"{key}: {error['msg']}")


def place_of(location: tuple[str | int, ...], document: Document, missing: bool = False) -> Place:
    """pydantic's location without the names of union members; the last key of what is `missing` is in no values."""
    place: Place = ()
    value = document.value
    for number, part in enumerate(location):
        here = part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value))
        if here:
            place, value = (*place, part), value[part]
        elif missing and number == len(location) - 1:
            place = (*place, part)
    return place


def _wanted(message: str) -> str:
    text = message.removeprefix("Input should be ").removeprefix("Input should ")
    for theirs, ours in _WORDS:
        text = re.sub(f"^{theirs}$", ours, text)
    return text.replace("'", "`")
