"""Main text and metadata of pages, extracted in a watched child process of the reader's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_specs.extract import Extract
from data_specs.sources import SourceSettings, UrlList
from tasks.extraction import facts, formulas, judge, main_text
from tasks.extraction.child import Child
from tasks.sources.base import Found, Reader, Records

LIBRARIES = ("trafilatura", "htmldate", "lxml", "python-dateutil", "jusText")
"""Distributions whose versions shape what is extracted."""
_OPTIONS = {"fast", "deepest", "costliest", "extractor", "by_page_type"}


class Pages:
    """Makes documents of pages, or counts them out for what the extraction says."""

    def __init__(self, settings: Extract) -> None:
        self.settings = settings
        module = "at_once" if settings.extractor == "resiliparse" and not settings.by_page_type else "html"
        function = f"tasks.extraction.{module}:extract"
        self._child = Child(function, settings.cpu_seconds, settings.memory, settings.wall_seconds)

    def hashed_settings(self) -> dict[str, Any]:
        """What of the settings shapes values."""
        settings = self.settings.model_dump(mode="json", exclude={"kind", "wall_seconds"})
        judged = {"weights": judge.digest(), "main_text": main_text.VERSION}
        as_it_comes = {"formulas": formulas.VERSION}
        stated = self.settings.metadata == "stated" or self.settings.extractor == "resiliparse"
        taken = judged if self.settings.by_page_type else as_it_comes
        return settings | taken | ({"facts": facts.VERSION} if stated else {})

    def add(self, html: str, page: Found, records: Records, latest: str | None = None) -> None:
        """A page of a record; `latest` is the day on which it was stored."""
        options = self.settings.model_dump(include=_OPTIONS)
        options |= {"form": self.settings.format, "stated": self.settings.metadata == "stated"}
        found = records.extracted(page) or self._child.call(html=html, url=page.url, latest=latest, **options)
        reason = found.pop("reason", None)
        place = page.part, page.offset, page.length
        if reason is None:
            records.keep(*place, page.payload, "html", **found, url=page.url, index=page.index)
        elif reason in ("cpu_limit", "memory_limit", "parser_error"):
            records.quarantine(reason, *place, page.url)
        else:
            records.drop(reason, *place, page.url, found.get("work"), page.columns)

    def close(self) -> None:
        self._child.close()


class PageReader(Reader):
    """What readers of pages share, whatever these lie in: the extraction, and what of it shapes documents."""

    knows = (*Reader.knows, "declared_language")
    extracts = True

    def __init__(
        self, source: str, settings: SourceSettings, extract: Extract, lists: Mapping[str, UrlList] | None = None
    ) -> None:
        super().__init__(source, settings, extract, lists)
        self._pages = Pages(extract)

    def hashed_settings(self) -> dict[str, Any]:
        return {**super().hashed_settings(), "extract": self._pages.hashed_settings()}

    def close(self) -> None:
        self._pages.close()
