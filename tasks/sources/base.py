"""What the readers of all kinds of sources share: how files become shards, and records documents."""

from __future__ import annotations

import hashlib
import math
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pyarrow as pa

from data_specs.sources import SourceSettings
from data_specs.stages import Extract
from tasks.engine.reading import InputShard, Part, Read, SourceError
from tasks.engine.stage import DOCUMENTS, Fingerprinted, digest
from tasks.sources.compression import WINDOW
from tasks.sources.files import File, Listing
from tasks.sources.names import Noted
from tasks.sources.refused import Refused
from tasks.sources.text import line, normalise

LARGEST = 2**31 - 1
"""Bytes of text and addresses that a shard can hold: an Arrow column of strings addresses them with 32 bits."""
_OUTGROWN = 4
"""Files are grouped anew where the mean group is so many times as large as it should be. Until then a new file changes
one shard."""

_BATCH = 2**24
"""Bytes of text and addresses that are made a batch of rows."""
_NAMED = 100
"""Files of a shard, at most, whose quarantined records are counted by name: a ledger is kept in memory."""


_LATER: tuple[tuple[str, Any], ...] = (("window", WINDOW), ("columns", {}))
"""Settings that came later, as they are in fingerprints that do not know them."""
TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
"""What the types of a source's own columns are called in specs."""


def typed(value: Any, kind: pa.DataType) -> Any:
    """A value as a column of a type keeps it; None for one of another type. Whole numbers are numbers of both kinds."""
    if isinstance(value, bool) or value is None:
        return value if kind == pa.bool_() else None
    if isinstance(value, str):
        return value.encode(errors="ignore").decode() if kind == pa.string() else None
    if isinstance(value, int | float) and math.isfinite(value):
        if kind == pa.float64():
            return float(value)
        if kind == pa.int64() and value == int(value) and -(2**63) <= value < 2**63:
            return int(value)
    return None


