"""The records of a shard on their way: each becomes a document, or is counted out with a reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine.reading import EXTRACTED, Part, Read, SourceError
from tasks.engine.stage import DOCUMENTS
from tasks.engine.takedowns import REASON, TAKEN_DOWN
from tasks.sources.refused import Refused
from tasks.sources.taken_down import TakenDown
from tasks.sources.text import line, normalise

LARGEST = 2**31 - 1
"""Bytes of text and addresses that a shard can hold: an Arrow column of strings addresses them with 32 bits."""
_BATCH = 2**24
"""Bytes of text and addresses that are made a batch of rows."""
_NAMED = 100
"""Files of a shard, at most, whose quarantined records are counted by name: a ledger is kept in memory."""


@dataclass
class Found:
    """A record that may become a document, and what is known of it."""

    part: Part
    offset: int
    length: int
    url: str | None = None
    index: int = 0
    """Its place among the records that share its offset."""
    payload: bytes = b""
    """As stored."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Those of RECORD, and of the source's own, that are known."""
    raw: str = ""
    """Text of which the language is identified."""

    @property
    def place(self) -> tuple[Part, int, int]:
        """What tells it from all others of its source."""
        return self.part, self.offset, self.index


class Records:
    """The records of one shard on their way: each becomes a document, or is dropped or quarantined for a reason."""

    taken_down: TakenDown | None = None
    """What was taken down from the store; None where nothing was."""
    place_names = False
    """Whether a record without an address is named by its place, whatever it holds."""

    def __init__(self, source: str, schema: pa.Schema = DOCUMENTS, earlier: pa.Table | None = None) -> None:
        """`schema`: DOCUMENTS, and the source's own columns. `earlier`: documents of records among these, of which `id`
        and EXTRACTED are known."""
        self._earlier = earlier
        ids = earlier["id"].to_pylist() if earlier else ()
        self._place = {found: place for place, found in enumerate(ids)}
        self._instead: dict[bytes, bytes] = {}
        """Ids of what stands where another record was taken down, by the id of that one."""
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
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """Count out a record that is no document; `measures` are what led to that, `columns` those of RECORD."""
        self._in += 1
        self._dropped[reason] += 1
        self._refused.add(reason, part, offset, length, url, measures, columns)

    def by_address(self, found: Found, then: Callable[[], None]) -> None:
        """Go on with a record, unless the source refuses it by what is known before its body is decoded."""
        then()

    def by_text(
        self, found: Found, text: str, then: Callable[[], None], html: bool = False, header: str | None = None
    ) -> None:
        """Go on with a record whose body is decoded, unless the source refuses it. `header` is its Content-Language."""
        then()

    def text(self, found: Found, text: str, **more: Any) -> None:
        """Make a document of a record that is a text, unless the source refuses it; its columns are the source's own
        unless `own` says which are, and `more` is what `keep` takes."""
        more.setdefault("own", dict(found.columns))
        keep = partial(
            self.keep,
            *(found.part, found.offset, found.length, found.payload, "text", text),
            url=found.url,
            **more,
        )
        self.by_address(found, lambda: self.by_text(found, text, keep))

    def quarantine(
        self,
        reason: str,
        part: Part,
        offset: int,
        length: int | None = None,
        url: str | None = None,
        lost: int = 0,
        measures: Mapping[str, Any] | None = None,
    ) -> None:
        """Count out a record of a file that could not be worked on, or what stands for `lost` bytes of the file;
        `length` is None where it is not known how far it goes, `measures` are what led to that."""
        self._refused.add(reason, part, offset, length, url, measures)
        self._in += 1
        self._lost += lost
        self._quarantined[reason] += 1
        if part.key in self._files or len(self._files) < _NAMED:
            self._files.setdefault(part.key, Counter())[reason] += 1

    def take_back(self, reason: str, part: Part, since: int) -> None:
        """Quarantine the documents of a file that end behind a place of it: nothing vouches for what was read there."""

        def behind(batch: pa.RecordBatch) -> pa.Array:
            ends = pc.add(batch["offset"], batch["length"])
            return pc.fill_null(pc.and_(pc.equal(batch["file"], part.key), pc.greater(ends, since)), False)

        self._take_back(reason, part, behind)

    def take_back_at(self, reason: str, part: Part, places: Iterable[tuple[int, int]]) -> None:
        """Quarantine the documents of a file's records of some offsets and indices."""
        names = [self._id(part, *place) for place in places]
        ids = pa.array([self._instead.get(name, name) for name in names], DOCUMENTS.field("id").type)
        if len(ids):
            self._take_back(reason, part, lambda batch: pc.is_in(batch["id"], ids))

    def _take_back(self, reason: str, part: Part, which: Callable[[pa.RecordBatch], pa.Array]) -> None:
        if self._rows:
            self._gather()
        sound = []
        for batch in self._batches:
            wrong = which(batch)
            for row in batch.select(["offset", "length", "url"]).filter(wrong).to_pylist():
                self._in -= 1
                Records.quarantine(self, reason, part, row["offset"], row["length"], row["url"])
            sound.append(batch.filter(pc.invert(wrong)))
        self._batches = sound

    def keep(self, part: Part, offset: int, length: int, payload: bytes, kind: str, text: str, **more: Any) -> None:
        """Make a document of a record, or drop it: as `no_text`, or as `takedown`. `payload` is as stored.

        `more` may give `url`, `title`, `date`, `author`, `site`, `own` (the source's own columns) and `index`, the
        place of the record among those that share its offset. Key, offset and index name a record within its source
        however the source is cut into shards, so no two documents have one id. Raises SourceError where the shard has
        more text, addresses and values of its own than `LARGEST`.
        """
        text, url, name = normalise(text), more.pop("url", None), self._id(part, offset, more.pop("index", 0))
        content = hashlib.sha256(payload).hexdigest()
        name, gone = self._standing(name, content, url)
        if gone:
            return self._tombstone(name, part, offset, length)
        if not text:
            return self.drop("no_text", part, offset, length, url)
        encoded = text.encode()  # as strings they would take up to four times as much memory
        if self.taken_down and (self.taken_down.names(url) or self.taken_down.has(text, kind)):
            return self.drop(REASON, part, offset, length, url)
        url = url if url is None else url.encode()
        size, own = self._size, more.pop("own", {})
        self._grow(part, len(encoded) + len(url or b""), own)
        self._in += 1
        names = {name: line(more.get(name)) for name in ("title", "author", "site")}
        self._rows.append(
            {
                "id": name,
                "source": self.source,
                "url": url,
                "text": encoded,
                "kind": kind,
                "file": part.key,
                "offset": offset,
                "length": length,
                "payload": content,
                **own,
                **more,
                **names,
            }
        )
        if self._size // _BATCH > size // _BATCH:
            self._gather()

    def _standing(self, name: bytes, content: str, url: str | None) -> tuple[bytes, bool]:
        """The id of what stands in the place of a record that has this one, and whether it was taken down."""
        if not self.taken_down or name not in self.taken_down.ids:
            return name, False
        if not self.taken_down.other_at(name, content) or (url is None and self.place_names):
            return name, True
        name = self._id_instead(name, content)
        return name, name in self.taken_down.ids

    def _grow(self, part: Part, size: int, own: Mapping[str, Any]) -> None:
        """Count in the bytes of a document. Raises SourceError where the shard has more than it can hold."""
        self._size += size + sum(len(value.encode()) for value in own.values() if isinstance(value, str))
        if self._size > LARGEST:
            raise SourceError(
                f"source {self.source}: {part.path} makes a shard of more than {LARGEST / 2**30:.0f} GiB of text; "
                "cut it into files of some 100 MB (a compressed file is never split), or set a smaller `shard`"
            )

    def _tombstone(self, name: bytes, part: Part, offset: int, length: int) -> None:
        """The row that is left of a document that was taken down: so no other one of its shard moves."""
        self._in += 1
        place = {"id": name, "source": self.source, "file": part.key, "offset": offset, "length": length}
        self._rows.append(place | {"text": b"", "kind": TAKEN_DOWN})

    def extracted(self, found: Found) -> dict[str, Any] | None:
        """What was extracted of a record, where that is known."""
        place = self._place.get(self._id(*found.place)) if self._place else None
        if place is None or self._earlier is None:
            return None
        row: dict[str, Any] = self._earlier.slice(place, 1).select(EXTRACTED).to_pylist()[0]
        return row

    def _id(self, part: Part, offset: int, index: int) -> bytes:
        """The id of the document that the record of a place becomes."""
        record = "\0".join((self.source, part.key, str(offset), str(index)))
        return hashlib.blake2b(record.encode(errors="surrogatepass"), digest_size=16).digest()

    def _id_instead(self, name: bytes, payload: str) -> bytes:
        """The id of a document whose record stands where another one was taken down: not that of the other one."""
        made = hashlib.blake2b(name + payload.encode(), digest_size=16).digest()
        return self._instead.setdefault(name, made)

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
