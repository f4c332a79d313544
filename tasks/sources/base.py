"""What the readers of all kinds of sources share: their settings, and how files become shards."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, ClassVar

import pyarrow as pa

from data_specs.amounts import plural
from data_specs.extract import Extract
from data_specs.sources import SourceSettings, UrlList
from tasks.engine.reading import RAW_LANGUAGE, RECORD, InputShard, Part, Read, SourceError
from tasks.engine.stage import DOCUMENTS, Fingerprinted, digest
from tasks.sources.admission import Admission, Admitted
from tasks.sources.compression import WINDOW
from tasks.sources.fields import value
from tasks.sources.files import File, Listing, unchanged
from tasks.sources.names import Noted
from tasks.sources.records import Found, Records
from tasks.sources.taken_down import TakenDown

__all__ = ["Found", "InputShard", "Part", "Read", "Reader", "Records", "grouped", "ranged"]

RAW = ("raw_length", *RAW_LANGUAGE)
_OUTGROWN = 4
"""Files are grouped anew where the mean group is so many times as large as it should be. Until then a new file changes
one shard."""

_LATER: tuple[tuple[str, Any], ...] = (
    ("window", WINDOW),
    ("columns", {}),
    ("keys", {}),
    ("template", None),
    ("longest", 8 * 2**20),
    ("revisits", False),
)
"""Settings that came later, as they are in fingerprints that do not know them."""
TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
"""What the types of a source's own columns are called in specs."""


def typed(value: Any, kind: pa.DataType) -> Any:
    """A value as a column of a type keeps it; None for one of another type. Whole numbers are numbers of both kinds."""
    if isinstance(value, bool) or value is None:
        return value if kind == pa.bool_() else None
    if isinstance(value, str):
        return value.encode(errors="ignore").decode() if kind == pa.string() else None
    if isinstance(value, int | float | Decimal) and math.isfinite(value):
        if kind == pa.float64():
            return float(value)
        if kind == pa.int64() and value == int(value) and -(2**63) <= value < 2**63:
            beyond = isinstance(value, float) and value == -(2.0**63)  # or what a parser made of a smaller number
            return None if beyond else int(value)
    return None


