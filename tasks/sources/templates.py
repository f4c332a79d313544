"""Texts that a template makes of records of several fields: chats, forum threads, questions with answers.

The template is the spec's, in Jinja2's language, as those of chat models are; what records hold is never read as one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

ROW = "row"
"""What a record as a whole is called, for fields whose names are no names of variables."""


_KNOWN = re.compile(
    r"\b(?:clear|copy|fromkeys|get|items|keys|pop|popitem|setdefault|update|values"
    r"|range|dict|lipsum|cycler|joiner|namespace)\b"
)
"""Names that Python and Jinja2 know, too: earlier versions printed what these are in the place of a field."""


class TooLongError(ValueError):
    """A text grows beyond its limit."""


def hashed(source: str | None) -> dict[str, int]:
    """What tells the values that a template gives from those of earlier versions."""
    return {"fields": 2} if source and _KNOWN.search(source) else {}


class Template:
    """A template, ready to be filled."""

    def __init__(self, source: str) -> None:
        from jinja2 import Undefined, meta  # here, as most specs have no template
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Environment(ImmutableSandboxedEnvironment):
            """In which `thread.items` is the field of that name where there is one, else what Python knows by it."""

            def getattr(self, obj: Any, attribute: str) -> Any:
                return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

        self._undefined = Undefined
        environment = Environment(trim_blocks=True, lstrip_blocks=True, finalize=self._printed)
        self._functions = {id(value): name for name, value in environment.globals.items()}
        self._texts = 0
        self._lacking: Counter[str] = Counter()
        """Names that are printed -> records with a text that have nothing of that name."""
        self._now: set[str] = set()
        self._template = environment.from_string(source)
        named = meta.find_undeclared_variables(environment.parse(source))
        self.fields = None if ROW in named else sorted(named)
        """Fields of a record that are read; None: all."""

    def filled(self, row: Mapping[str, Any], longest: int) -> str | None:
        """The text of a record; None where it does not fit the template. Raises TooLongError beyond `longest`
        characters."""
        from jinja2 import TemplateError

        found, size = [], 0
        self._now = set()
        try:
            for piece in self._template.generate({**row, ROW: row}):
                found.append(piece)
                size += len(piece)
                if size > longest:
                    raise TooLongError
        except (TemplateError, TypeError, ArithmeticError, LookupError, AttributeError):
            return None  # whatever a field of another kind than expected makes of it
        self._texts += 1
        self._lacking.update(self._now)
        return "".join(found).encode(errors="ignore").decode()

    def _printed(self, value: Any) -> Any:
        if isinstance(value, self._undefined):
            self._now.add(str(value._undefined_name))
        elif callable(value):  # what the language, or Python, knows by the name of a field that is not there
            self._now.add(self._functions.get(id(value)) or str(getattr(value, "__name__", "")))
            return ""
        return "" if value is None else value

    def lacking(self) -> list[str]:
        """What the template prints and no record with a text had, since this was last asked: a name is misspelt."""
        found = sorted(name for name, records in self._lacking.items() if records == self._texts)
        self._texts, self._lacking = 0, Counter()
        return found
