"""Rules as they are written: `- name: expression`, or `- include: file`, each with a `where` if need be.

An included file has `origin` (the paper its rules are from), `where` and `rules`; it includes no other. A rule judges
documents for which every `where` above it is true.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_specs.document import Document, Mistake, Place, SpecError, kind, read
from data_specs.expressions import normalised, suggestion
from data_specs.sql_parser import ExpressionError

_FILE = ("origin", "rules", "where")
_OWN = Path(__file__).parent / "rules"
"""The files of rules that come with Sluice."""
_ITEM = "`- name: expression` or `- include: file`, with a `where` if need be"


@dataclass
class Ruleset:
    """Rules read so far, and what is wrong with the rest."""

    rules: list[dict[str, Any]] = field(default_factory=list)
    """As `data_specs.spec.Rule` takes them."""
    lines: list[str] = field(default_factory=list)
    """`file:line` of each rule."""
    mistakes: list[Mistake] = field(default_factory=list)

    def read(self, document: Document, guards: tuple[str, ...] = (), origin: str = "") -> None:
        """The rules of a spec, or of an included file with its origin; all judge only where every guard is true."""
        items = document.value["rules"]
        if not isinstance(items, list):
            self.wrong(document, ("rules",), f"rules is {kind(items)}, but should be a list of rules")
            return
        for number, item in enumerate(items):
            place = ("rules", number)
            if not isinstance(item, dict) or len(item.keys() - {"where"}) != 1:
                given = f"has the keys {', '.join(item)}" if isinstance(item, dict) else f"is {kind(item)}"
                self.wrong(document, place, f"rules.{number} {given}, but should be {_ITEM}")
                continue
            [name] = item.keys() - {"where"}
            guarded = guards + self.guard(document, item, place)
            if name != "include":
                self.add(document.line(place), name, item[name], guarded, origin)
            elif origin:
                self.wrong(document, place, "an included file includes no other; include both in the spec")
            else:
                self.include(document, item["include"], place, guarded)

    def add(self, line: str, name: str, drop: Any, guards: tuple[str, ...], origin: str) -> None:
        where = " and ".join(f"({guard})" for guard in guards) if len(guards) > 1 else next(iter(guards), None)
        source = f"{origin} ({line})" if origin else line
        self.rules.append({"name": name, "drop": drop, "where": where, "origin": source})
        self.lines.append(line)

    def include(self, document: Document, name: Any, place: Place, guards: tuple[str, ...]) -> None:
        if not isinstance(name, str):
            self.wrong(document, place, f"include is {kind(name)}, but should be the path of a file of rules")
            return
        path, own = Path(document.file).parent / name, _OWN / f"{Path(name).stem}.yaml"
        try:
            included = read(path)
        except SpecError as error:
            hint = f"; the one that comes with Sluice is {own}" if own.is_file() and not path.exists() else ""
            self.wrong(document, place, f"include: {error}{hint}")
            return
        values = included.value
        if not isinstance(values, dict) or not {"origin", "rules"} <= values.keys():
            self.wrong(included, (), "is no file of rules: it has `rules`, and `origin`, the paper they are from")
            return
        for key in values.keys() - set(_FILE):
            self.wrong(included, (key,), f"{key} is unknown{suggestion(key, _FILE, mark='')}")
        self.read(included, guards + self.guard(included, values, ()), str(values["origin"]))

    def guard(self, document: Document, item: dict[str, Any], place: Place) -> tuple[str, ...]:
        """The `where` of an item or a file, checked by itself, so that several can be joined."""
        if "where" not in item:
            return ()
        place = (*place, "where")
        try:
            normalised(item["where"])
        except ExpressionError as error:
            self.wrong(document, place, f"where: {error}")
            return ()
        return (item["where"],)

    def wrong(self, document: Document, place: Place, text: str) -> None:
        self.mistakes.append((document.line(place), text))
