"""What the steps of a corpus stage share: its shards by generation, what is known of them, and the jobs to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from tasks.engine.job import Job
from tasks.engine.keyed import KeyedCorpus
from tasks.engine.outputs import JobBatch, Output
from tasks.engine.stage import CorpusStage
from tasks.storage.manifest import Entry, Index, Manifest

STEPS = ("", "/ask", "/recall", "/map", "/round", "/state", "/reduce")
"""Folders of a corpus stage, below its own."""


class CorpusSteps:
    """One corpus stage over a corpus."""

    def __init__(self, pipeline: KeyedCorpus, stage: CorpusStage) -> None:
        self.pipeline, self.stage = pipeline, stage
        self.folder = pipeline.folder(stage)
        self.generations = pipeline.generations()
        self.uids = pipeline.uids()
        count = len(pipeline.shards)
        self.maps = Index((), [None] * count)
        self.index = Index((), [None] * count, stage.writes.names)
        self.found = Output([self.folder] * count, ".parquet", self.index)
        self.unavailable = np.zeros(count, bool)
        self._unread: dict[str, list[Entry]] = {}
        """Of manifests that were read: entries of keys that no generation so far has."""

    @cached_property
    def place_of(self) -> dict[int, int]:
        """A shard's number in shuffles -> its place."""
        return {uid: place for place, uid in enumerate(self.uids)}

    @cached_property
    def generation_of(self) -> np.ndarray:
        """The number of each place's generation."""
        found = np.zeros(len(self.uids), np.int64)
        for number, places in enumerate(self.generations):
            found[places] = number
        return found

    def columns(self, roles: Sequence[str]) -> list[str]:
        return self.pipeline.columns_read(self.stage, roles)

    def entries(self, step: str) -> Iterable[Entry]:
        """The entries of a step's manifest, in a list where they are asked for again."""
        if len(self.generations) == 1:
            return Manifest(self.pipeline.store, self._of(step)).entries()
        if step not in self._unread:
            self._unread[step] = list(Manifest(self.pipeline.store, self._of(step)).entries())
        return self._unread[step]

    def learn(self, step: str, index: Index, keys: Mapping[int, str]) -> None:
        """Set the keys of some places, and take in what the manifest of a step says of them. A manifest is read once;
        entries that are of no key so far are kept for the generations that come."""
        if not keys:
            return
        unread: list[Entry] | None = [] if len(self.generations) > 1 else None
        known = self._unread.get(step)
        index.assign(keys, Manifest(self.pipeline.store, self._of(step)).entries() if known is None else known, unread)
        if unread is not None:
            self._unread[step] = unread

    def _of(self, step: str) -> str:
        return f"{self.folder}/{step}" if step else self.folder

    def next(self, folders: list[str], index: Index, jobs: list[Job]) -> None:
        """Jobs to do next, where there are any."""
        if jobs:
            stage_key = f"{self.stage.name}@{self.stage.fingerprint}"
            self.found.batches.append(JobBatch(self.stage, stage_key, folders, index, jobs))
