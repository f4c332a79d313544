"""What readers of records with named values share: the text of one is a value, or is made of several by a template."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from data_specs.sources import ArrowSource, CsvSource, JsonlSource, ParquetSource
from tasks.sources.base import Reader
from tasks.sources.fields import value
from tasks.sources.templates import Template, hashed


class RowReader(Reader):
    """Reads records with named values."""

    settings: JsonlSource | CsvSource | ParquetSource | ArrowSource

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | hashed(self.settings.template)

    @cached_property
    def template(self) -> Template | None:
        return Template(self.settings.template) if self.settings.template else None

    def lacking(self) -> list[str]:
        return self.template.lacking() if self.template else []

    def text_of(self, row: Mapping[str, Any]) -> str | None:
        """The text of a record; None where it has none. Raises TooLongError."""
        if self.template:
            return self.template.filled(row, self.settings.longest)
        text = value(row, self.settings.text)
        return text if isinstance(text, str) else None
