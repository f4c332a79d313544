"""What the engine needs of a source: the shards of its input, what reading one returns, and what lists and reads them.

The readers themselves, a kind of source each, are in `tasks.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from data_specs.amounts import plural
from data_specs.redaction import in_one_line

URL = 2_000
"""Characters of a refused record's address, at most."""
RECORD = pa.schema(
    [
        ("status", pa.int64()),  # of the HTTP response
        ("media", pa.string()),  # its media type, lower case
        ("crawled", pa.string()),  # ISO 8601 day
        ("payload", pa.string()),  # sha256 of the payload as stored, hexadecimal
        ("declared_language", pa.string()),  # what the page or its server says
        ("raw_length", pa.int64()),  # characters of the page, or of the text as it stands
        ("raw_language", pa.string()),  # of the text before its extraction
        ("raw_language_score", pa.float32()),
    ]
)
"""What is known of a record before its text is extracted, beside its place and address. null: not known, or not asked
for."""
RAW_LANGUAGE = ("raw_language", "raw_language_score")
"""Those of RECORD that a document has, too, where its source asks for them. They are no part of what names documents:
those that an earlier version read lack them, and are not read again for them."""
EXTRACTED = ["text", "title", "date", "author", "site"]
"""Columns of a document that extraction makes."""
REFUSED = pa.schema(
    [
        ("source", pa.string()),
        ("url", pa.string()),
        ("reason", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        *RECORD,
        ("measures", pa.string()),
    ]
)
"""Columns of the records that reading refuses; `measures` is what else was counted of one, as JSON. null: not known."""


def refused_path(documents: str) -> str:
    """Where a shard's refused records are, by the path of its documents."""
    return documents.removesuffix(".parquet") + ".refused.parquet"


class SourceError(ValueError):
    """A source cannot be read; the message, in one line, names the source, the pattern and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


@dataclass(frozen=True)
class Part:
    """A range of a file's bytes, `end` excluded. `key` names the file within its source, wherever it lies."""

    path: str
    key: str
    start: int
    end: int
    written: str = ""
    """What told when the file was listed that it is the same one; empty where nothing does."""
    digest: str = ""
    """Of the file, as it was listed: what tells that it changed."""


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
    stored: str = ""
    """Path of its documents, without an ending, where some of its files have left: it cannot be read again."""


class LedgerError(RuntimeError):
    """Not every record is accounted for, though none may be lost; the message says what to do."""


@dataclass(frozen=True)
class Read:
    """The documents of a shard (schema DOCUMENTS, in source order), and where every record went:
    `{"in": n, "dropped": {reason: n}, "quarantined": {reason: n}}`, and where any are quarantined `"files": {key:
    {reason: n}}`, which of the shard's files they are of, and `"lost": n`, bytes of files that could not be read, where
    there are some. `refused` (schema REFUSED) has a row for each that is no document, of very many for the first.
    Raises LedgerError where they do not add up."""

    documents: pa.Table
    ledger: dict[str, Any]
    refused: pa.Table = field(default_factory=REFUSED.empty_table)

    def __post_init__(self) -> None:
        gone = sum(self.ledger["dropped"].values()) + sum(self.ledger["quarantined"].values())
        if self.ledger["in"] != self.documents.num_rows + gone:
            raise LedgerError(
                f"{plural(self.ledger['in'], 'record')} in, {plural(self.documents.num_rows, 'document')}, {gone} "
                "counted out: a bug in the reader, report it with the file"
            )


class Reader(Protocol):
    """Reads one source."""

    regrouped: str
    """Why files were put into other groups than were pinned, so that all are read again; for people."""

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Files that `shards` found and that cannot be read, by key, and why; for people."""

    @property
    def digests(self) -> Mapping[str, str]:
        """The digests of the contents of the files that `shards` found, by key."""

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Before `shards`: what the last run noted of the source (`noted`), with the keys of its `files`."""

    def noted(self, keys: Sequence[str]) -> dict[str, Any]:
        """After `shards`: what the next run has to know of the files `keys`. JSON."""

    @property
    def payload_settings(self) -> Mapping[str, Any]:
        """The settings that the payloads of records hang on."""

    def payload_settings_of(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same of some settings of a source, such as those that a folder of documents was made with."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the source's documents."""

    @property
    def writes(self) -> pa.Schema:
        """DOCUMENTS, and the source's own columns."""

    @property
    def named(self) -> Mapping[str, pa.DataType]:
        """Columns of documents that the source's settings name a key of its records for, which may be misspelt."""

    def chooses(self, key: str) -> bool:
        """Whether the source's settings choose a file of this key, were it there."""

    def fingerprint_fields(self) -> dict[str, Any]:
        """The fingerprint in the clear."""

    @property
    def extracts(self) -> bool:
        """Whether making a document takes an extraction."""

    def refusals(self) -> Sequence[tuple[str, str, str]]:
        """What it refuses before extraction: the reason, the expression, and by what it is decided, `address` or
        `text`."""

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        """The shards of the source, in order, and the number of groups its files are put into: 0 where they are not
        grouped, else `groups`, the pinned number, as long as it fits. Raises SourceError where the source cannot be
        listed."""

    def read(self, shard: InputShard, earlier: pa.Table | None = None) -> Read:
        """Read a shard; what was extracted of records that are `earlier` documents is taken from them. Raises OSError
        where a file can no longer be read, SourceError where one changed since it was listed: that is not the record's
        fault."""
