"""The versions of a corpus: `versions/<lineage>/000003.json`, never written over.

A version names its shards by generations (those that came together), and of each generation and stage the keys of the
outputs, so it can be read when the spec has changed or files have left. Lists of shards and of keys are files of their
own, named by their digest: what a version has in common with the one before is not written again. So 100,000 shards of
15 stages cost 30 MB once, and a night that adds to them what is new and what it changed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine.reading import InputShard, Part, refused_path
from tasks.engine.stage import digest
from tasks.storage import columns
from tasks.storage.checksums import sealed
from tasks.storage.numbered import Numbered
from tasks.storage.store import DamagedError, Store, StoreError

log = logging.getLogger("sluice")

ACCEPTED, REFUSED = "accepted", "refused"
COUNTS = "counts"
"""What versions call the counts of shards (`tasks.engine.counts`), which are no columns of documents."""
_PART = pa.struct([("key", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("digest", pa.string())])
SHARDS = pa.schema(
    [
        ("source", pa.string()),
        ("name", pa.string()),
        ("digest", pa.string()),
        ("folder", pa.string()),
        ("parts", pa.list_(_PART)),
    ]
)
"""A list of shards; `folder` is that of its documents."""
_WIDTH = 16
"""Bytes of a key."""

Facts = dict[str, Any]
"""What is written of a version: see `docs/corpus_versions.md`."""


class VersionError(ValueError):
    """There is no such version; the message says which there are."""


class Versions:
    """The versions of one lineage (the spec's name)."""

    def __init__(self, store: Store, lineage: str) -> None:
        self.store, self.lineage = store, lineage
        self.folder = f"versions/{lineage}"
        self._files = Numbered(store, self.folder)

    def numbers(self) -> list[int]:
        """Numbers of all versions, oldest first. Raises DamagedError where the newest one is lost, as the next would
        take its number and be made of other generations."""
        numbers, gone = self._files.numbers()
        if gone and gone[-1] > max(numbers, default=0):
            path, note = self._path(gone[-1]), self._files.note(gone[-1])
            raise DamagedError(
                f"{path} is gone: bring it back from a copy, or remove {note}, too, to go on from the version before",
                path,
            )
        return numbers

    def read(self, number: int) -> Facts:
        """One version. Raises VersionError where there is none of that number."""
        try:
            return self.store.json(self._path(number))
        except FileNotFoundError:
            known = ", ".join(map(str, self.numbers())) or "none"
            raise VersionError(f"{self.lineage} has no version {number}; there are {known}") from None
        except DamagedError:
            raise _damaged(self._path(number)) from None

    def all(self) -> list[Facts]:
        """Every version, oldest first."""
        return list(self.store.json_each([self._path(number) for number in self.numbers()]))

    @cached_property
    def accepted(self) -> Facts | None:
        """The newest version that was accepted, as it was when this was first asked."""
        for number in reversed(self.numbers()):
            if (found := self.read(number))["state"] == ACCEPTED:
                return found
        return None

    def newest(self) -> Facts | None:
        """The newest version, accepted or not."""
        numbers = self.numbers()
        return self.read(numbers[-1]) if numbers else None

    def create(self, facts: Facts) -> None:
        """Commit a version under its number. Raises StoreError where another run has meanwhile."""
        if not self._files.create(facts["version"], facts):
            raise StoreError(
                f"another run of {self.lineage} has made version {facts['version']} of the corpus meanwhile: run again"
            )

    def _path(self, number: int) -> str:
        return self._files.path(number)

    def documents_folders(self, source: str) -> list[str]:
        """Where the documents of a source lie that the last accepted version has, those of newer generations first."""
        found: list[str] = []
        for generation in reversed(self.accepted["generations"] if self.accepted else ()):
            shards = self.shards(generation["names"])
            found += shards["folder"].filter(pc.equal(shards["source"], source)).to_pylist()
        return [*dict.fromkeys(found)]

    # -- takedowns --------------------------------------------------------------------------------------------------

    def purged(self, number: int) -> list[int]:
        """The takedowns that have purged documents of a version, by number."""
        try:
            return self.store.json(self._purged(number))["takedowns"]
        except FileNotFoundError:
            return []

    def naming(self, documents: AbstractSet[str]) -> list[int]:
        """The numbers of the versions that have some documents, by the paths of their files."""
        return [facts["version"] for facts in self.all() if not documents.isdisjoint(self.files(facts, "documents"))]

    def purge(self, number: int, takedown: int) -> None:
        """Note that a takedown has purged documents of a version."""
        takedowns = sorted({*self.purged(number), takedown})
        self.store.commit_json(self._purged(number), {"takedowns": takedowns})

    def _purged(self, number: int) -> str:
        return f"{self.folder}/purged/{number:06d}.json"

    # -- the files that versions share -------------------------------------------------------------------------------

    def shards(self, name: str) -> pa.Table:
        """A list of shards, by its digest. Raises DamagedError where it is not what was written."""
        path = f"{self.folder}/shards/{name}.parquet"
        table = columns.read(self.store, path)
        if _named(table) != name:
            raise _damaged(path)
        return table

    def put_shards(self, table: pa.Table) -> str:
        """Write a list of shards, where it is not there; its digest."""
        name = _named(table)
        path = f"{self.folder}/shards/{name}.parquet"
        if not self._there(name, path):
            columns.write(self.store, path, table, {"rows": table.num_rows})
        return name

    def keys(self, name: str) -> list[str | None]:
        """The keys of a stage's outputs for the shards of a generation; None of those that have none."""
        path = f"{self.folder}/keys/{name}.bin"
        try:
            data = self.store.read(path)
        except FileNotFoundError:
            raise _damaged(path) from None
        if _digest(data) != name:
            raise _damaged(path)
        text, none = data.hex(), "0" * 2 * _WIDTH
        found = (text[at : at + 2 * _WIDTH] for at in range(0, len(text), 2 * _WIDTH))
        return [None if key == none else key for key in found]

    def put_keys(self, keys: Sequence[str | None]) -> str:
        """Write keys, where they are not there; their digest."""
        data = bytes.fromhex("".join(key or "0" * 2 * _WIDTH for key in keys))
        path = f"{self.folder}/keys/{(name := _digest(data))}.bin"
        if not self._there(name, path):
            self.store.create(path, data)
        return name

    def _there(self, name: str, path: str) -> bool:
        """Whether a file that versions share is there: those of the last accepted version are."""
        return name in self._named or self.store.exists(path)

    @cached_property
    def _named(self) -> frozenset[str]:
        """Digests that the last accepted version names."""
        generations = self.accepted["generations"] if self.accepted else ()
        return frozenset(name for each in generations for name in (each["names"], *each["keys"].values()))

    def totals(self, name: str) -> Any:
        """What was counted of a generation, by the digest of its counts' keys; None where nobody did."""
        path = f"{self.folder}/totals/{name}.json"
        try:
            return self.store.json(path)["totals"]
        except FileNotFoundError:
            return None
        except DamagedError:
            log.warning("%s is damaged: what it sums is summed again", path)
            self.store.remove(path)
            return None

    def put_totals(self, name: str, totals: Any) -> None:
        """Note what was counted of a generation."""
        path = f"{self.folder}/totals/{name}.json"
        self.store.create(path, sealed({"totals": totals}, path))

    def files(self, facts: Facts, only: str | None = None) -> Iterator[str]:
        """The outputs that a version names, `only` those of one stage, by path; of documents also what was refused."""
        for generation in facts["generations"]:
            folders = self.shards(generation["names"])["folder"].to_pylist()
            for stage, name in generation["keys"].items():
                if only not in (None, stage):
                    continue
                made = facts["stages"][stage]
                for key, documents in zip(self.keys(name), folders, strict=True):
                    if key:
                        path = f"{documents if stage == 'documents' else made['folder']}/{key}{made['suffix']}"
                        yield path
                        if stage == "documents":
                            yield refused_path(path)

    def tokens(self, facts: Facts) -> Iterator[tuple[str, str]]:
        """The token files that a version names, and the documents of each."""
        for generation in facts["generations"]:
            folders = self.shards(generation["names"])["folder"].to_pylist()
            documents = self.keys(generation["keys"]["documents"])
            for stage, name in generation["keys"].items():
                made = facts["stages"].get(stage, {})
                if made.get("folder", "").startswith("tokens/"):
                    for key, folder, document in zip(self.keys(name), folders, documents, strict=True):
                        if key and document:
                            yield f"{made['folder']}/{key}{made['suffix']}", f"{folder}/{document}.parquet"

    def own_files(self, facts: Facts) -> set[str]:
        """The files of a version's own that it names."""
        number = facts["version"]
        found = {self._path(number), self._files.note(number), self._purged(number)}
        for generation in facts["generations"]:
            found.add(f"{self.folder}/shards/{generation['names']}.parquet")
            found |= {f"{self.folder}/keys/{name}.bin" for name in generation["keys"].values()}
            found.add(f"{self.folder}/totals/{generation['keys'][COUNTS]}.json")
        return found


def _named(table: pa.Table) -> str:
    return digest(list(columns.digests(table).items()))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _damaged(path: str) -> DamagedError:
    return DamagedError(f"{path} is missing or damaged, and versions name it; bring it back from a copy", path)


def shard_of(row: Mapping[str, Any]) -> InputShard:
    """A shard of a version's list."""
    parts = tuple(Part("", part["key"], part["start"], part["end"], "", part["digest"]) for part in row["parts"])
    return InputShard(row["source"], row["name"], row["digest"], parts)
