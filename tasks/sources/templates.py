"""Texts that a template makes of records of several fields: chats, forum threads, questions with answers.

The template is the spec's, in Jinja2's language, as those of chat models are; what records hold is never read as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROW = "row"
"""What a record as a whole is called, for fields whose names are no names of variables."""


class TooLongError(ValueError):
    """A text grows beyond its limit."""


class Template:
    """A template, ready to be filled."""

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, finalize=lambda found: "" if found is None else found
        )
        self._template = environment.from_string(source)
        named = meta.find_undeclared_variables(environment.parse(source))
        self.fields = None if ROW in named else sorted(named)
        """Fields of a record that are read; None: all."""

    def filled(self, row: Mapping[str, Any], longest: int) -> str | None:
        """The text of a record; None where it does not fit the template. Raises TooLongError beyond `longest`
        characters."""
        found, size = [], 0
        try:
            for piece in self._template.generate({**row, ROW: row}):
                found.append(piece)
                size += len(piece)
                if size > longest:
                    raise TooLongError
        except (TemplateError, TypeError, ArithmeticError, LookupError, AttributeError):
            return None  # whatever a field of another kind than expected makes of it
        return "".join(found).encode(errors="ignore").decode()
