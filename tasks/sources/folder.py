"""Documents from folders of text and of source code: one document a file.

Dropped are files that are `empty`, above the limit (`too_large`), or binary (`not_text`: they hold a NUL byte and no
byte order mark). Markdown and LaTeX are recognised by suffix, LaTeX in .txt files and files without one by its first
command, so that rules for prose need not judge them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from data_specs.sources import FolderSource
from tasks.extraction import http
from tasks.sources.base import RAW, Found, InputShard, Part, Reader, Records, grouped
from tasks.sources.files import opened

GROUP = 16 * 2**20
"""Bytes of a group of files, about: as much text as 64 MiB of WARC leave."""
_KINDS = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mdx", ".mkd"), "markdown"),
    **dict.fromkeys((".tex", ".latex", ".ltx", ".sty", ".cls", ".bib"), "latex"),
}
_LATEX = re.compile(r"\A(?:\s++|%.*+\n)*+\\(?:documentclass|documentstyle|begin\{|usepackage|section\{|chapter\{)")


def kind(key: str, text: str, default: str) -> str:
    """`markdown`, `latex`, or the default."""
    name = key.rpartition("/")[2]
    suffix = "." + name.rpartition(".")[2].lower() if "." in name else ""
    if suffix in ("", ".txt") and _LATEX.match(text):
        return "latex"
    return _KINDS.get(suffix, default)


def shards_of_files(reader: Reader, pinned: int | None, wanted: int) -> tuple[list[InputShard], int]:
    """Shards of a source whose files are documents, put together to about GROUP bytes, and how many groups: see
    `Reader.groups`."""
    files = reader.listing.files()
    number = reader.groups(files, GROUP, pinned, wanted)
    return grouped(reader.source, files, number), number


def read_whole(found: Found, largest: int, records: Records) -> bytes | None:
    """The bytes of a file that is a record; None where it is counted out as `empty` or `too_large`."""
    with opened(found.part.path) as file:
        body = file.read(largest + 1)
    reason = "empty" if not body or body.isspace() else "too_large" if len(body) > largest else None
    if reason:
        records.drop(reason, found.part, 0, found.length, found.url, columns=found.columns)
        return None
    return body


def is_binary(body: bytes) -> bool:
    """Whether bytes are no text: they hold a NUL, and do not begin with a byte order mark of UTF-16."""
    return b"\0" in body and not body.startswith((b"\xff\xfe", b"\xfe\xff"))


class FolderReader(Reader):
    """Reads text files."""

    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse",)
    knows = ("file", "offset", "length", *RAW)
    place_names = True
    settings: FolderSource

    def fingerprint_fields(self) -> dict[str, Any]:
        """Of text four versions later: encodings that nothing names are found, also of short texts, and all characters
        of EUC-JP. Code, which is hardly ever anything but UTF-8, is not read anew for it."""
        fields = super().fingerprint_fields()
        return fields | {"version": self.version + 4 * (self.settings.kind == "text")}

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        return shards_of_files(self, groups, self.settings.groups)

    def read_part(self, part: Part, records: Records) -> None:
        found = Found(part, 0, part.end)
        records.by_address(found, partial(self._document, found, records))

    def _document(self, found: Found, records: Records) -> None:
        body = read_whole(found, self.settings.largest, records)
        if body is None:
            return
        if is_binary(body):
            return records.drop("not_text", found.part, 0, found.length)
        found.length, found.payload = len(body), body
        text, key = http.text(body, meta=False), found.part.key
        form = kind(key, text, self.settings.kind)
        records.by_text(found, text, partial(records.keep, found.part, 0, len(body), body, form, text))

    def reread(self, row: Mapping[str, Any]) -> bytes:
        return reread(self, row)


def reread(reader: Reader, row: Mapping[str, Any]) -> bytes:
    """`Reader.reread` where a document is a file."""
    with opened(reader.listing.path(row["file"])) as file:
        body = file.read(row["length"])
    if hashlib.sha256(body).hexdigest() != row["payload"]:
        raise reader.changed(row)
    return body
