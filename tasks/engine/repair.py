"""Repair: a damaged output is made again, from what it was made of, and has to have the values that were recorded.

A damaged file is taken out of its manifest and removed, and its stage computes it again, as if it never had been; a
damaged segment of a manifest is written again from the files that it spoke of. What cannot be made again (pins, what
was learned, what a stage would now compute otherwise) stops the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from tasks.engine import garbage_collection
from tasks.engine.pipeline import Pipeline
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import DamagedError

log = logging.getLogger("sluice")


class Repair:
    """The repairs of one run. `compute` computes what a stage, by its name, lacks."""

    def __init__(self, pipeline: Pipeline, compute: Callable[[str], object]) -> None:
        self.pipeline, self.compute = pipeline, compute
        self.counted: dict[str, str] = {}
        """Folders of what is counted, which is no stage, and by which name it is computed."""
        self.seen: set[str] = set()
        self.notes: list[str] = []
        """What was made again, and has not been said of a stage."""

    def __call__(self, damage: DamagedError) -> None:
        """Make the damaged files again. Raises DamagedError where that cannot be, or where a file is damaged anew."""
        names = ["documents", *(node.name for node in self.pipeline.nodes)]
        owners = {folder: name for name in names for folder in garbage_collection.folders(self.pipeline, name)}
        owners |= self.counted
        found: dict[str, list[str]] = {}
        alone = {f"{shard.stored}.parquet" for shard in self.pipeline.shards if shard.stored}
        for path in damage.paths:
            if path in alone:
                raise DamagedError(
                    f"{path} is missing or damaged, and files that it was read from have left their source: bring it "
                    "back from a copy, or them",
                    path,
                ) from damage
            folder = path.rpartition("/")[0]
            if path in self.seen or folder.removesuffix("/manifest") not in owners:
                raise damage
            found.setdefault(folder, []).append(path)
        if not found:
            raise damage
        self.seen.update(damage.paths)
        log.warning("%s", damage)
        for folder, paths in found.items():
            if folder.endswith("/manifest"):
                paths = Manifest(self.pipeline.store, folder.removesuffix("/manifest")).rebuild(paths)
            else:
                self._make_again(owners[folder], folder, paths)
            self.notes += [f"{path} was damaged and is made again" for path in paths]

    def _make_again(self, name: str, folder: str, paths: list[str]) -> None:
        """Compute files of one folder again, and compare their values."""
        keys = {path.rpartition("/")[2].partition(".")[0]: path for path in paths}
        before = self._entries(folder)
        Manifest(self.pipeline.store, folder).append([{"key": key, "removed": True} for key in keys])
        self.pipeline.store.remove(*paths)
        self.pipeline.tried -= keys.keys()
        self.compute(name)
        after = self._entries(folder)
        for key, path in keys.items():
            new = after.get(key, {})
            if new.get("removed") and folder.endswith("/state"):
                continue  # it was to be merged, which is done from what it was made of
            if "columns" not in new:
                why = new.get("error", "nothing that is there now leads to it")
                raise DamagedError(f"{path} was damaged and cannot be made again: {why}")
            old = before.get(key, new)
            columns = {
                name: new["columns"].get(name) for name in old.get("columns", ())
            }  # an earlier version had fewer
            if (old.get("columns", {}), old.get("slices")) != (columns, new.get("slices")):
                raise DamagedError(
                    f"{path} was damaged, and made again it has other values than were recorded: an input that is not "
                    "declared, or a version that was not raised; `sluice run` goes on with the new values"
                )

    def _entries(self, folder: str) -> dict[str, Entry]:
        return {entry["key"]: entry for entry in Manifest(self.pipeline.store, folder).entries()}
