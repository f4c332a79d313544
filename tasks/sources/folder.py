"""Documents from folders of text and of source code: one document a file.

Dropped are files that are `empty`, above the limit (`too_large`), or binary (`not_text`: they hold a NUL byte and no
byte order mark). Markdown and LaTeX are recognised by suffix, LaTeX in .txt files and files without one by its first
command, so that rules for prose need not judge them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, ClassVar

from data_specs.sources import FolderSource
from tasks.extraction import http
from tasks.sources.base import RAW, Found, Records
from tasks.sources.whole_files import WholeFileReader, is_binary

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


class FolderReader(WholeFileReader):
    """Reads text files."""

    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse",)
    knows = ("file", "offset", "length", *RAW)
    settings: FolderSource

    def fingerprint_fields(self) -> dict[str, Any]:
        """Of text four versions later: encodings that nothing names are found, also of short texts, and all characters
        of EUC-JP. Code, which is hardly ever anything but UTF-8, is not read anew for it."""
        fields = super().fingerprint_fields()
        return fields | {"version": self.version + 4 * (self.settings.kind == "text")}

    def document(self, found: Found, body: bytes, records: Records) -> None:
        if is_binary(body):
            return records.drop("not_text", found.part, 0, found.length)
        found.length, found.payload = len(body), body
        text, key = http.text(body, meta=False), found.part.key
        form = kind(key, text, self.settings.kind)
        records.by_text(found, text, partial(records.keep, found.part, 0, len(body), body, form, text))
