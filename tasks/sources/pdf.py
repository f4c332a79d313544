"""Documents from PDF files: one document a file, the text of its text layer.

Extracted in a child process with limits. Dropped are files that are `empty`, above the limits (`too_large`: bytes,
pages, text), no PDF (`not_text`), locked (`encrypted`), and without text: pictures of pages (`no_text_layer`), or
nothing at all (`no_text`). Quarantined are what PDFium cannot open (`unreadable`), and `cpu_limit`, `memory_limit` and
`parser_error`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from data_specs.extract import Extract
from data_specs.sources import PdfSource, SourceSettings, UrlList
from tasks.extraction.child import Child
from tasks.sources.base import RAW, Found, Reader, Records
from tasks.sources.whole_files import WholeFileReader

_MARK = b"%PDF-"
_WITHIN = 1024
"""Bytes in which a file's mark stands: readers of PDF pass over what is before it."""
_QUARANTINED = ("unreadable", "cpu_limit", "memory_limit", "parser_error")


class PdfReader(WholeFileReader):
    """Reads PDF files."""

    version = 2  # words of the letters of Roman numbers are no numbers of pages
    libraries: ClassVar[tuple[str, ...]] = ("pypdfium2",)
    unhashed = Reader.unhashed | {"wall_seconds"}
    knows = ("file", "offset", "length", *RAW)
    settings: PdfSource

    def __init__(
        self, source: str, settings: SourceSettings, extract: Extract, lists: Mapping[str, UrlList] | None = None
    ) -> None:
        super().__init__(source, settings, extract, lists)
        assert isinstance(settings, PdfSource)
        limits = settings.cpu_seconds, settings.memory, settings.wall_seconds
        self._child = Child("tasks.extraction.pdf:extract", *limits)

    def document(self, found: Found, body: bytes, records: Records) -> None:
        place = found.part, 0, found.length
        if _MARK not in body[:_WITHIN]:
            return records.drop("not_text", *place)
        found.length, found.payload = len(body), body
        extracted = self._extracted(body)
        reason = extracted.get("reason")
        if reason in _QUARANTINED:
            return records.quarantine(reason, *place)
        if reason:
            return records.drop(reason, *place)
        own = self.columns(extracted)
        found.columns |= own
        more = {"title": extracted["title"], "author": extracted["author"], "own": own}
        keep = partial(records.keep, found.part, 0, len(body), body, "text", extracted["text"], **more)
        records.by_text(found, extracted["text"], keep)

    def _extracted(self, body: bytes) -> dict[str, Any]:
        """What the child says of a file, which it has by its path."""
        with tempfile.NamedTemporaryFile(prefix="sluice-", suffix=".pdf") as file:
            file.write(body)
            file.flush()
            return self._child.call(path=file.name, pages=self.settings.pages, longest=self.settings.longest)

    def close(self) -> None:
        self._child.close()
