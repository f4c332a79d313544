"""Staging: a stage is computed again beside what exists, and its files then replace the old ones, or go.

Staged files lie below `again/`, in folders that are called as those they may replace, so that computing them is what it
always is. They replace the old ones file by file; entries of the old ones go first and those of the new ones come last,
so that no entry ever describes another file's values, whenever the process ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.engine.keyed import STAGING
from tasks.engine.pipeline import Pipeline
from tasks.storage.manifest import Manifest


class Staging:
    """The staged files of one stage, which no other process computes meanwhile."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.pipeline, self.store, self.name = pipeline, pipeline.store, name
        if name == "documents":
            folders = {pipeline.documents_folder(source) for source in pipeline.readers}
        else:
            folders = {pipeline.folder(pipeline.node(name).stage)}
        self.folders = sorted(STAGING + folder for folder in folders)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """While the block runs, the pipeline finds nothing computed of the stage, and computes it into staged files."""
        self.pipeline.staged, self.pipeline.tried = self.name, set()
        try:
            yield
        finally:
            self.pipeline.staged = None

    def clear(self) -> None:
        """Remove what is staged."""
        for path in self._paths():
            self.store.remove(path)

    def replace(self) -> None:
        """Put what is staged in the place of what it was computed beside."""
        paths = self._paths()
        for folder in sorted({path.partition("/manifest/")[0] for path in paths if "/manifest/" in path}):
            keys = sorted({entry["key"] for entry in Manifest(self.store, folder).entries()})
            Manifest(self.store, folder.removeprefix(STAGING)).append([{"key": key, "removed": True} for key in keys])
        for path in paths:
            self._put(path)
            self.store.remove(path)

    def _paths(self) -> list[str]:
        """The staged files, segments of manifests last."""
        paths = [path for folder in self.folders for path in self.store.walk(folder)]
        return sorted(paths, key=lambda path: "/manifest/" in path)

    def _put(self, path: str) -> None:
        """Write a staged file to where it goes: to the place of the old one, a manifest's segment after those that are
        there. Documents and segments of JSON carry checksums of their places."""
        target = path.removeprefix(STAGING)
        folder, inside, _ = target.partition("/manifest/")
        if inside:
            Manifest(self.store, folder).append(list(Manifest(self.store, STAGING + folder).segment(path)))
        elif target.endswith(".json"):
            self.store.commit_json(target, self.store.json(path))
        else:
            self.store.commit(target, self.store.read(path))
