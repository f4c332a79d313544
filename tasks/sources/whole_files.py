"""Files of which each is one document: what their readers share.

Dropped are files that are `empty` or above the limit (`too_large`); what else is, their readers say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from data_specs.sources import BookSource, FolderSource, PdfSource
from tasks.sources.base import Found, InputShard, Part, Reader, Records, grouped
from tasks.sources.files import opened

GROUP = 16 * 2**20
"""Bytes of a group of files, about: as much text as 64 MiB of WARC leave."""


class WholeFileReader(Reader):
    """Reads files that are documents; of a kind of them there is left to say what one is made of (`document`)."""

    place_names = True
    settings: FolderSource | BookSource | PdfSource

    @property
    def largest(self) -> int:
        """Bytes of a file, at most."""
        return self.settings.largest

    def address(self, key: str) -> str | None:
        """The URL of a file, where it has one."""
        del key
        return None

    def document(self, found: Found, body: bytes, records: Records) -> None:
        """Add the document of a file's bytes to the records, or why it is none."""
        raise NotImplementedError

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = self.groups(files, GROUP, groups, self.settings.groups)
        return grouped(self.source, files, number), number

    def read_part(self, part: Part, records: Records) -> None:
        found = Found(part, 0, part.end, self.address(part.key))
        records.by_address(found, partial(self._read_whole, found, records))

    def _read_whole(self, found: Found, records: Records) -> None:
        with opened(found.part.path) as file:
            body = file.read(self.largest + 1)
        reason = "empty" if not body or body.isspace() else "too_large" if len(body) > self.largest else None
        if reason:
            return records.drop(reason, found.part, 0, found.length, found.url, columns=found.columns)
        return self.document(found, body, records)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        return reread(self, row)


def reread(reader: Reader, row: Mapping[str, Any]) -> bytes:
    """`Reader.reread` where a document is a file."""
    with opened(reader.listing.path(row["file"])) as file:
        body = file.read(row["length"])
    if hashlib.sha256(body).hexdigest() != row["payload"]:
        raise reader.changed(row)
    return body


def is_binary(body: bytes) -> bool:
    """Whether bytes are no text: they hold a NUL, and do not begin with a byte order mark of UTF-16."""
    return b"\0" in body and not body.startswith((b"\xff\xfe", b"\xfe\xff"))
