"""Pages from folders of HTML files: one document a file.

Dropped are files that are `empty`, larger than `extract.largest` (`too_large`), or look like no page (`not_html`), and
what the extraction refuses. A folder that a crawler made has paths as addresses: `base` makes URLs of them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from data_specs.sources import HtmlSource
from tasks.extraction import http
from tasks.sources.base import Found, Records
from tasks.sources.names import below
from tasks.sources.pages import LIBRARIES, PageReader
from tasks.sources.whole_files import WholeFileReader


def address(base: str | None, key: str) -> str | None:
    """The URL of a file: `https://x.org/blog/b` of `../blog/b` where `https://x.org/docs` stands for the folder that
    keys are relative to; None where nothing stands for it, or the key leads out of the site."""
    if base is None:
        return None
    url, site = below(base.rstrip("/") + "/", key), "/".join(base.split("/")[:3]) + "/"
    return url if url.startswith(site) else None


class HtmlReader(WholeFileReader, PageReader):
    """Reads HTML files."""

    version = 6  # short Big5, KOI8 and UTF-16 without a mark are found where nothing names them
    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse", *LIBRARIES)
    settings: HtmlSource  # type: ignore[assignment]

    @property
    def largest(self) -> int:
        return self.extract.largest

    def address(self, key: str) -> str | None:
        return address(self.settings.base, key)

    def remember(self, entry: Mapping[str, Any]) -> None:
        if entry.get("base") == self.settings.base:  # another one stands for the folder that the patterns share now
            super().remember(entry)

    def noted(self, keys: Sequence[str]) -> dict[str, Any]:
        return super().noted(keys) | ({} if self.settings.base is None else {"base": self.settings.base})

    def document(self, found: Found, body: bytes, records: Records) -> None:
        if not http.is_html(http.Response(200, {}, body), body):
            return records.drop("not_html", found.part, 0, found.length, found.url, columns=found.columns)
        found.length, found.payload = len(body), body
        html = http.text(body)
        records.by_text(found, html, partial(self._pages.add, html, found, records), html=True)
