"""Books from EPUB and plain text: one document a file.

What Project Gutenberg puts around a text is cut off; title, author, date, language and subjects are those that the file
tells. Dropped are files that are `empty`, above the limit, unpacked or not (`too_large`), binary (`not_text`), locked
(`encrypted`), or without text (`no_text`); an EPUB that is no archive of a book is quarantined as `unreadable`, and a
chapter that it names and has not is one quarantined record more, `missing`.
"""

from __future__ import annotations

import io
from functools import partial
from typing import ClassVar

from data_specs.sources import BookSource
from tasks.extraction import http
from tasks.sources import epub, gutenberg
from tasks.sources.base import RAW, Found, Records
from tasks.sources.text import day
from tasks.sources.whole_files import WholeFileReader, is_binary

_ZIP = b"PK\x03\x04"


class BookReader(WholeFileReader):
    """Reads books."""

    version = 14  # lists of three links through a book lead, too
    libraries: ClassVar[tuple[str, ...]] = ("lxml", "Resiliparse")
    knows = ("file", "offset", "length", *RAW)
    settings: BookSource

    def document(self, found: Found, body: bytes, records: Records) -> None:
        place = found.part, 0, found.length
        found.length, found.payload = len(body), body
        try:
            book = self._epub(body) if body.startswith(_ZIP) else self._plain(body)
        except epub.EpubError as error:
            if error.reason == "unreadable":
                return records.quarantine(error.reason, *place)
            return records.drop(error.reason, *place)
        if book is None:
            return records.drop("not_text", *place)
        for _ in range(book.missing):
            records.quarantine("missing", *place)
        own = self.columns({"book_language": book.language, "subjects": "|".join(book.subjects) or None})
        found.columns |= own
        more = {"title": book.title, "author": book.author, "date": book.date, "own": own}
        keep = partial(records.keep, found.part, 0, len(body), body, "text", book.text, **more)
        records.by_text(found, book.text, keep)

    def _epub(self, body: bytes) -> epub.Epub:
        book = epub.read(io.BytesIO(body), self.settings.largest)
        book.text, book.date = gutenberg.cut(book.text).text, day(book.date)
        return book

    def _plain(self, body: bytes) -> epub.Epub | None:
        if is_binary(body):
            return None
        book = gutenberg.cut(http.text(body, meta=False).replace("\r\n", "\n"))
        return epub.Epub(book.text, book.title, book.author, book.language)
