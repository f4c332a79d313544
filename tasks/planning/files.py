"""The files that a run plan consists of and those that it reads, each held against what plan.json says of it.

Files are mapped where the store is a folder, and read whole otherwise. plan.json and tokens.json carry their own
checksum, row files a digest in them, and a token file the checksum of its values there: made again, it has the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from tasks.storage.columns import damaged
from tasks.storage.store import DamagedError, Store


def read_json(store: Store, path: str) -> dict[str, Any]:
    """plan.json or tokens.json. Raises FileNotFoundError, and DamagedError."""
    try:
        return store.json(path)
    except DamagedError as error:
        raise damaged(path, error.__cause__) from error


_PURGED = "purged.json"
"""Beside the plan.json of a plan that reads documents which were taken down: by which takedowns, and the checksums of
token files as they are since."""


def read_plan(store: Store, folder: str) -> dict[str, Any]:
    """plan.json, and as `takedowns` the numbers of those that took down what it reads; the checksums of token files are
    those that hold since. Raises FileNotFoundError, and DamagedError."""
    plan = read_json(store, f"{folder}/plan.json")
    try:
        purged = read_json(store, f"{folder}/{_PURGED}")
    except FileNotFoundError:
        return plan | {"takedowns": []}
    sums = dict(zip(plan["files"], plan.get("checksums", ()), strict=False)) | purged["checksums"]
    return plan | {"takedowns": purged["takedowns"], "checksums": [sums.get(path, "") for path in plan["files"]]}


def purge_plan(store: Store, folder: str, takedown: int, files: Iterable[str]) -> bool:
    """Note of a plan that token files which it reads have other values since a takedown, and remove the rows that were
    written out of them; whether there are any."""
    plan = read_plan(store, folder)
    held = dict(zip(plan["files"], plan.get("checksums", ()), strict=False))
    mine = sorted({*plan["files"]} & {*files})
    found = {path: token_checksum(_table(path, _source(store, path))["tokens"]) for path in mine}
    changed = {path: now for path, now in found.items() if now != held.get(path)}
    if changed:
        held |= changed
        takedowns = sorted({*plan["takedowns"], takedown})
        store.commit_json(f"{folder}/{_PURGED}", {"takedowns": takedowns, "checksums": held})
    purged = takedown in plan["takedowns"] or bool(changed)
    if purged:
        store.remove(*(f"{folder}/{name}" for name in store.list(folder) if name.startswith("tokens")))
    return purged


def content_digest(data: Any) -> str:
    """What `content` says of a file's bytes: BLAKE2b-128, hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_rows(store: Store, path: str, digest: str | None) -> pa.Table:
    """A row file, of which `content` says `digest`. Raises DamagedError."""
    source = _source(store, path)
    data = source.read_buffer()
    if digest is not None and (found := content_digest(data)) != digest:
        raise damaged(path, f"its digest is {found}, plan.json says {digest}")
    return _table(path, pa.BufferReader(data))


def read_tokens(store: Store, path: str, checksum: str) -> pa.ListArray:
    """The column of a token file, of which plan.json says `checksum`; "" where an earlier version wrote it. Raises
    DamagedError."""
    try:
        column = _table(path, _source(store, path))["tokens"]
    except KeyError as error:
        raise damaged(path, "it has no column of tokens") from error
    if checksum and (found := token_checksum(column)) != checksum:
        raise damaged(path, f"the checksum of its tokens is {found}, plan.json says {checksum}")
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def token_checksum(column: pa.ChunkedArray) -> str:
    """XXH3-64 of where a token file's documents end and of their tokens, hexadecimal."""
    state = xxhash.xxh3_64(str(column.type.value_type))
    for chunk in column.chunks:
        for part in (chunk.offsets, chunk.values):
            state.update(part.to_numpy().view(np.uint8))
    return state.hexdigest()


def _source(store: Store, path: str) -> Any:
    try:
        local = store.local(path)
        return pa.memory_map(str(local)) if local else pa.BufferReader(store.read(path))
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error


def _table(path: str, source: Any) -> pa.Table:
    """An Arrow IPC file, its buffers as long as its metadata says."""
    try:
        table = pa.ipc.open_file(source).read_all()
        table.validate()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise damaged(path, error) from error
    return table


def rows_of_a_file(plan: dict[str, Any], phase: int) -> int:
    """Of a phase; an earlier version had the same for all."""
    return int(plan["phases"][phase].get("rows_per_file", plan["rows_per_file"]))


def place_of(name: str, plan: dict[str, Any]) -> tuple[int, int]:
    """Of a row file: its phase (-1: held out) and the number of its first row."""
    if name.startswith("held_out"):
        return -1, 0
    _, phase, number = name.removesuffix(".arrow").split("-")
    return int(phase), int(number) * rows_of_a_file(plan, int(phase))
