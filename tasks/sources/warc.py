"""Pages from WARC files: every record of a page becomes a document, or is counted out with a reason.

Pages are the HTTP responses in `response` records, and what stands without HTTP in `resource` records (warcit writes
such). Records that tell of others (warcinfo, request, metadata) are not counted, nor are revisits, which say that an
address gave once more what it gave before, unless the source asks for it (`revisit`); those of any other type are
dropped as `not_page`: text that others extracted (conversion), the rest of a record begun elsewhere (continuation).
Dropped are `status` (not 2xx), `not_html`, `empty`, `too_large`, `too_deep`, `too_costly` and `no_text`; quarantined
are `cpu_limit`, `memory_limit` and `parser_error` of the extraction, and `truncated`, `no_length`, `no_type`,
`unreadable`, `window` and `bomb` of the file. A file that is no crawl is one record more: `empty_file`, `no_pages`
(WET, WAT: what others extracted), or `arc`, the format before WARC, which has a kind of its own.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import IO, Any, ClassVar

from data_specs.sources import ArcSource, CdxSource, WarcSource
from tasks.extraction import http
from tasks.sources import arc, archive
from tasks.sources.archive import Fault, Record
from tasks.sources.base import Found, InputShard, Part, Records, ranged
from tasks.sources.compression import named
from tasks.sources.files import opened
from tasks.sources.pages import LIBRARIES, PageReader


class WarcReader(PageReader):
    """Reads WARC files, and extracts the pages in them in a child process of its own."""

    version = 9  # short Big5, KOI8 and UTF-16 without a mark are found where nothing names them
    libraries: ClassVar[tuple[str, ...]] = (
        *("FastWARC", "Resiliparse", "brotli", "zstandard"),
        *LIBRARIES,
    )
    knows = (*PageReader.knows, "status", "media", "crawled")
    settings: WarcSource | ArcSource | CdxSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        assert not isinstance(self.settings, CdxSource)  # which has shards of its own
        files = self.listing.files()
        sizes = [self.settings.shard if named(file.key) in ("gz", "zst") else sys.maxsize for file in files]
        return [shard for file, size in zip(files, sizes, strict=True) for shard in ranged(self.source, file, size)], 0

    def read_part(self, part: Part, records: Records) -> None:
        with opened(part.path) as file:
            for found in self._records(file, part):
                if isinstance(found, Fault):
                    records.take_back_at(found.reason, part, found.unsound)
                    records.quarantine(found.reason, part, found.offset, found.span, found.url, found.lost)
                elif found.kind not in archive.PAGES:
                    reason = "revisit" if found.kind == "revisit" else "not_page"
                    records.drop(reason, part, found.offset, found.span, found.url, columns={"crawled": found.date})
                else:
                    self._page(found, part, records)

    def _records(self, file: IO[bytes], part: Part) -> Iterator[Record | Fault]:
        """The records of a part of a file."""
        assert isinstance(self.settings, WarcSource)
        wanted = (*archive.PAGES, "revisit") if self.settings.revisits else archive.PAGES
        return archive.records(file, part.start, part.end, *self._how(part.path), wanted)

    def _again(self, file: IO[bytes], path: str, offset: int) -> Iterator[Record]:
        """The record at a place, or all those of the stream there."""
        return archive.reread(file, offset, *self._how(path))

    def _how(self, path: str) -> tuple[int, str | None, int]:
        """How the records of a file are read: bytes of a block, compression, and its window."""
        assert isinstance(self.settings, WarcSource)
        return self.settings.payload + http.HEAD, named(path), self.settings.window

    def _page(self, record: Record, part: Part, pages: Records) -> None:
        response = _response(record)
        found = Found(part, record.offset, record.span, record.url, record.index, columns={"crawled": record.date})
        drop = partial(_drop, pages, found)
        if response is None:
            return drop("not_html")
        found.payload = response.payload
        found.columns |= {"status": None if record.kind == "resource" else response.status, "media": response.media}
        if response.declares_html is False:
            return drop("not_html" if response.ok else "status")
        if not response.ok:
            return drop("status")
        pages.by_address(found, partial(self._body, record, response, found, pages))

    def _body(self, record: Record, response: http.Response, found: Found, pages: Records) -> None:
        drop = partial(_drop, pages, found)
        try:
            body = http.decoded(response, self.settings.payload)
        except http.TooLargeError:
            return drop("too_large")
        if not body or body.isspace():
            return drop("empty")
        if not http.is_html(response, body):
            return drop("not_html")
        if len(body) > self.extract.largest or record.length > len(record.block):
            return drop("too_large")
        html = http.text(body, response.headers.get("content-type", ""))
        then = partial(self._pages.add, html, found, pages, record.date)
        pages.by_text(found, html, then, html=True, header=response.headers.get("content-language"))

    def reread(self, row: Mapping[str, Any]) -> bytes:
        path = self.listing.path(row["file"])
        with opened(path) as file:
            return self._payload(self._again(file, path, row["offset"]), row)

    def _payload(self, found: Iterable[Record], row: Mapping[str, Any]) -> bytes:
        """The payload of a document's record among some. Raises SourceError where it is none of them."""
        for response in map(_response, found):
            if response and hashlib.sha256(response.payload).hexdigest() == row["payload"]:
                return response.payload
        raise self.changed(row)


class ArcReader(WarcReader):
    """Reads ARC files, the format before WARC."""

    version = 6  # short Big5, KOI8 and UTF-16 without a mark are found where nothing names them
    settings: ArcSource

    def _records(self, file: IO[bytes], part: Part) -> Iterator[Record | Fault]:
        return arc.records(file, part.start, part.end, self.settings.payload + http.HEAD)

    def _again(self, file: IO[bytes], path: str, offset: int) -> Iterator[Record]:
        return arc.reread(file, offset, self.settings.payload + http.HEAD)


def _drop(pages: Records, found: Found, reason: str) -> None:
    pages.drop(reason, found.part, found.offset, found.length, found.url, columns=found.columns)


def _response(record: Record) -> http.Response | None:
    """The HTTP response of a record; of a resource what a server would have said of it; None where there is none."""
    if record.kind == "resource":
        return http.Response(200, {"content-type": record.media}, record.block)
    return http.parse(record.block)
