"""Taking things out of a store: forgetting a stage's outputs, and finding what nothing refers to.

What is removed is first taken out of the manifests, so a command that is killed leaves files that are found again,
never entries without files. Both are for a store that is had `alone`: of a run that works on it they would take what it
is about to read.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil

from data_specs.expressions import suggestion
from data_specs.load import SpecError
from tasks.engine.corpus_steps import STEPS
from tasks.engine.keyed import STAGING
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import refused_path
from tasks.engine.stage import CorpusStage, Estimator
from tasks.engine.versions import COUNTS, Versions
from tasks.storage import locks
from tasks.storage.manifest import Manifest
from tasks.storage.pins import Pins
from tasks.storage.store import BusyError, Store


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """No run works on the store while the block runs, and one that starts waits for its end. Raises BusyError where one
    does."""
    folder = store.local("")
    with ExitStack() as lock:
        if folder is None or folder.exists():
            try:
                lock.enter_context(locks.alone(store))
            except BusyError as busy:
                runs = ", ".join(_unended(store)) or str(busy).partition(" by ")[2].partition(";")[0]
                raise BusyError(f"{store.url}: {runs} is working on it; wait for its end, or stop it") from None
        yield


def _unended(store: Store) -> list[str]:
    """Runs that by their records have not ended, but for those that were killed on this machine."""
    found = []
    paths = [path for path in store.walk("runs/records") if path.endswith("/run.json")]
    for record in store.json_each(paths):
        process = record.get("process", {})
        here = process.get("host") == socket.gethostname()
        if record["status"] == "running" and not (here and not psutil.pid_exists(process["pid"])):
            found.append(record["run"])
    return found


def invalidate(pipeline: Pipeline, stage: str) -> int:
    """Forget the outputs of one stage, maps and reductions of a corpus stage with them; returns how many. Raises
    SpecError for a name that is no stage of columns."""
    known = ["documents", *(node.name for node in pipeline.nodes if node.writes)]
    if stage in {node.name for node in pipeline.nodes} - set(known):
        pin = stage.removeprefix("learn_")
        raise SpecError([f"invalidate: {stage} is learned and pinned; `sluice run --retrain {pin}` learns it anew"])
    if stage == "documents" and any(shard.stored for shard in pipeline.shards):
        raise SpecError(["invalidate: documents of files that have left the listing are in the store alone"])
    if stage not in known:
        hint = suggestion(stage, known, mark="")
        raise SpecError([f"invalidate: {stage} is no stage of columns{hint}; those are {', '.join(known)}"])
    count = 0
    for folder in folders(pipeline, stage):
        entries = {entry["key"]: entry for entry in Manifest(pipeline.store, folder).entries()}
        present = [key for key, entry in entries.items() if not entry.get("removed")]
        names = [name for name in pipeline.store.list(folder) if name != "recipe.json"]
        _forget(pipeline, folder, present)
        pipeline.store.remove(*(f"{folder}/{name}" for name in names))
        count += len(present)
    return count


def folders(pipeline: Pipeline, stage: str | None = None) -> list[str]:
    """The folders of one stage's outputs, or of all whose fingerprint is known, sorted."""
    found = {f"documents/{name}@{reader.fingerprint}" for name, reader in pipeline.readers.items()}
    if stage != "documents":
        found = found if stage is None else set()
        for node in pipeline.nodes:
            if stage not in (None, node.name) or not node.ready:
                continue
            top = _samples(node.stage) if isinstance(node.stage, Estimator) else pipeline.folder(node.stage)
            steps = STEPS if isinstance(node.stage, CorpusStage) else ("",)
            found |= {top + step for step in steps}
    return sorted(found)


def _samples(learned: Estimator) -> str:
    return f"models/{learned.name}/samples@{learned.fingerprint}"


def unreferenced(pipeline: Pipeline, training: str | None = None) -> dict[str, int]:
    """Path -> bytes of what nothing refers to.

    Documents, columns, tokens and models that are neither this spec's outputs as they stand, nor a pin's, a plan's, the
    last accepted version's, or another lineage's (whose folders its records name). The folder of a stage that is still
    to be computed is kept whole. Samples that a model was learned from are not needed once it is pinned. Where
    `training`, the folder of this spec's training, is known: other trainings of this lineage that were not done to
    their end. Anywhere: what writers that were killed left."""
    left = pipeline.store.leftovers()
    files = {path: size for path, size in pipeline.store.walk().items() if not path.rpartition("/")[2].startswith(".")}
    current = _current(pipeline) | _pinned(pipeline.store) | _planned(pipeline, files) | _versioned(pipeline.store)
    kept = {path.rpartition("/")[0] for path in current}
    whole = tuple(f"{folder}/" for folder in _others(pipeline, files) | _unfinished(pipeline))
    stopped = tuple(f"{folder}/" for folder in interrupted(pipeline) if training is not None and folder != training)
    found = left | {path: size for path, size in files.items() if path.startswith(stopped)}
    for path, size in files.items():
        if (
            path.startswith(("documents/", "columns/", "tokens/", "models/", "counts/", "versions/", STAGING))
            and path not in current
            and not path.startswith(whole)
            and not (path.endswith("/recipe.json") and path.removesuffix("/recipe.json") in kept)
            and not ("/manifest/" in path and path.partition("/manifest/")[0] in kept)
        ):
            found[path] = size
    return dict(sorted(found.items()))


