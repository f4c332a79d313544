"""Pages from folders of HTML files: one document a file.

Dropped are files that are `empty`, larger than `extract.largest` (`too_large`), or look like no page (`not_html`), and
what the extraction refuses. A folder that a crawler made has paths as addresses: `base` makes URLs of them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from data_specs.sources import HtmlSource
from data_specs.stages import Extract
from tasks.extraction import http
from tasks.sources.base import InputShard, Part, Read, Reader, Records, grouped
from tasks.sources.files import opened
from tasks.sources.folder import GROUP, reread
from tasks.sources.pages import LIBRARIES, Pages


class HtmlReader(Reader):
    """Reads HTML files."""

    version = 1
    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse", *LIBRARIES)
    settings: HtmlSource

    def __init__(self, source: str, settings: HtmlSource, extract: Extract) -> None:
        super().__init__(source, settings, extract)
        self._pages = Pages(extract)

    def hashed_settings(self) -> dict[str, Any]:
        return {**super().hashed_settings(), "extract": self._pages.hashed_settings()}

    def remember(self, entry: Mapping[str, Any]) -> None:
        if self.settings.base is None:  # else addresses follow the patterns, and so do names
            super().remember(entry)

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = self.groups(files, GROUP, groups, self.settings.groups)
        return grouped(self.source, files, number), number

    def close(self) -> None:
        self._pages.close()

    def read(self, shard: InputShard) -> Read:
        records = Records(self.source)
        for part in shard.parts:
            with opened(part.path) as file:
                self._page(file.read(self.extract.largest + 1), part, records)
        return records.read()

    def _page(self, body: bytes, part: Part, records: Records) -> None:
        url = None if self.settings.base is None else self.settings.base.rstrip("/") + "/" + part.key
        file = http.Response(200, {}, body)
        reason = None
        if not body or body.isspace():
            reason = "empty"
        elif len(body) > self.extract.largest:
            reason = "too_large"
        elif not http.is_html(file, body):
            reason = "not_html"
        if reason:
            records.drop(reason, part, 0, part.end, url)
        else:
            self._pages.add(http.text(body), body, records, part, 0, len(body), url)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        return reread(self, row)
