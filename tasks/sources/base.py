"""What the readers of all kinds of sources share: the shard they are given, what they return, and the balance of it."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from data_specs.sources import SourceSettings
from data_specs.stages import Extract
from tasks.sources.files import File, Listing, SourceError
from tasks.sources.text import line, normalise
from tasks.stage import DOCUMENTS, Recipe, digest


@dataclass(frozen=True)
class Part:
    """A range of a file's bytes, `end` excluded. `key` names the file within its source, wherever it lies."""

    path: str
    key: str
    start: int
    end: int


@dataclass(frozen=True)
class InputShard:
    """The unit of work of reading a source.

    `name` is stable (it follows from the file, or from the number of the group) and has no slash. `digest` is of the
    input: of names, ranges and contents of local files, of names, ranges, sizes and validators of remote ones.
    """

    source: str
    name: str
    digest: str
    parts: tuple[Part, ...]


class LedgerError(RuntimeError):
    """A reader did not account for every record: a bug of that reader."""


@dataclass(frozen=True)
class Read:
    """The documents of a shard (schema DOCUMENTS, in source order), and where every record went:
    `{"in": n, "dropped": {reason: n}, "quarantined": {reason: n}}`. Raises LedgerError where they do not add up."""

    documents: pa.Table
    ledger: dict[str, Any]

    def __post_init__(self) -> None:
        gone = sum(self.ledger["dropped"].values()) + sum(self.ledger["quarantined"].values())
        if self.ledger["in"] != self.documents.num_rows + gone:
            raise LedgerError(
                f"{self.ledger['in']} records in, {self.documents.num_rows} documents, {gone} counted out"
            )


class Records:
    """The records of one shard on their way: each becomes a document, or is dropped or quarantined for a reason."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._rows: list[dict[str, Any]] = []
        self._dropped: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self._in = 0

    def drop(self, reason: str) -> None:
        """Count out a record that is no document."""
        self._in += 1
        self._dropped[reason] += 1

    def quarantine(self, reason: str) -> None:
        """Count out a record that could not be worked on."""
        self._in += 1
        self._quarantined[reason] += 1

    def keep(self, part: Part, offset: int, length: int, payload: bytes, kind: str, text: str, **more: Any) -> None:
        """Make a document of a record, or drop it as `no_text`. `payload` is as stored.

        `more` may give `url`, `title`, `date`, `author`, `site`, and `index`, the place of the record among those that
        share its offset. Key, offset and index name a record within its source however the source is cut into shards,
        so no two documents have one id.
        """
        text = normalise(text)
        if not text:
            self.drop("no_text")
            return
        self._in += 1
        record = "\0".join((self.source, part.key, str(offset), str(more.pop("index", 0))))
        names = {name: line(more.get(name)) for name in ("title", "author", "site")}
        self._rows.append(
            {
                "id": hashlib.blake2b(record.encode(errors="surrogatepass"), digest_size=16).digest(),
                "source": self.source,
                "text": text,
                "kind": kind,
                "file": part.key,
                "offset": offset,
                "length": length,
                "payload": hashlib.sha256(payload).hexdigest(),
                **more,
                **names,
            }
        )

    def read(self) -> Read:
        """The shard's documents and ledger."""
        ledger = {"in": self._in, "dropped": _sorted(self._dropped), "quarantined": _sorted(self._quarantined)}
        return Read(pa.Table.from_pylist(self._rows, DOCUMENTS), ledger)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


class Reader(Recipe):
    """Reads one source: lists its shards, and makes documents of a shard's records."""

    name = "documents"
    reads = ()
    writes = DOCUMENTS
    unhashed: ClassVar[frozenset[str]] = frozenset({"paths", "license", "count", "match", "shard", "listing", "groups"})
    """Which files are read and how they are cut is in the shards' digests."""

    def __init__(self, source: str, settings: SourceSettings, extract: Extract) -> None:
        super().__init__(settings)
        self.source = source
        self.extract = extract
        self.listing = Listing(source, settings)

    def declared(self) -> dict[str, Any]:
        return {"source": self.source, **super().declared()}

    @abstractmethod
    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        """The shards of the source, in order, and the number of groups its files are put into: `groups` where a
        number is pinned, 0 where files are not grouped. Raises SourceError where the source cannot be listed."""

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
            tuple(Part(file.path, file.key, 0, file.size) for file in members[number]),
        )
        for number in sorted(members)
    ]


def groups_for(files: Sequence[File], size: int) -> int:
    """How many groups to put files into at first reading: of about `size` bytes, and at least four if there are as
    many files, so that small sources are read in parallel too."""
    return min(len(files), max(4, -(-sum(file.size for file in files) // size)))
