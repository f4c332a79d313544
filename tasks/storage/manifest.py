"""Manifests: what a folder of the store holds, known without opening a column file.

A manifest is a row of append-only segments of JSON lines (`<folder>/manifest/<time>.jsonl`), one entry a shard; the
last entry of a key counts. An entry that a killed driver did not write is rebuilt from its file's footer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from tasks.storage import columns
from tasks.storage.checksums import sealed_lines, unsealed_lines
from tasks.storage.columns import Recorded
from tasks.storage.store import DamagedError, Store

Entry = dict[str, Any]
"""{"key", "shard", "ids", "rows", "bytes", "seconds", "run", "columns": {name: digest}}, and as the case may be
"checksum" (of the file), "ledger" (counts), "refused" ("rows", "bytes" and "checksum" of the file of refused records),
"slices" ({partition or shard: digest}, in file order), or instead "error" with "attempts"."""

MISSING, DONE, QUARANTINED = 0, 1, 2
_SEGMENTS = 64
_CHUNK = 4096
_DONE = {"rows", "bytes", "seconds", "columns"}
_FORMS = _DONE | {"error", "removed"}
_KINDS = (_DONE, {"error"}, {"removed"})


class Manifest:
    """The entries of one folder."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder

    def entries(self) -> Iterator[Entry]:
        """Every entry, oldest first; once more from the beginning where a run made one segment of many meanwhile."""
        while True:
            names = [f"{self.folder}/manifest/{name}" for name in self.store.list(f"{self.folder}/manifest")]
            try:
                for name, segment in zip(names, self.store.read_each(names), strict=True):
                    yield from _entries(name, segment)
                return
            except FileNotFoundError:
                continue

    def segment(self, path: str) -> Iterator[Entry]:
        """The entries of one segment."""
        return _entries(path, self.store.read(path))

    def segment_name(self) -> str:
        """A name after those of all segments so far, also where the clock is behind the one that named them."""
        newest = max(self.store.list(f"{self.folder}/manifest"), default="0-")
        return f"{max(time.time_ns(), int(newest.partition('-')[0]) + 1):020d}-{secrets.token_hex(3)}.jsonl"

    def append(self, entries: Sequence[Entry], whole: bool = False) -> None:
        """Commit a segment; many small segments are first made one. `whole`: all are, so that of no key an older entry
        is left."""
        if not entries:
            return
        old = list(self.store.list(f"{self.folder}/manifest"))
        latest: dict[str, Entry] = {}
        if whole or len(old) >= _SEGMENTS:
            latest = {entry["key"]: entry for entry in self.entries()}
        else:
            old = []
        latest |= {entry["key"]: entry for entry in entries}
        lines = b"".join(orjson.dumps(entry) + b"\n" for entry in latest.values())
        path = f"{self.folder}/manifest/{self.segment_name()}"
        self.store.commit(path, sealed_lines(lines, path))
        self.store.remove(*(f"{self.folder}/manifest/{segment}" for segment in old))

    def recover(self, keys: Iterable[str] | None = None) -> int:
        """Write entries for files of `keys`, all by default, that exist and have none, and remove those that are not
        what their footers say; returns how many are whole. One that was removed from the manifest is not taken back:
        its values may be those that a killed replacement was about to write over."""
        wanted = None if keys is None else set(keys)
        files = [name for name in self.store.list(self.folder) if name.partition(".")[2] in ("parquet", "arrow")]
        present = [name for name in files if wanted is None or name.partition(".")[0] in wanted]
        latest = {entry["key"]: entry for entry in self.entries()} if present else {}
        found: list[Entry] = []
        for name in present:
            if "error" not in latest.get(name.partition(".")[0], {"error": "it has no entry"}):
                continue
            try:
                found.append(columns.recovered(self.store, f"{self.folder}/{name}"))
            except DamagedError:
                self.store.remove(f"{self.folder}/{name}")  # an object store would keep it
        self.append(found)
        return len(found)

    def rebuild(self, damaged: Sequence[str]) -> list[str]:
        """Remove segments that are damaged, these and all others, and write the entries of files that now have none;
        returns the segments."""
        segments = [*damaged]
        while True:
            self.store.remove(*segments)
            try:
                self.recover()
                return segments
            except DamagedError as damage:
                segments += damage.paths


def _entries(path: str, segment: bytes) -> Iterator[Entry]:
    """The entries of a segment that was read at a path. Raises DamagedError."""
    try:
        lines, sealed = unsealed_lines(segment, path)
        yield from map(orjson.loads if sealed else _unvouched, lines)
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); `sluice run` makes it again from the files", path) from error


