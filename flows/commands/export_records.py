"""What was written beside the corpus: `exports/<id>.json` of the store, so that a takedown can name who holds what.

Documents hold their text, plans their tokens; a model may know them by heart. Indexes, pages and lists of duplicates
hold hashes, texts and addresses of documents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data_specs.redaction import redacted
from tasks.engine.outputs import Output
from tasks.engine.stage import digest
from tasks.planning.files import read_plan
from tasks.storage.store import DeniedError, Store, StoreError

FILES = frozenset({"page", "matches"})
"""What is one file, and not a folder."""
_FOLDER = "exports"
_NAMED = ("what", "to", "inside", "spec", "version", "plan", "run", "step", "time", "identity")


def note(store: Store, target: Store, identity: str, about: Mapping[str, Any]) -> None:
    """Note an export, where the store may be written. `about` has its "spec" and of what it is: a "version", where
    there is none of it the paths of the "documents", a "plan", or a "run" and its "step"; and "what" it is, where that
    is no export: an index, or a file, which is a page or matches of duplicates."""
    to = redacted(str(target.folder or target.url))
    path = f"{_FOLDER}/{digest([to, identity])[:16]}.json"
    with suppress(DeniedError):
        if store.exists(path):
            return
        root = str(store.folder or store.url).rstrip("/") + "/"
        where = str(target.folder or target.url)
        facts = {"to": to, "inside": where.removeprefix(root) if where.startswith(root) else None, "identity": identity}
        time = datetime.now(UTC).isoformat(timespec="seconds")
        store.commit_json(path, {"version": None, **facts, **about, "time": time})


def note_file(store: Store, path: str, spec: str, what: str, output: Output) -> None:
    """Note a file that tells of the documents of the corpus as it stands."""
    documents = documents_of(output)
    note(store, Store(path), digest(documents), {"spec": spec, "what": what, "documents": documents})


def documents_of(output: Output) -> list[str]:
    """The documents that an export of no version may hold, by the paths of their files."""
    return [output.path(place) for place in np.flatnonzero(output.index.done).tolist()]


def holding(
    store: Store,
    versions: Mapping[str, Sequence[int]],
    documents: Collection[str],
    tokens: Collection[str],
    trainings: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The exports that may hold some documents: of versions, by lineage, that have them, and of none that read their
    files; of plans that read files of their tokens; of checkpoints of `trainings` since these read them."""
    since = {each["run"]: each for each in trainings}
    found = []
    for facts in store.json_each([f"{_FOLDER}/{name}" for name in store.list(_FOLDER)]):
        if (
            facts["version"] in versions.get(facts["spec"], ())
            or not set(documents).isdisjoint(facts.get("documents", ()))
            or ("plan" in facts and _reads(store, facts["plan"], tokens))
            or ("run" in facts and _knows(since.get(facts["run"]), facts["step"]))
        ):
            found.append({name: facts.get(name) for name in _NAMED})
    return found


def _reads(store: Store, plan: str, tokens: Collection[str]) -> bool:
    """Whether a plan may read files of tokens; one that is gone, or cannot be read, may."""
    try:
        return not set(tokens).isdisjoint(read_plan(store, plan)["files"])
    except (FileNotFoundError, StoreError, ValueError):
        return True


def _knows(training: Mapping[str, Any] | None, step: int) -> bool:
    """Whether the checkpoint of a step may know what a training had read."""
    if training is None:
        return False
    return "unknown" in training or "began_with" in training or 0 < training.get("first_step", 0) <= step


def remove_inside(store: Store, found: Sequence[Mapping[str, Any]]) -> None:
    """Remove those exports that lie in the store itself, but for models: these are for their owner to decide about."""
    for each in found:
        if each["inside"] and not each.get("run"):
            store.remove(*([each["inside"]] if each.get("what") in FILES else store.walk(each["inside"])))
