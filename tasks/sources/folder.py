"""Documents from folders of text and of source code: one document a file.

Dropped are files that are `empty`, above the limit (`too_large`), or binary (`not_text`: they hold a NUL byte and no
byte order mark). Markdown and LaTeX are recognised by suffix, LaTeX in .txt files and files without one by its first
command, so that rules for prose need not judge them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from data_specs.sources import FolderSource
from tasks.extraction import http
from tasks.sources.base import InputShard, Part, Read, Reader, Records, grouped
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


class FolderReader(Reader):
    """Reads text files."""

    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse",)
    settings: FolderSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        number = self.groups(files, GROUP, groups, self.settings.groups)
        return grouped(self.source, files, number), number

    def read(self, shard: InputShard) -> Read:
        records = Records(self.source)
        for part in shard.parts:
            with opened(part.path) as file:
                body = file.read(self.settings.largest + 1)
            if not body or body.isspace():
                records.drop("empty", part, 0, part.end)
            elif len(body) > self.settings.largest:
                records.drop("too_large", part, 0, part.end)
            elif b"\0" in body and not body.startswith((b"\xff\xfe", b"\xfe\xff")):
                records.drop("not_text", part, 0, part.end)
            else:
                self._document(body, part, records)
        return records.read()

    def _document(self, body: bytes, part: Part, records: Records) -> None:
        text = http.text(body, meta=False)
        records.keep(part, 0, len(body), body, kind(part.key, text, self.settings.kind), text)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        return reread(self, row)


def reread(reader: Reader, row: Mapping[str, Any]) -> bytes:
    """`Reader.reread` where a document is a file."""
    with opened(reader.listing.path(row["file"])) as file:
        body = file.read(row["length"])
    if hashlib.sha256(body).hexdigest() != row["payload"]:
        raise reader.changed(row)
    return body
