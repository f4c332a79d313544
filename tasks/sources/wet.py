"""Texts from WET files: the plain text that a crawl's maker took from each page, one document a `conversion` record.

Such a text is all of a page, menus and footers too, without lines that belong together: where the WARC files can be
had, `warc` makes better texts of them. Records that tell of others (warcinfo) are not counted; those of any other type
are dropped as `not_text`. Dropped are texts above `largest` (`too_large`) and without anything (`no_text`). Faults of
the file are those of `tasks.sources.warc`; a file without such a record at its beginning is `no_pages`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from data_specs.sources import WetSource
from tasks.sources import archive
from tasks.sources.archive import TEXTS, Fault, Record
from tasks.sources.base import Found, InputShard, Part, Reader, Records, ranged
from tasks.sources.compression import named
from tasks.sources.files import opened


class WetReader(Reader):
    """Reads WET files."""

    version = 1
    libraries: ClassVar[tuple[str, ...]] = ("FastWARC", "zstandard")
    knows = (*Reader.knows, "media", "crawled")
    settings: WetSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        sizes = [self.settings.shard if named(file.key) in ("gz", "zst") else sys.maxsize for file in files]
        return [shard for file, size in zip(files, sizes, strict=True) for shard in ranged(self.source, file, size)], 0

    def read_part(self, part: Part, records: Records) -> None:
        limit, how = self.settings.largest, (named(part.path), self.settings.window, TEXTS)
        with opened(part.path) as file:
            for found in archive.records(file, part.start, part.end, limit, *how):
                if isinstance(found, Fault):
                    records.take_back_at(found.reason, part, found.unsound)
                    records.quarantine(found.reason, part, found.offset, found.span, found.url, found.lost)
                else:
                    self._document(found, part, records)

    def _document(self, record: Record, part: Part, records: Records) -> None:
        own = self.columns({"languages": record.languages.lower() or None})
        known = {"media": record.media.partition(";")[0].strip().lower() or None, "crawled": record.date, **own}
        place = part, record.offset, record.span, record.url
        if record.kind not in TEXTS:
            return records.drop("not_text", *place, columns=known)
        if record.length > len(record.block):
            return records.drop("too_large", *place, columns=known)
        found = Found(*place, record.index, record.block, known)
        text = record.block.decode(errors="replace")
        records.text(found, text, own=own, index=record.index)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        path = self.listing.path(row["file"])
        how = self.settings.largest, named(path), self.settings.window, TEXTS
        with opened(path) as file:
            for record in archive.reread(file, row["offset"], *how):
                if hashlib.sha256(record.block).hexdigest() == row["payload"]:
                    return record.block
        raise self.changed(row)
