"""Manifests: what a folder of the store holds, known without opening a column file.

A manifest is a row of append-only segments of JSON lines (`<folder>/manifest/<time>.jsonl`), one entry a shard; the
last entry of a key counts. An entry that a killed driver did not write is rebuilt from its file's footer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from tasks import columns
from tasks.store import Store

Entry = dict[str, Any]
"""{"key", "shard", "ids", "rows", "bytes", "seconds", "run", "columns": {name: digest}}, and as the case may be
"ledger" (counts), "slices" ({partition or shard: digest}, in file order), or instead "error" with "attempts"."""

MISSING, DONE, QUARANTINED = 0, 1, 2
_SEGMENTS = 64


class Manifest:
    """The entries of one folder."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder

    def entries(self) -> Iterator[Entry]:
        """Every entry, oldest first."""
        for name in self.store.list(f"{self.folder}/manifest"):
            for line in self.store.read(f"{self.folder}/manifest/{name}").splitlines():
                yield orjson.loads(line)

    def append(self, entries: Sequence[Entry]) -> None:
        """Commit a segment; many small segments are first made one."""
        if not entries:
            return
        old = list(self.store.list(f"{self.folder}/manifest"))
        latest: dict[str, Entry] = {}
        if len(old) >= _SEGMENTS:
            latest = {entry["key"]: entry for entry in self.entries()}
        else:
            old = []
        latest |= {entry["key"]: entry for entry in entries}
        name = f"{time.time_ns():020d}-{secrets.token_hex(3)}.jsonl"
        self.store.commit(f"{self.folder}/manifest/{name}", b"".join(orjson.dumps(e) + b"\n" for e in latest.values()))
        for segment in old:
            self.store.remove(f"{self.folder}/manifest/{segment}")

    def recover(self, keys: Iterable[str], suffix: str) -> int:
        """Write entries for files that exist without one; returns how many."""
        wanted = set(keys)
        sizes = self.store.list(self.folder)
        present = [name for name in sizes if name.removesuffix(suffix) in wanted]
        self.append([columns.footer(self.store, f"{self.folder}/{name}") | {"bytes": sizes[name]} for name in present])
        return len(present)


class Index:
    """What is known of a stage's output over the shards of a run, as arrays: 100,000 shards cost tens of MB.

    `keys[i]` is the key of shard i's output, or None while it depends on something not yet computed.
    """

    def __init__(self, entries: Iterable[Entry], keys: Sequence[str | None], names: Sequence[str] = ()) -> None:
        self.keys = list(keys)
        count = len(self.keys)
        self.state = np.zeros(count, np.int8)
        self.rows = np.zeros(count, np.int64)
        self.bytes = np.zeros(count, np.int64)
        self.seconds = np.zeros(count, np.float64)
        self.digests = {name: np.zeros((count, 16), np.uint8) for name in names}
        self.ledgers: dict[int, dict[str, Any]] = {}
        self.slices: dict[int, dict[str, str]] = {}
        self.errors: dict[int, str] = {}
        self._places: dict[str, list[int]] = {}
        for place, key in enumerate(self.keys):
            if key is not None:
                self._places.setdefault(key, []).append(place)
        if self._places:
            for entry in entries:
                self.add(entry)

    def add(self, entry: Entry) -> None:
        """Take an entry in; entries of other keys are ignored."""
        for place in self._places.get(entry["key"], ()):
            if "error" in entry:
                self.state[place] = QUARANTINED
                self.errors[place] = entry["error"]
                continue
            if entry.get("removed"):
                self.state[place] = MISSING
                continue
            self.state[place] = DONE
            self.errors.pop(place, None)
            self.rows[place], self.bytes[place], self.seconds[place] = entry["rows"], entry["bytes"], entry["seconds"]
            for name, digests in self.digests.items():
                digests[place] = np.frombuffer(bytes.fromhex(entry["columns"][name]), np.uint8)
            if ledger := entry.get("ledger"):
                self.ledgers[place] = ledger
            if (slices := entry.get("slices")) is not None:
                self.slices[place] = slices

    @property
    def done(self) -> np.ndarray:
        return self.state == DONE

    def pending(self) -> list[int]:
        """Shards that can be computed now: their key is known, and they are missing or quarantined."""
        return [place for place, key in enumerate(self.keys) if key is not None and self.state[place] != DONE]
