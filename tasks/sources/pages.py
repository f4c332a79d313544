"""Main text and metadata of pages, extracted in a watched child process of the reader's own."""

from __future__ import annotations

from typing import Any

from data_specs.stages import Extract
from tasks.engine.reading import Part
from tasks.extraction.child import Child
from tasks.sources.base import Records

LIBRARIES = ("trafilatura", "htmldate", "lxml", "python-dateutil", "jusText")
"""Distributions whose versions shape what is extracted."""


class Pages:
    """Makes documents of pages, or counts them out for what the extraction says."""

    def __init__(self, settings: Extract) -> None:
        self.settings = settings
        self._child = Child(
            "tasks.extraction.html:extract", settings.cpu_seconds, settings.memory, settings.wall_seconds
        )

    def hashed_settings(self) -> dict[str, Any]:
        """What of the settings shapes values."""
        return self.settings.model_dump(mode="json", exclude={"kind", "wall_seconds"})

    def add(
        self,
        html: str,
        payload: bytes,
        records: Records,
        part: Part,
        offset: int,
        length: int,
        url: str | None = None,
        latest: str | None = None,
        index: int = 0,
    ) -> None:
        """A page of a record; `latest` is the day on which it was stored, `index` its place among those of an
        offset."""
        options = self.settings.model_dump(include={"fast", "deepest", "costliest"})
        found = self._child.call(html=html, url=url, latest=latest, **options)
        reason = found.pop("reason", None)
        if reason is None:
            records.keep(part, offset, length, payload, "html", **found, url=url, index=index)
        elif reason in ("cpu_limit", "memory_limit", "parser_error"):
            records.quarantine(reason, part, offset, length, url)
        else:
            records.drop(reason, part, offset, length, url, found.get("work"))

    def close(self) -> None:
        self._child.close()
