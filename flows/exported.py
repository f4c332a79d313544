"""Where documents were exported to: `exports/<id>.json` of the store, so that a takedown can name who holds what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data_specs.redaction import redacted
from tasks.engine.outputs import Output
from tasks.engine.stage import digest
from tasks.storage.store import DeniedError, Store

_FOLDER = "exports"


def note(store: Store, target: Store, identity: str, about: Mapping[str, Any], documents: Output) -> None:
    """Note an export, where the store may be written; what is of no version names its documents itself."""
    to = redacted(str(target.folder or target.url))
    path = f"{_FOLDER}/{digest([to, identity])[:16]}.json"
    with suppress(DeniedError):
        if store.exists(path):
            return
        root = str(store.folder or store.url).rstrip("/") + "/"
        where = str(target.folder or target.url)
        facts: dict[str, Any] = {"to": to, "inside": where.removeprefix(root) if where.startswith(root) else None}
        facts |= {"identity": identity, "spec": about["spec"], "version": about["version"]}
        if about["version"] is None:
            facts["documents"] = [documents.path(place) for place in np.flatnonzero(documents.index.done).tolist()]
        store.commit_json(path, facts | {"time": datetime.now(UTC).isoformat(timespec="seconds")})


def holding(
    store: Store, versions: Mapping[str, Sequence[int]], documents: Collection[str]
) -> list[dict[str, str | int | None]]:
    """The exports that may hold some documents, by the paths of their files: those of some versions, by lineage, and
    those of none that read these files."""
    found = []
    for facts in store.json_each([f"{_FOLDER}/{name}" for name in store.list(_FOLDER)]):
        by_version = facts["version"] in versions.get(facts["spec"], ())
        if by_version or not set(documents).isdisjoint(facts.get("documents", ())):
            found.append({name: facts[name] for name in ("to", "inside", "spec", "version", "time", "identity")})
    return found


def remove_inside(store: Store, found: Sequence[Mapping[str, Any]]) -> None:
    """Remove those exports that lie in the store itself."""
    for each in found:
        if each["inside"]:
            store.remove(*store.walk(each["inside"]))