class Records:
    """The records of one shard on their way: each becomes a document, or is dropped or quarantined for a reason."""

    def __init__(self, source: str, schema: pa.Schema = DOCUMENTS) -> None:
        """`schema`: DOCUMENTS, and the source's own columns."""
        self.source, self._schema = source, schema
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._dropped: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self._files: dict[str, Counter[str]] = {}
        self._in = self._size = self._lost = 0
        self._refused = Refused(source)

    def drop(
        self,
        reason: str,
        part: Part,
        offset: int,
        length: int | None,
        url: str | None = None,
        measures: Mapping[str, Any] | None = None,
    ) -> None:
        """Count out a record that is no document; `measures` are what led to that."""
        self._in += 1
        self._dropped[reason] += 1
        self._refused.add(reason, part, offset, length, url, measures)

    def quarantine(
        self, reason: str, part: Part, offset: int, length: int | None = None, url: str | None = None, lost: int = 0
    ) -> None:
        """Count out a record of a file that could not be worked on, or what stands for `lost` bytes of the file;
        `length` is None where it is not known how far it goes."""
        self._refused.add(reason, part, offset, length, url, None)
        self._in += 1
        self._lost += lost
        self._quarantined[reason] += 1
        if part.key in self._files or len(self._files) < _NAMED:
            self._files.setdefault(part.key, Counter())[reason] += 1

    def keep(self, part: Part, offset: int, length: int, payload: bytes, kind: str, text: str, **more: Any) -> None:
        """Make a document of a record, or drop it as `no_text`. `payload` is as stored.

        `more` may give `url`, `title`, `date`, `author`, `site`, `own` (the source's own columns) and `index`, the
        place of the record among those that share its offset. Key, offset and index name a record within its source
        however the source is cut into shards, so no two documents have one id. Raises SourceError where the shard has
        more text, addresses and values of its own than `LARGEST`.
        """
        text = normalise(text)
        if not text:
            self.drop("no_text", part, offset, length, more.get("url"))
            return
        # As strings they would take up to four times as much memory.
        encoded, url = text.encode(), more.pop("url", None)
        url = url if url is None else url.encode()
        size, own = self._size, more.pop("own", {})
        self._size += len(encoded) + len(url or b"")
        self._size += sum(len(value.encode()) for value in own.values() if isinstance(value, str))
        if self._size > LARGEST:
            raise SourceError(
                f"source {self.source}: {part.path} makes a shard of more than {LARGEST / 2**30:.0f} GiB of text; "
                "cut it into files of some 100 MB (a compressed file is never split), or set a smaller `shard`"
            )
        self._in += 1
        record = "\0".join((self.source, part.key, str(offset), str(more.pop("index", 0))))
        names = {name: line(more.get(name)) for name in ("title", "author", "site")}
        self._rows.append(
            {
                "id": hashlib.blake2b(record.encode(errors="surrogatepass"), digest_size=16).digest(),
                "source": self.source,
                "url": url,
                "text": encoded,
                "kind": kind,
                "file": part.key,
                "offset": offset,
                "length": length,
                "payload": hashlib.sha256(payload).hexdigest(),
                **own,
                **more,
                **names,
            }
        )
        if self._size // _BATCH > size // _BATCH:
            self._gather()

    def _gather(self) -> None:
        """Make a batch of the rows: a column that grows by itself takes three times its size in the end."""
        self._batches.append(pa.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows = []

    def read(self) -> Read:
        """The shard's documents and ledger, and what was refused."""
        ledger: dict[str, Any] = {"in": self._in, "dropped": _sorted(self._dropped)}
        ledger["quarantined"] = _sorted(self._quarantined)
        if self._files:
            ledger["files"] = {key: _sorted(reasons) for key, reasons in self._files.items()}
        if self._lost:
            ledger["lost"] = self._lost
        if self._rows or not self._batches:
            self._gather()
        return Read(pa.Table.from_batches(self._batches).combine_chunks(), ledger, self._refused.table())


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


class Reader(Fingerprinted):
    """Reads one source: lists its shards, and makes documents of a shard's records."""

    name = "documents"
    version = 2  # of the marks in a row that a text has, 30 are kept
    reads = ()
    writes = DOCUMENTS
    unhashed: ClassVar[frozenset[str]] = frozenset({"paths", "license", "count", "match", "shard", "listing", "groups"})
    """Which files are read and how they are cut is in the shards' digests."""

    def __init__(self, source: str, settings: SourceSettings, extract: Extract) -> None:
        super().__init__(settings)
        self.source = source
        self.extract = extract
        self.own = {name: TYPES[kind] for name, kind in getattr(settings, "columns", {}).items()}
        self.writes = pa.schema([*DOCUMENTS, *self.own.items()])
        self.listing = Listing(source, settings)
        self.regrouped = ""
        """Why files were put into other groups than were pinned, so that all are read again; for people."""

    @property
    def unreadable(self) -> dict[str, str]:
        """Files that were listed and cannot be read, by key, and why."""
        return self.listing.unreadable

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the files that were listed, by key."""
        return self.listing.digests

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Name files as the last run did, by the source's entry in its listing."""
        self.listing.noted = Noted.of(entry)

    def noted(self, keys: Sequence[str]) -> dict[str, Any]:
        """What the next run has to know of the files `keys`: how they are named, and the digests of their contents."""
        return {"names": self.listing.names(), "digests": [self.listing.digests[key] for key in keys]}

    def hashed_settings(self) -> dict[str, Any]:
        settings = {"source": self.source, **super().hashed_settings()}
        return {name: value for name, value in settings.items() if (name, value) not in _LATER}

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The source's own columns of a record; null where a value is not of its type."""
        return {name: typed(row.get(name), kind) for name, kind in self.own.items()}

    @abstractmethod
    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        """The shards of the source, in order, and the number of groups its files are put into: 0 where they are not
        grouped, else `groups`, the pinned number, as long as it fits. Raises SourceError where the source cannot be
        listed."""

    def groups(self, files: Sequence[File], size: int, pinned: int | None, wanted: int = 0) -> int:
        """How many groups to put files into: `wanted`; or else what is `pinned`; or else, and where the files have
        outgrown that, groups of about `size` bytes, but at least four, so that small sources are read in parallel."""
        fitting = -(-sum(file.size for file in files) // size)
        number = wanted or (pinned if pinned and fitting < _OUTGROWN * pinned else max(4, fitting))
        if pinned and number != pinned:
            why = "as `groups` says" if wanted else f"as they have outgrown {pinned}"
            self.regrouped = f"all its files are read again, in {number} groups now, {why}"
        return number

    @abstractmethod
    def read(self, shard: InputShard) -> Read:
        """Read a shard. Raises OSError where a file can no longer be read: that is not the record's fault."""

    @abstractmethod
    def reread(self, row: Mapping[str, Any]) -> bytes:
        """The payload of a document's record, as stored; `row` has its columns `file`, `offset`, `length` and
        `payload`. Raises SourceError where the file no longer holds it."""

    def changed(self, row: Mapping[str, Any]) -> SourceError:
        """The error of `reread` where a file is not what it was."""
        path = self.listing.path(row["file"])
        return SourceError(
            f"source {self.source}: {path} no longer holds the record at byte {row['offset']:,}; "
            "the file has changed since it was read: run again to read it anew"
        )

    def close(self) -> None:
        """Let go of what `setup` took."""


def grouped(source: str, files: Sequence[File], groups: int) -> list[InputShard]:
    """Shards of whole files, grouped by the hash of their keys: a new file changes one shard."""
    members: dict[int, list[File]] = {}
    for file in files:
        members.setdefault(int(digest(file.key), 16) % groups, []).append(file)
    return [
        InputShard(
            source,
            f"{source}-{number:05d}",
            digest([[file.key, file.digest] for file in members[number]]),
            tuple(Part(file.path, file.key, 0, file.size, file.written) for file in members[number]),
        )
        for number in sorted(members)
    ]


def ranged(source: str, file: File, size: int) -> list[InputShard]:
    """Shards of one file: byte ranges of about `size` bytes."""
    stem = re.sub(r"(\.warc|\.jsonl?)?(\.gz)?$", "", file.key.rpartition("/")[2], flags=re.IGNORECASE)
    name = f"{source}-{re.sub(r'[^A-Za-z0-9._]+', '-', stem)[:60]}-{digest(file.key)[:6]}"
    pieces = max(1, -(-file.size // size))
    bounds = [file.size * number // pieces for number in range(pieces + 1)]
    return [
        InputShard(
            source,
            f"{name}-{number:04d}",
            digest([file.key, file.digest, start, end]),
            (Part(file.path, file.key, start, end, file.written),),
        )
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