def _unvouched(line: bytes) -> Entry:
    """An entry of a segment without a checksum, as earlier versions wrote them. Raises ValueError for what is none."""
    entry = orjson.loads(line)
    if not (isinstance(entry, dict) and isinstance(entry.get("key"), str) and _FORMS & entry.keys() in _KINDS):
        raise ValueError("an entry is none")
    return entry


_NONE = 32 * "0"
"""The digest of a column that a file does not have."""


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
        self.checksums = np.zeros(count, np.uint64)
        self.digests = {name: np.zeros((count, 16), np.uint8) for name in names}
        self._ledgers: dict[int, str] = {}
        self.slices: dict[int, tuple[tuple[str, ...], str]] = {}
        self.errors: dict[int, str] = {}
        self.refused: dict[int, tuple[int, str]] = {}
        """Rows and checksum of the file of a shard's refused records, where it has one."""
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        if any(key is not None for key in self.keys):
            self.add(entries)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take entries in; the last of a key counts, those of other keys are ignored. 10 us an entry."""
        self.assign(dict(enumerate(self.keys)), entries)

    def assign(self, keys: Mapping[int, str | None], entries: Iterable[Entry], rest: list[Entry] | None = None) -> None:
        """Set the keys of some places, and take in what entries say of them; those of other keys go into the `rest`."""
        places: dict[str, list[int]] = {}
        for place, key in keys.items():
            self.keys[place] = key
            if key is not None:
                places.setdefault(key, []).append(place)

        def of_keys() -> Iterator[Entry]:
            for entry in entries:
                if entry["key"] in places:
                    yield entry
                elif rest is not None:
                    rest.append(entry)

        known = of_keys()
        while chunk := {entry["key"]: entry for entry in islice(known, _CHUNK)}:
            self._apply([(place, entry) for key, entry in chunk.items() for place in places[key]])

    def _apply(self, found: list[tuple[int, Entry]]) -> None:
        """The newest entries of some places."""
        done: list[tuple[int, Entry]] = []
        for place, entry in found:
            self.errors.pop(place, None)
            self.refused.pop(place, None)
            if "error" in entry:
                self.state[place] = QUARANTINED
                self.errors[place] = entry["error"]
            elif entry.get("removed"):
                self.state[place] = MISSING
            else:
                done.append((place, entry))
        if not done:
            return
        places = np.array([place for place, _ in done])
        self.state[places] = DONE
        self.rows[places] = [entry["rows"] for _, entry in done]
        self.bytes[places] = [entry["bytes"] for _, entry in done]
        self.seconds[places] = [entry["seconds"] for _, entry in done]
        self.checksums[places] = [int(entry.get("checksum", "0"), 16) for _, entry in done]
        for name, digests in self.digests.items():
            joined = bytes.fromhex("".join([entry["columns"].get(name, _NONE) for _, entry in done]))
            digests[places] = np.frombuffer(joined, np.uint8).reshape(-1, 16)
        for place, entry in done:
            if ledger := entry.get("ledger"):
                self._ledgers[place] = orjson.dumps(ledger).decode()  # as text: orjson's bytes keep a 4 KB buffer
            if refused := entry.get("refused"):
                self.refused[place] = refused["rows"], refused["checksum"]
            if (slices := entry.get("slices")) is not None:
                names = tuple(slices)
                self.slices[place] = self._names.setdefault(names, names), "".join(slices.values())

    def ledger(self, place: int) -> dict[str, Any] | None:
        """The counts of an output; None where it has none."""
        found = self._ledgers.get(place)
        return orjson.loads(found) if found else None

    def sliced(self, place: int) -> Iterator[tuple[str, str]]:
        """(partition or shard, digest) of each slice of an output, in file order."""
        names, joined = self.slices[place]
        for number, name in enumerate(names):
            yield name, joined[16 * number : 16 * number + 16]

    def slice_digest(self, place: int, number: int) -> str:
        """The digest of a slice of an output by its number in the file."""
        return self.slices[place][1][16 * number : 16 * number + 16]

    def recorded(self, place: int, ids: str | None = None, names: Iterable[str] = ()) -> Recorded:
        """What is known of an output's file and some of its columns."""
        found = int(self.checksums[place])
        digests = {name: self.digests[name][place].tobytes().hex() for name in names}
        return Recorded(ids, f"{found:016x}" if found else "", digests)

    @property
    def done(self) -> np.ndarray:
        return self.state == DONE

    def has(self, name: str, place: int | slice = slice(None)) -> bool:
        """Whether the output of a shard, or of any, has a column."""
        return bool(self.digests[name][place].any())

    def pending(self) -> list[int]:
        """Shards that can be computed now: their key is known, and they are missing or quarantined."""
        return [place for place, key in enumerate(self.keys) if key is not None and self.state[place] != DONE]