class Reader(Fingerprinted):
    """Reads one source: lists its shards, and makes documents of a shard's records."""

    name = "documents"
    version = 2  # of the marks in a row that a text has, 30 are kept
    of_all: ClassVar[int] = 0
    """Raised, with the reason beside it, when what all readers share gives other values: most have a `version` of their
    own."""
    reads = ()
    writes = DOCUMENTS
    unhashed: ClassVar[frozenset[str]] = frozenset(
        {"paths", "license", "count", "match", "shard", "listing", "groups", "refuse", "refuse_same_payload"}
    )
    """Which files are read and how they are cut is in the shards' digests; what is refused the admission says."""

    knows: ClassVar[tuple[str, ...]] = ("url", "host", "file", "offset", "length", "payload", *RAW)
    """Columns of its records beside the source's own: of PLACE and RECORD."""
    taken_down: TakenDown | None = None
    """What was taken down from the store, which a record is held against before it becomes a document."""
    place_names: ClassVar[bool] = False
    """Whether a record without an address is named by its place: it is a file, or its payload hangs on settings. Where
    one was taken down, all that stands there later is; elsewhere a record of another payload is another document."""
    extracts: ClassVar[bool] = False
    """Whether making a document takes an extraction, which is worth to be taken over."""

    def __init__(
        self, source: str, settings: SourceSettings, extract: Extract, lists: Mapping[str, UrlList] | None = None
    ) -> None:
        """`lists`: those of the spec. Raises SourceError where one that the source asks for cannot be read."""
        super().__init__(settings)
        self.source = source
        self.extract = extract
        self.own = {name: TYPES[kind] for name, kind in getattr(settings, "columns", {}).items()}
        self.admission = Admission(settings, lists or {}, pa.schema(self.own.items()))
        raw = map(RECORD.field, RAW_LANGUAGE if self.admission.identifies else ())
        self.writes = pa.schema([*DOCUMENTS, *self.own.items(), *raw])
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
        """What the next run has to know of the files `keys`: how they are named, the digests of their contents, and
        where payloads hang on settings, on which."""
        found = {"names": self.listing.names(), "digests": [self.listing.digests[key] for key in keys]}
        return found | ({"payload_settings": self.payload_settings} if self.payload_settings else {})

    @property
    def payload_settings(self) -> dict[str, Any]:
        """The settings that the payloads of records hang on: none where a payload is what stands in the file."""
        return self.payload_settings_of(self.settings.model_dump(mode="json"))

    def payload_settings_of(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The same of some settings of a source, such as those that a folder of documents was made with."""
        return {}

    @property
    def named(self) -> dict[str, pa.DataType]:
        """Columns of documents that the settings name a key of the source's records for, which may be misspelt."""
        keys = type(self.settings).model_fields.keys() & {"columns", "url"}
        url = {"url": pa.string()} if "url" in keys & self.settings.model_fields_set else {}
        return {**url, **(self.own if "columns" in keys else {})}

    def hashed_settings(self) -> dict[str, Any]:
        settings = {"source": self.source, **super().hashed_settings()}
        settings = {name: value for name, value in settings.items() if (name, value) not in _LATER}
        return settings | {"refuse": self.admission.hashed_settings()} if self.admission else settings

    def fingerprint_fields(self) -> dict[str, Any]:
        fields = super().fingerprint_fields()
        fields["writes"] = {name: kind for name, kind in fields["writes"].items() if name not in RAW_LANGUAGE}
        return fields | ({"of_all": self.of_all} if self.of_all else {})

    def refusals(self) -> list[tuple[str, str, str]]:
        """What is refused before extraction: the reason, the expression, and by what, `address` or `text`."""
        repeated = {"same_payload": "payload of a record before it in its shard"} if self.admission.repeated else {}
        asked = (("address", self.admission.early), ("text", self.admission.late | repeated))
        return [(reason, text, by) for by, refuse in asked for reason, text in refuse.items()]

    def records(self, earlier: pa.Table | None = None) -> Records:
        """What takes the records of a shard."""
        if self.admission:
            found: Records = Admitted(self.source, self.writes, self.admission, earlier)
        else:
            found = Records(self.source, self.writes, earlier)
        found.taken_down, found.place_names = self.taken_down, self.place_names
        return found

    def columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The source's own columns of a record; null where a value is not of its type."""
        keys = getattr(self.settings, "keys", {})
        return {name: typed(value(row, keys.get(name, name)), kind) for name, kind in self.own.items()}

    def chooses(self, key: str) -> bool:
        """Whether the source's settings choose a file of this key, were it there."""
        return self.listing.chooses(key)

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
            self.regrouped = f"all its files are read again, in {plural(number, 'group')} now, {why}"
        return number

    def read(self, shard: InputShard, earlier: pa.Table | None = None) -> Read:
        """Read a shard. Of records that are `earlier` documents, which another admission chose (columns `id` and
        EXTRACTED), these columns are taken. Raises OSError where a file can no longer be read, SourceError
        where one is another than was listed: that is not the record's fault."""
        self.lacking()  # of a shard that failed
        records = self.records(earlier)
        try:
            for part in shard.parts:
                self.read_part(part, records)
        finally:  # before what an error says of a file that is another one now
            unchanged(shard.parts)
        found = records.read()
        return replace(found, ledger=found.ledger | {"lacking": lacking}) if (lacking := self.lacking()) else found

    def lacking(self) -> list[str]:
        """What the settings ask of records and none had that was read since this was last asked."""
        return []

    @abstractmethod
    def read_part(self, part: Part, records: Records) -> None:
        """Read the records of a part of a shard."""

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
            tuple(Part(file.path, file.key, 0, file.size, file.written, file.digest) for file in members[number]),
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
            (Part(file.path, file.key, start, end, file.written, file.digest),),
        )
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
