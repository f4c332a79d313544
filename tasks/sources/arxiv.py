"""Papers from arXiv's sources: one document a paper, its LaTeX.

A file is an archive as arXiv gives them out (`arXiv_src_*.tar`: in it a `.gz` a paper, which holds one TeX file or an
archive of several), or the `.gz` of one paper. Dropped are papers without LaTeX (`no_source`: a PDF, a withdrawal),
above the limit (`too_large`) and without text (`no_text`); quarantined are those that cannot be unpacked (`unreadable`,
`truncated`), and archives that break off.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import IO, Any, ClassVar

from data_specs.sources import ArxivSource
from tasks.extraction import http
from tasks.sources import latex, tar
from tasks.sources.base import Found, InputShard, Part, Reader, Records, ranged
from tasks.sources.files import opened
from tasks.sources.templates import TooLongError

_TEXTS = re.compile(r"\.(?:tex|ltx|latex|sty|txt|xxx|inc|tikz)\Z|(?:\A|/)[^./]+\Z", re.IGNORECASE)
"""Names of files that may hold LaTeX."""
_NUMBER = re.compile(
    r"(?:\A|/)(?:([0-9]{4}\.[0-9]{4,5})|([a-z-]+(?:\.[A-Z]{2})?)([0-9]{7}))(?:v[0-9]+)?\.(?:tar\.)?(?:gz|tgz)\Z"
)


class PaperError(ValueError):
    """A paper that cannot be unpacked, for the reason that it is counted under."""


class ArxivReader(Reader):
    """Reads arXiv's sources."""

    version = 9  # a paper that names files again and again is too large; files are read as deep as TeX opens them
    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse",)
    settings: ArxivSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        return [shard for file in files for shard in ranged(self.source, file, sys.maxsize)], 0

    def read_part(self, part: Part, records: Records) -> None:
        with opened(part.path) as file:
            if not tar.is_tar(file.read(tar.BLOCK)):
                return self._paper(part.key, file, 0, part.end, part, records)
            file.seek(0)
            place = 0
            try:
                for member in tar.members(file, alone=True):
                    place = member.start
                    if member.start + member.size > part.end:
                        raise tar.TarError("truncated")
                    self._paper(member.name, file, member.start, member.size, part, records)
                    place = member.start + member.size
            except tar.TarError as error:
                records.quarantine(str(error), part, place, part.end - place, lost=part.end - place)

    def _paper(self, name: str, file: IO[bytes], start: int, size: int, part: Part, records: Records) -> None:
        found = Found(part, start, size, _url(name))
        if size > self.settings.largest:
            return records.drop("too_large", part, start, size, found.url)
        file.seek(start)
        found.payload = file.read(size)
        records.by_address(found, partial(self._text, found, records))

    def _text(self, found: Found, records: Records) -> None:
        place = found.part, found.offset, found.length
        try:
            paper = latex.paper(self._files(found.payload))
        except PaperError as error:
            drop = records.drop if str(error) in ("too_large", "no_source") else records.quarantine
            return drop(str(error), *place, found.url)
        except TooLongError:
            return records.drop("too_large", *place, found.url)
        if paper is None:
            return records.drop("no_source", *place, found.url)
        keep = partial(records.keep, *place, found.payload, "latex", paper.text, url=found.url, title=paper.title)
        records.by_text(found, paper.text, keep)

    def _files(self, payload: bytes) -> dict[str, str]:
        """The files of a paper that may hold LaTeX, by name."""
        body = self._unpacked(payload) if payload.startswith(b"\x1f\x8b") else payload
        if not tar.is_tar(body):
            if body.startswith(b"%PDF") or b"\0" in body[:4096]:
                raise PaperError("no_source")
            return {"main.tex": http.text(body, meta=False)}
        return dict(self._of_tar(body))

    def _of_tar(self, body: bytes) -> Iterator[tuple[str, str]]:
        left = self.settings.longest
        try:
            for member in tar.members(io.BytesIO(body)):
                if not _TEXTS.search(member.name):
                    continue
                data = body[member.start : member.start + member.size]
                left -= len(data)
                if left < 0:
                    raise PaperError("too_large")
                if b"\0" not in data:
                    yield member.name.removeprefix("./"), http.text(data, meta=False)
        except tar.TarError as error:
            raise PaperError(str(error)) from error

    def _unpacked(self, payload: bytes) -> bytes:
        engine = zlib.decompressobj(31)
        try:
            body = engine.decompress(payload, self.settings.unpacked + 1)
        except zlib.error as error:
            raise PaperError("unreadable") from error
        if len(body) > self.settings.unpacked:
            raise PaperError("too_large")
        if not engine.eof:
            raise PaperError("truncated")
        return body

    def reread(self, row: Mapping[str, Any]) -> bytes:
        with opened(self.listing.path(row["file"])) as file:
            file.seek(row["offset"])
            found = file.read(row["length"])
        if hashlib.sha256(found).hexdigest() != row["payload"]:
            raise self.changed(row)
        return found


def _url(name: str) -> str | None:
    """The address of a paper, by the name of its file."""
    number = _NUMBER.search(name)
    return f"https://arxiv.org/abs/{number[1] or f'{number[2]}/{number[3]}'}" if number else None
