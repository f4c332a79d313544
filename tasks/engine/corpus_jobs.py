"""The jobs of a corpus stage: map every shard, iterate over the partitions, reduce them, scatter to every shard.

Each step reads what the one before it wrote, and its keys are made of that, so they are known once it is done. What is
known of a stage goes as far as its steps are done; the first that lacks something gives the jobs to do next.

Two shards, a stage of two partitions, and nothing done yet: `jobs` gives two maps. Both done, each in a slice for each
partition: a reduction for each partition, of that partition's slice of either map. These done, each in a slice for each
shard: a scatter for each shard, of that shard's slice of either reduction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tasks.engine.outputs import JobBatch, Output
from tasks.engine.shuffle import Shuffle
from tasks.engine.stage import CorpusStage, RepeatedStage
from tasks.engine.worker import Job
from tasks.storage.manifest import QUARANTINED, Entry, Index, Manifest

if TYPE_CHECKING:
    from tasks.engine.pipeline import Pipeline


class CorpusJobs:
    """The steps of one corpus stage in a pipeline."""

    def __init__(self, pipeline: Pipeline, stage: CorpusStage) -> None:
        self.pipeline, self.stage = pipeline, stage
        self.folder = pipeline.folder(stage)
        self.intermediates: list[str] = []
        """Paths of what maps, rounds and reductions wrote, or will write."""
        self.batches: list[JobBatch] = []
        """The jobs to do next."""

    def output(self) -> Output:
        """What is known of the stage's output, and the next jobs for it."""
        maps = self._maps()
        quarantined = maps.state == QUARANTINED
        unavailable = self.pipeline.unavailable(self._columns(self.stage.inputs)) | quarantined
        if self.batches or not (maps.done | unavailable).all():
            return self._unknown(maps)
        uids = self.pipeline.uids()
        order = sorted(np.flatnonzero(maps.done & ~unavailable).tolist(), key=lambda place: uids[place])
        reduced = self._reduced(Shuffle(f"{self.folder}/map", maps, order, uids))
        return self._unknown(maps) if reduced is None else self._scattered(reduced, uids, unavailable, maps)

    def _columns(self, roles: Sequence[str]) -> list[str]:
        return self.pipeline.columns_read(self.stage, roles)

    def _unknown(self, maps: Index) -> Output:
        """The output while its keys are not known."""
        count = len(self.pipeline.shards)
        index = Index((), [None] * count, self.stage.writes.names)
        index.state[maps.state == QUARANTINED] = QUARANTINED
        index.errors = maps.errors
        return Output([self.folder] * count, ".parquet", index, self.batches, self.intermediates)

    def _maps(self) -> Index:
        """What is known of the map of each shard."""
        stage, pipeline, folder = self.stage, self.pipeline, f"{self.folder}/map"
        keys = pipeline.keys(f"{stage.fingerprint}:map:{stage.partitions}", self._columns(stage.gated))
        maps = Index(Manifest(pipeline.store, folder).entries(), keys)
        self.intermediates += [f"{folder}/{key}.arrow" for key in keys if key]
        self._next(
            [folder] * len(keys),
            maps,
            [
                pipeline.job(stage, "map", str(keys[place]), f"{folder}/{keys[place]}.arrow", place, stage.gated)
                for place in pipeline.due(maps)
            ],
        )
        return maps

    def _reduced(self, mapped: Shuffle) -> Shuffle | None:
        """The reductions of what was mapped, after as many rounds as it takes; None while there are jobs to do."""
        groups = self.stage.reduce_groups(int(mapped.index.rows[mapped.order].sum()))
        repeated = isinstance(self.stage, RepeatedStage) and len(groups) > 1
        settled = self._settled(mapped, groups) if repeated else mapped
        if settled is None:
            return None
        entries = Manifest(self.pipeline.store, f"{self.folder}/reduce").entries()
        return self._step("reduce", settled, groups, entries)

    def _settled(self, mapped: Shuffle, groups: Sequence[range]) -> Shuffle | None:
        """The round that read what the one before it read, so that another would change nothing; None while there are
        jobs to do."""
        entries = list(Manifest(self.pipeline.store, f"{self.folder}/round").entries())
        before, after = mapped, self._step("round", mapped, groups, entries)
        while after and after.index.keys != before.index.keys:
            before, after = after, self._step("round", after, groups, entries)
        return after

    def _step(
        self, kind: Literal["round", "reduce"], read: Shuffle, groups: Sequence[range], entries: Iterable[Entry]
    ) -> Shuffle | None:
        """What reads a shuffle, a group of partitions at a time, and writes slices itself; None while there are jobs to
        do. Of the groups 0..1 and 2..3, slices for the partitions 0 and 1 go into the job "0", the others into "2"."""
        stage, pipeline, folder = self.stage, self.pipeline, f"{self.folder}/{kind}"
        group_of = {str(partition): str(group.start) for group in groups for partition in group}
        partitions = {str(group.start): group for group in groups}
        name = f"{stage.fingerprint}:{kind}"
        if kind == "round":
            name += f":{stage.partitions}:{len(groups)}"
        slices = read.grouped(name, group_of)
        starts = sorted(slices, key=int)
        index = Index(entries, [slices[start].key for start in starts])
        paths = [f"{folder}/{key}.arrow" for key in index.keys]
        jobs = []
        for place in pipeline.due(index):
            start, key = starts[place], str(index.keys[place])
            parts = read.slices(slices[start])
            job = Job(kind, key, paths[place], f"{stage.name} partition {start}", pipeline.run, slices=parts)
            jobs.append(replace(job, partition_range=partitions[start], cost=len(parts)))
        self.intermediates += paths
        self._next([folder] * len(starts), index, jobs)
        return Shuffle(folder, index, range(len(starts)), [0] * len(starts)) if index.done.all() else None

    def _scattered(self, reduced: Shuffle, uids: list[int], unavailable: np.ndarray, maps: Index) -> Output:
        """The output: of each shard the scatter of the slices that reductions wrote for it."""
        stage, pipeline = self.stage, self.pipeline
        slices = reduced.grouped("")
        extra = [slices[str(uid)].key.encode() if str(uid) in slices else b"" for uid in uids]
        keys = pipeline.keys(f"{stage.fingerprint}:scatter", self._columns(stage.scatters), extra)
        keys = [None if gone else key for key, gone in zip(keys, unavailable.tolist(), strict=True)]
        index = Index(Manifest(pipeline.store, self.folder).entries(), keys, stage.writes.names)
        index.state[unavailable] = QUARANTINED
        index.errors |= maps.errors
        output = Output([self.folder] * len(keys), ".parquet", index, self.batches, self.intermediates)
        jobs = []
        for place in pipeline.due(index):
            uid = str(uids[place])
            parts = reduced.slices(slices[uid]) if uid in slices else ()
            key, path = str(keys[place]), output.path(place)
            jobs.append(pipeline.job(stage, "scatter", key, path, place, stage.scatters, slices=parts))
        self._next(output.folders, index, jobs)
        return output

    def _next(self, folders: list[str], index: Index, jobs: list[Job]) -> None:
        """Jobs to do next, where there are any."""
        if jobs:
            stage_key = f"{self.stage.name}@{self.stage.fingerprint}"
            self.batches.append(JobBatch(self.stage, stage_key, folders, index, jobs))