def interrupted(pipeline: Pipeline) -> list[str]:
    """Folders of trainings of this lineage that were begun and not done to their end."""
    store, lineage = pipeline.store, re.compile(re.escape(pipeline.spec.name) + "-[0-9a-f]{12}")
    folders = [f"runs/{name}" for name in store.folders("runs") if lineage.fullmatch(name)]
    return [folder for folder in folders if not store.exists(f"{folder}/summary.json")]


def remove(pipeline: Pipeline, paths: Collection[str]) -> None:
    """Remove files that `unreferenced` found."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    for folder in sorted(by_folder, key=lambda folder: not folder.endswith("/manifest")):
        if not folder.endswith("/manifest"):
            _forget(pipeline, folder, {name.partition(".")[0] for name in by_folder[folder] if name.count(".") == 1})
        pipeline.store.remove(*(f"{folder}/{name}" for name in by_folder[folder]))


def _forget(pipeline: Pipeline, folder: str, keys: Collection[str]) -> None:
    """Take keys out of a folder's manifest, where it has any of them."""
    manifest = Manifest(pipeline.store, folder)
    present = {entry["key"] for entry in manifest.entries()} & set(keys)
    manifest.append([{"key": key, "removed": True} for key in sorted(present)])


def _current(pipeline: Pipeline) -> set[str]:
    """Files of this spec's outputs as they stand."""
    found: set[str] = set()
    for output in pipeline.outputs.values():
        found.update(output.intermediates)
        if output.folders:
            found.update(output.path(place) for place, key in enumerate(output.index.keys) if key)
            found.update(refused_path(output.path(place)) for place in output.index.refused)
    return found


def _pinned(store: Store) -> set[str]:
    histories = (Pins(store, lineage).history for lineage in Pins.lineages(store))
    return {pin["path"] for history in histories for pins in history.values() for pin in pins if "path" in pin}


def _planned(pipeline: Pipeline, files: Collection[str]) -> set[str]:
    """Token files that a run plan reads."""
    plans = (pipeline.store.json(path) for path in files if path.startswith("plans/") and path.endswith("/plan.json"))
    return {file for plan in plans for file in plan["files"]}


def _versioned(store: Store) -> set[str]:
    """The outputs that the last accepted version of each lineage names; of all versions what they are made of, and
    what was counted, so that they can be compared."""
    found: set[str] = set()
    for lineage in store.folders("versions"):
        versions = Versions(store, lineage)
        for facts in versions.all():
            found |= versions.own_files(facts)
            found.update(versions.files(facts, only=COUNTS))
        if versions.accepted:
            found.update(versions.files(versions.accepted))
    return found


def _unfinished(pipeline: Pipeline) -> set[str]:
    """Folders of stages that have something to compute, and of samples that something is to be learned from."""
    learned = (node.stage for node in pipeline.nodes if isinstance(node.stage, Estimator))
    found = {_samples(each) for each in learned if pipeline.pins.get(each.label) is None}
    for name in ("documents", *(node.name for node in pipeline.nodes if node.writes)):
        if pipeline.state(name) not in ("cached", "partial"):
            found.update(folders(pipeline, name))
    return found


def _others(pipeline: Pipeline, files: Collection[str]) -> set[str]:
    """Folders of other lineages: those that the newest complete run of each names, and the runs after it."""
    found: dict[str, set[str]] = {}
    for record in _records(pipeline, files):
        if record["spec"] != pipeline.spec.name:
            earlier = set() if "plan" in record else found.get(record["spec"], set())
            found[record["spec"]] = earlier | set(record.get("folders", ()))
    return set().union(*found.values())


def _records(pipeline: Pipeline, files: Collection[str]) -> Iterator[dict[str, Any]]:
    """Records of runs, oldest first."""
    for path in sorted(files):
        if path.startswith("runs/records/") and path.endswith("/run.json"):
            yield pipeline.store.json(path)
