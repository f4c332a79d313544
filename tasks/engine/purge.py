"""Purging documents that were taken down from the files that hold them: the one case in which a document changes.

Of a document a row is left, with its id and its place in the source: no row of its shard moves, so addresses of all
others hold. Its file keeps its name, which says from what it was read; what its manifest says of the values is written
anew, so that every read of it verifies. What stages made of such a shard has other keys from then on: it is removed,
with the samples and shuffles that hold parts of it, and the next run makes it again of what is left. Tokens alone stay,
written over with zeros, as the rows of run plans are counted in them.

All of it can be stopped anywhere and done again: entries go before their files change, and come after; a file that no
entry speaks of is known by its footer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine.keyed import STAGING
from tasks.engine.takedowns import TAKEN_DOWN
from tasks.storage import columns
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import DamagedError, Store

log = logging.getLogger("sluice")

Rows = Mapping[str, Sequence[int]]
"""The digest of a shard's ids, or the path of its documents -> rows that go."""

ANSWERS = "answers"
"""Folder of what language models answered (tasks/text/endpoint.py)."""
_AT_ONCE = 4
"""Files that are written at a time."""
_STAYS = frozenset({"id", "source", "file", "offset", "length"})
_LEFT = {"text": "", "kind": TAKEN_DOWN}
_DATA = (".parquet", ".arrow")


def documents(store: Store, rows: Rows) -> None:
    """Leave of documents, by the path of their file, a row alone."""
    for folder, paths in _by_folder(rows).items():
        _rewritten(store, folder, {path: rows[path] for path in paths}, _emptied)


def _emptied(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Documents, of which those of some rows have an id and a place alone."""
    mask = _mask(table, rows)
    emptied = {
        name: table[name] if name in _STAYS else pc.if_else(mask, pa.scalar(_LEFT.get(name), kind), table[name])
        for name, kind in zip(table.column_names, table.schema.types, strict=True)
    }
    return pa.table(emptied, table.schema).combine_chunks()


def tokens(store: Store, rows: Rows, exact: Rows) -> list[str]:
    """Write zeros over the tokens of documents, by the digest of their shard's ids, or of a file by its path; the paths
    of those token files. How many they were stays, so that offsets hold. What is damaged goes, as it cannot be told
    whose it holds."""
    found: list[str] = []
    for folder in _below(store, "tokens"):
        live = _live(store, folder)
        mine: dict[str, Sequence[int]] = {}
        for path in _data(store, folder):
            if live.get(_key(path), {"ids": None})["ids"] not in {None, *rows}:
                continue
            try:
                ids = columns.recovered(store, path)["ids"]
            except DamagedError:
                Manifest(store, folder).append([{"key": _key(path), "removed": True}])
                store.remove(path)
                continue
            if wanted := exact.get(path, rows.get(ids, ())):
                mine[path] = wanted
        found += _rewritten(store, folder, mine, _zeroed)
    return found


def _zeroed(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Lists of tokens, those of some rows nothing but zeros."""
    [name] = table.column_names
    column = table[name].combine_chunks()
    offsets, values = column.offsets.to_numpy(), column.values.to_numpy().copy()
    for row in rows.tolist():
        values[offsets[row] : offsets[row + 1]] = 0
    made = pa.ListArray.from_arrays(column.offsets, pa.array(values), mask=column.is_null())
    return pa.table([made.cast(column.type)], table.schema)


def answers(store: Store, ids: Collection[bytes]) -> None:
    """Forget the texts that a language model made of documents."""
    names = {each.hex() for each in ids}
    for folder in _below(store, ANSWERS):
        gone = [key for key, entry in _live(store, folder).items() if entry.get("id") in names]
        Manifest(store, folder).append([{"key": key, "removed": True} for key in gone], whole=True)


def derived(store: Store, shards: Collection[str]) -> None:
    """Remove what stages made of shards, by the digest of their ids: columns, shuffles. What was made of documents that
    are in the store no more goes, too, as it cannot be told whose texts it holds; a file of which no entry speaks,
    since whoever wrote it was killed; and all samples, which may hold texts of documents that have left the store, and
    of which only what is still to be learned has need."""
    store.remove(*store.walk(STAGING.rstrip("/")), *store.leftovers())
    there = {entry["ids"] for folder in _below(store, "documents") for entry in _live(store, folder).values()}
    samples = [top for model in _below(store, "models") for top in _below(store, model) if "/samples@" in top]
    for top in (*_below(store, "columns"), *samples):
        files: dict[str, list[str]] = {top: []}
        for path in store.walk(top):
            folder, _, name = path.rpartition("/")
            if not folder.endswith("/manifest"):
                files.setdefault(folder, []).extend([path] if name != "recipe.json" else [])
        live = {folder: _live(store, folder) for folder in files}
        ids = {folder: {entry["ids"] for entry in entries.values()} for folder, entries in live.items()}
        goes = {each for found in ids.values() for each in found if each in shards or each not in {None, *there}}
        any_held = top in samples or bool(goes)
        # What holds rows of many shards goes first: that others are touched tells that it is.
        for folder in sorted(files, key=lambda folder: (bool(ids[folder] - {None}), folder == top)):
            gone = {
                key
                for key, entry in live[folder].items()
                if top in samples or entry["ids"] in goes or (any_held and entry["ids"] is None)
            }
            if gone:
                Manifest(store, folder).append([{"key": key, "removed": True} for key in sorted(gone)], whole=True)
            store.remove(*(path for path in files[folder] if _key(path) not in live[folder].keys() - gone))


def _below(store: Store, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in store.folders(folder) if name != "manifest"]


def _live(store: Store, folder: str) -> dict[str, Entry]:
    """What a manifest says of each key that it has not taken out."""
    latest = {entry["key"]: entry for entry in Manifest(store, folder).entries()}
    return {key: {"ids": None, **entry} for key, entry in latest.items() if not entry.get("removed")}


def _rewritten(
    store: Store, folder: str, rows: Rows, change: Callable[[pa.Table, np.ndarray], pa.Table]
) -> dict[str, Entry]:
    """Change rows of files, by path, in their place; what their manifest then says of each. One that is damaged goes:
    what is read anew does not bring them back."""
    manifest, live = Manifest(store, folder), _live(store, folder)
    manifest.append([{"key": key, "removed": True} for key in map(_key, rows) if key in live])

    def rewritten(path: str) -> Entry | None:
        try:
            entry = columns.recovered(store, path)
        except DamagedError as error:
            log.warning("%s; it is removed, as what is taken down may be in it", error)
            store.remove(path)
            return None
        before = columns.read(store, path)
        after = change(before, np.array(rows[path], np.int64))
        if after.equals(before):
            return entry
        facts = {key: value for key, value in entry.items() if key not in ("bytes", "checksum")}
        facts["columns"] = columns.digests(after)
        return facts | columns.write(store, path, after, facts, once=False)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        made = dict(zip(rows, pool.map(rewritten, rows), strict=True))
    found = {path: entry for path, entry in made.items() if entry}
    manifest.append([*found.values()], whole=True)
    return found


def _mask(table: pa.Table, rows: np.ndarray) -> pa.Array:
    found = np.zeros(table.num_rows, bool)
    found[rows] = True
    return pa.array(found)


def _data(store: Store, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in store.list(folder) if name.endswith(_DATA)]


def _key(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        found.setdefault(path.rpartition("/")[0], []).append(path)
    return found
