"""The takedowns of a store: `takedowns/000001.json` and on, each what was asked for and what went.

One counts from the moment its file is there: readers refuse what it names, in every lineage of the store, for ever. It
has ended once what it names is purged (`tasks.engine.purge`); until then no run goes on. Addresses and domains stand
here as they were given, since later crawls are held against them; of texts there are digests alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tasks.storage.checksums import unsealed
from tasks.storage.numbered import Numbered
from tasks.storage.store import DamagedError, Store, StoreError

REASON = "takedown"
"""What the ledger calls it."""
TAKEN_DOWN = "taken_down"
"""The `kind` of the row that is left of a document: its id and its place in the source stay, nothing else does."""
_FOLDER = "takedowns"
_BEGAN = re.compile(r"\d{8}T\d{6}-")
"""How the name of a run begins, in UTC (flows/record.py)."""

Takedown = dict[str, Any]
"""{"takedown": number, "time", "spec", "asked": {"urls", "domains", "ids", "only"}, "ids" (of documents that go, but
for those in whose place another one stands), "payloads" {id: those of its record, as `documents` has them}, "urls",
"texts" and "words" (digests) that later crawls are held against beside what was asked for ("words" of texts but for
case, spacing and punctuation; earlier versions' takedowns have neither these nor "payloads"), "documents" {path: rows},
"shards" {digest of ids: rows}, "tokens" {path: rows} (none by earlier versions), "named" (what was learned from them,
holds or shows them), "ended"}."""


class PendingError(StoreError):
    """A takedown was begun and has not ended; the message says what to do."""


class Takedowns:
    """The takedowns of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._files = Numbered(store, _FOLDER)
        numbers, gone = self._files.numbers()
        if gone:
            path = self._files.path(gone[0])
            raise DamagedError(
                f"{path} is gone: bring it back from a copy; without it, what it took down would come again", path
            )
        paths = [*map(self._files.path, numbers)]
        self.all: list[Takedown] = [_read(*found) for found in zip(paths, store.read_each(paths), strict=True)]
        """Oldest first."""

    def __bool__(self) -> bool:
        return bool(self.all)

    @property
    def ids(self) -> frozenset[bytes]:
        """Ids of the documents of which a row alone is left, or will be: one that was asked for may not be there."""
        return frozenset[bytes]().union(*map(ids_of, self.all))

    @property
    def payloads(self) -> dict[bytes, frozenset[str]]:
        """Of ids the payloads of the records that went, of each by whichever takedown; none of one that was not there,
        that went by an earlier version, or of which a record went whose payload is not known."""
        found: dict[str, set[str | None]] = {}
        for name, payloads in (item for each in self.all for item in each.get("payloads", {}).items()):
            found.setdefault(name, set()).update(payloads)
        return {bytes.fromhex(name): frozenset(filter(None, each)) for name, each in found.items() if None not in each}

    def named(self, name: str) -> Iterator[str]:
        """All `urls`, `domains`, `texts` or `words` that later crawls are held against."""
        for each in self.all:
            yield from each["asked"].get(name, ())
            yield from each.get(name, ())

    @property
    def pending(self) -> Takedown | None:
        """The takedown that was begun and has not ended; there is one at most, the newest."""
        return self.all[-1] if self.all and not self.all[-1]["ended"] else None

    def before_newest(self, run: str) -> bool:
        """Whether what a run wrote, by its name, may be from before the newest takedown, which it then was not held
        against; runs are named by when they began."""
        newest = "".join(each for each in self.all[-1]["time"][:19] if each not in "-:") if self.all else ""
        return not (newest and _BEGAN.match(run) and run[:15] > newest)

    def settled(self) -> None:
        """Raises PendingError where a takedown has not ended."""
        if found := self.pending:
            raise PendingError(
                f"takedown {found['takedown']} of {self.store.url} was begun and has not ended: "
                "`sluice takedown SPEC --yes` goes on with it"
            )

    def begin(self, facts: Takedown) -> Takedown:
        """Commit a takedown under the next number; from here on it counts. Raises StoreError where another has been
        begun meanwhile."""
        number = len(self.all) + 1
        found = {"takedown": number, "time": datetime.now(UTC).isoformat(timespec="seconds"), **facts, "ended": False}
        if not self._files.create(number, found):
            raise StoreError(f"another takedown of {self.store.url} has been begun meanwhile: run again")
        self.all.append(found)
        return found

    def end(self, found: Takedown) -> None:
        """Note that all that a takedown names is purged."""
        found["ended"] = True
        self.store.commit_json(self._files.path(found["takedown"]), found)

    def of(self, document: str) -> Takedown | None:
        """The takedown that a document went with, by its id."""
        return next((each for each in self.all if bytes.fromhex(document) in ids_of(each)), None)


def _read(path: str, data: bytes) -> Takedown:
    """A takedown as it was written; none was ever written without its checksum."""
    try:
        found: Takedown = unsealed(data, path, always=True)
    except ValueError as error:
        raise DamagedError(
            f"{path} is damaged or was edited ({error}): bring it back from a copy, as without it what it took down "
            "would come again; `sluice takedown` takes more down",
            path,
        ) from error
    return found


def ids_of(takedown: Takedown) -> frozenset[bytes]:
    """Of the documents that go by a takedown."""
    return frozenset(map(bytes.fromhex, (*takedown["ids"], *takedown["asked"]["ids"])))


def text_digest(text: bytes) -> str:
    """What tells a text that was taken down, where another address has it."""
    return hashlib.blake2b(text, digest_size=16).hexdigest()
