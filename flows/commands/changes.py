"""What changed since outputs were made and pins were learned: settings, files of sources, texts and columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import orjson

from flows.commands.costs import folders
from flows.differences import differences
from tasks.engine import upstream
from tasks.engine.listings import Listings
from tasks.engine.nodes import Node
from tasks.engine.pipeline import NAMED, Pipeline
from tasks.engine.stage import Estimator
from tasks.storage.pins import Pin
from tasks.storage.store import DamagedError, Store

Files = dict[str, dict[str, Any]]
"""What is new of a source's files: `new`, `changed` or `moved` -> how many (`count`), and the first (`files`); of those
that moved, what each was called."""


def settings(store: Store, folder: str, made_by: Any) -> list[str]:
    """What differs between a stage or reader and the fingerprint that a folder was written with; nothing where that is
    not known."""
    try:
        before = store.json(f"{folder}/recipe.json")
    except (FileNotFoundError, DamagedError):  # a run was killed before it wrote it
        return []
    return in_words(before, made_by.fingerprint_fields(), own=bool(getattr(made_by, "code", "")))


def in_words(before: Mapping[str, Any], now: Mapping[str, Any], own: bool = False) -> list[str]:
    """What differs between two fingerprints in the clear, as people call it: settings and conditions by their values;
    digests, libraries and code by what they are of. `own`: whether the stage is one of one's own, whose file is its
    module."""
    old, new = (orjson.loads(orjson.dumps(fields)) for fields in (before, now))
    changed = []
    if _settings(old).pop("taken_down", None) != _settings(new).pop("taken_down", None):
        changed.append("documents were taken down")
        for fields in (old, new):
            fields["reads"] = [name for name in fields.get("reads", ()) if name != "kind"]
    for name, template in _IN_WORDS.items():
        values = old.pop(name, None), new.pop(name, None)
        if values[0] != values[1]:
            changed.append((_OWN if own and name == "files" else template).format(*values))
    return changed + differences("", old, new)


_IN_WORDS = {
    "files": "the files of its models or lists are others",
    "version": "Sluice makes its values otherwise: version {} -> {}",
    "models": "what it is learned from was learned anew",
}
"""Fields of fingerprints whose values tell a person nothing."""
_OWN = "its module has changed"


def _settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = fields.get("settings")
    return found if isinstance(found, dict) else {}


def nearest(pipeline: Pipeline, node: Node) -> str | None:
    """The folder that a stage's output was last written to, as far as that can be told: its own, where its fingerprint
    has one; else that of its kind which differs in the fewest settings, and of these the newest, but for those that
    are another stage's of the spec. None where there is none."""
    stage = node.stage
    path = stage.folder or f"columns/{stage.name}"
    parent, _, stem = path.partition("/")
    stem = "" if stage.folder else stem  # a folder of its own is named by what it was made with
    taken = {
        f"{other.stage.folder or f'columns/{other.stage.name}'}@{other.stage.fingerprint}".partition("/")[2]
        for other in pipeline.nodes
        if other.writes and other.ready and other is not node
    }
    found = [(name, written) for name, written in folders(pipeline.store, parent, stem) if name not in taken]
    own = f"{path.partition('/')[2]}@{stage.fingerprint}" if node.ready else ""
    if own in (name for name, _ in found):
        return f"{parent}/{own}"

    def distance(each: tuple[str, int]) -> tuple[int, int]:
        name, written = each
        return len(settings(pipeline.store, f"{parent}/{name}", stage)) if node.ready else 0, -written

    return f"{parent}/{min(found, key=distance)[0]}" if found else None


def files(pipeline: Pipeline) -> dict[str, Files]:
    """Of each source, the files that the last run did not read as they are now, and why; nothing of a source that was
    not listed, or never read."""
    listings = Listings(pipeline.spec, pipeline.store)
    found = {}
    for source, reader in pipeline.readers.items():
        before, now = listings.read(source), reader.digests
        if before and (new := dict(_files(now, before, listings.digests(source)))):
            found[source] = new
    return found


def _files(
    now: Mapping[str, str], before: Collection[str], digests: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    gone = {digest: key for key, digest in digests.items() if key not in now}
    came = [key for key in now if key not in before]
    yield from _some("new", [key for key in came if now[key] not in gone])
    yield from _some("changed", [key for key, digest in digests.items() if now.get(key, digest) != digest])
    yield from _some("moved", {key: gone[now[key]] for key in came if now[key] in gone})


def _some(what: str, found: list[str] | dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """How many there are, and the first."""
    if found:
        first = sorted(found)[:NAMED]
        yield what, {"count": len(found), "files": {k: found[k] for k in first} if isinstance(found, dict) else first}


def files_in_words(found: Files) -> str:
    """The files for people: `2 new files (a.gz, b.gz), 1 moved file (c.gz, was d.gz)`."""
    return ", ".join(_files_in_words(what, **each) for what, each in found.items())


def _files_in_words(what: str, count: int, files: list[str] | dict[str, str]) -> str:
    names = [f"{key}, was {files[key]}" if isinstance(files, dict) else key for key in list(files)[:3]]
    return f"{count:,} {what} {'file' if count == 1 else 'files'} ({', '.join(names)}{', ...' if count > 3 else ''})"


def texts(pipeline: Pipeline, pin: Pin, learned: Estimator) -> list[str]:
    """What was extracted or rewritten otherwise when a pin was learned from it; nothing of one that does not say."""
    before, now = set(pin.get("texts", ())), set(upstream.texts(pipeline, learned))
    if "texts" not in pin or before == now:
        return []
    made_by = {f"documents/{name}@{reader.fingerprint}": (name, reader) for name, reader in pipeline.readers.items()}
    made_by |= {pipeline.folder(node.stage): (node.stage.label, node.stage) for node in upstream.rewriting(pipeline)}
    found = []
    for folder in sorted(now - before):
        name, maker = made_by[folder]
        old = sorted(other for other in before - now if other.partition("@")[0] == folder.partition("@")[0])
        if folder.startswith("documents/") and not old:
            continue  # a source that came since changes no text
        changed = [each for other in old for each in settings(pipeline.store, other, maker)]
        found.append(f"{name}: {', '.join(changed) or 'made otherwise' if old else 'rewritten since'}")
    kinds = {folder.partition("@")[0] for folder in now}
    gone = sorted({folder.partition("@")[0] for folder in before} - kinds)
    return found + [f"{kind.removeprefix('columns/')}: left out since" for kind in gone if kind.startswith("columns/")]


def columns(pipeline: Pipeline, pin: Pin, learned: Estimator) -> list[str]:
    """What else than a text is made otherwise than when a pin was learned from it; nothing of one that does not say."""
    found = []
    for name, folder in upstream.changed_columns(pipeline, pin, learned).items():
        made_by = pipeline.node(pipeline.provider[name])
        changed = ", ".join(settings(pipeline.store, folder, made_by.stage)) or "made otherwise"
        found.append(f"{name} of {made_by.name}: {changed}")
    return found
