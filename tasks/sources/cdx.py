"""Pages of a crawl that its index named: of WARC files the records of a selection alone are transferred.

What the selection holds of a WARC file is that file's part of the source, so files are named by their own names, and a
document's id is what it is where the whole file is read. Records that lie near each other are had with one request. A
revisit is counted as such: what it repeats is another record of the crawl, which the selection has where it is wanted.
Dropped and quarantined are pages as of `warc`, and as `unreadable` bytes that are not the record that the index tells.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from data_specs.sources import CdxSource
from tasks.engine.stage import digest
from tasks.extraction import http
from tasks.sources import archive, far
from tasks.sources.archive import Fault
from tasks.sources.base import InputShard, Part, Records, SourceError, grouped
from tasks.sources.crawl_index import LONGEST_RECORD
from tasks.sources.files import File, absolute, steady
from tasks.sources.warc import WarcReader

_REQUEST = 32 * 2**20
"""Bytes of one request, at most, but for a record that is larger."""
Place = tuple[int, int]
"""Offset and length of a record."""
_PLACES = pa.schema([("filename", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])


class CdxReader(WarcReader):
    """Reads the records of a selection, and extracts the pages in them."""

    version = 6  # short Big5, KOI8 and UTF-16 without a mark are found where nothing names them
    unhashed = WarcReader.unhashed | {"base", "gap"}
    settings: CdxSource

    @cached_property
    def _selected(self) -> dict[str, list[Place]]:
        """The places of each WARC file, in order: of a record of which two lengths are told the greater, which holds it
        whole."""
        found: dict[str, dict[int, int]] = {}
        for file in self.listing.files():
            try:
                with steady(file.path) as raw:
                    table = pq.read_table(
                        raw, columns=_PLACES.names, use_threads=False, page_checksum_verification=True
                    ).cast(_PLACES)
            except SourceError:
                raise
            except (ValueError, KeyError, OSError) as error:  # what Arrow raises of a file that is none
                raise SourceError(
                    f"source {self.source}: {file.path} is no selection of a crawl's pages, as `sluice find` "
                    f"writes them: {str(error).splitlines()[0]}"
                ) from None
            for row, (name, offset, length) in enumerate(zip(*(each.to_pylist() for each in table), strict=True)):
                if None in (name, offset, length) or offset < 0 or not 0 < length <= LONGEST_RECORD:
                    raise SourceError(
                        f"source {self.source}: {file.path}: row {row} does not say where a record lies: filename "
                        f"{name}, offset {offset}, length {length}; select its records again"
                    )
                places = found.setdefault(name, {})
                places[offset] = max(length, places.get(offset, 0))
        return {name: sorted(places.items()) for name, places in sorted(found.items())}

    @property
    def digests(self) -> dict[str, str]:
        return {name: self._digest(name, places) for name, places in self._selected.items()}

    def _digest(self, name: str, places: list[Place]) -> str:
        """Of the places in a file; of one here that does not reach the last of them, as it is still being fetched, of
        its size, too, so that it is read again once it has grown."""
        path, end = self._path(name), max(offset + length for offset, length in places)
        with suppress(OSError):
            if path.startswith("/") and (size := os.stat(path).st_size) < end:
                return digest([places, size])
        return digest(places)

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Nothing: WARC files have their own names, wherever the selection lies."""

    def noted(self, keys: Sequence[str]) -> dict[str, Any]:
        digests = self.digests
        return {"digests": [digests[key] for key in keys]}

    def chooses(self, key: str) -> bool:
        return key in self._selected

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        size = self.settings.shard
        digests = self.digests
        files = [
            File(name, self._path(name), sum(length for _, length in places), digests[name])
            for name, places in self._selected.items()
        ]
        large = [file for file in files if file.size > size]
        rest = [file for file in files if file.size <= size]
        number = self.groups(rest, size, groups)
        shards = grouped(self.source, rest, number)
        return shards + [shard for file in large for shard in self._ranges(file, size)], number

    def _ranges(self, file: File, size: int) -> Iterator[InputShard]:
        """Shards of a file of which much is selected: `start` and `end` count the bytes that are."""
        pieces = -(-file.size // size)
        bounds = [file.size * number // pieces for number in range(pieces + 1)]
        for number, (start, end) in enumerate(pairwise(bounds)):
            part = Part(file.path, file.key, start, end, digest=file.digest)
            name = f"{self.source}-{digest(file.key)[:12]}-{number:04d}"
            yield InputShard(self.source, name, digest([file.key, file.digest, start, end]), (part,))

    def _path(self, name: str) -> str:
        return absolute(f"{self.settings.base.rstrip('/')}/{name.lstrip('/')}")

    def _places(self, part: Part) -> list[Place]:
        """The records that begin in a part."""
        found, begun = [], 0
        for place in self._selected.get(part.key, ()):
            if part.start <= begun < part.end:
                found.append(place)
            begun += place[1]
        return found

    def read_part(self, part: Part, records: Records) -> None:
        for near in one_request_each(self._places(part), self.settings.gap):
            first, end = near[0][0], near[-1][0] + near[-1][1]
            data = self._bytes(part.path, first, end)
            for offset, length in near:
                self._read(data[offset - first : offset - first + length], offset, length, part, records)

    def _read(self, data: bytes, offset: int, length: int, part: Part, records: Records) -> None:
        """The record of a place, in whose bytes no other one begins."""
        limit, window = self.settings.payload + http.HEAD, self.settings.window
        wanted = (*archive.PAGES, "revisit")
        for found in archive.records(io.BytesIO(data), 0, length, limit, None, window, wanted):
            if isinstance(found, Fault):
                return records.quarantine(found.reason, part, offset, length, found.url, length)
            found.offset, found.span = offset, length
            if found.kind in archive.PAGES:
                return self._page(found, part, records)
            reason = "revisit" if found.kind == "revisit" else "not_page"
            return records.drop(reason, part, offset, length, found.url, columns={"crawled": found.date})
        records.drop("not_page", part, offset, length)  # one that tells of another, as a request does

    def _bytes(self, path: str, start: int, end: int) -> bytes:
        """A range of a file, by one request. Raises OSError where it cannot be had."""
        try:
            fs, plain = fsspec.core.url_to_fs(path, **far.options(path))
            data: bytes = fs.cat_file(plain, start=start, end=end)
        except Exception as error:
            raise OSError(f"{path}: {far.reason(error)}") from error
        if len(data) > end - start:
            raise OSError(f"{path}: the server gives no ranges of a file, but all {len(data):,} bytes of it")
        return data

    def reread(self, row: Mapping[str, Any]) -> bytes:
        data = self._bytes(self._path(row["file"]), row["offset"], row["offset"] + row["length"])
        limit = self.settings.payload + http.HEAD
        return self._payload(archive.reread(io.BytesIO(data), 0, limit, None, self.settings.window), row)


def one_request_each(places: list[Place], gap: int) -> Iterator[list[Place]]:
    """Places in order, those that are had with one request together: not more than `gap` bytes lie between two."""
    near: list[Place] = []
    for place in places:
        end = near[-1][0] + near[-1][1] if near else 0
        if near and (place[0] - end > gap or place[0] + place[1] - near[0][0] > _REQUEST):
            yield near
            near = []
        near.append(place)
    if near:
        yield near
