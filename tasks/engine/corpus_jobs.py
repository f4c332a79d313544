"""The jobs of a corpus stage: map every shard, iterate over the partitions, reduce them, scatter to every shard.

Each step reads what the one before it wrote, and its keys are made of that, so they are known once it is done. What is
known of a stage goes as far as its steps are done; the first that lacks something gives the jobs to do next.

Two shards, a stage of two partitions, and nothing done yet: `jobs` gives two maps. Both done, each in a slice for each
partition: a reduction for each partition, of that partition's slice of either map. These done, each in a slice for each
shard: a scatter for each shard, of that shard's slice of either reduction.

That is one generation. A later one does the same for its own shards alone, after the generations before it: beside
their slices, its reductions read the state that those left (tasks/engine/corpus_state.py), and its maps what older
documents that they name say (tasks/engine/recall.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from tasks.engine.corpus_state import CorpusState, Run
from tasks.engine.corpus_steps import CorpusSteps
from tasks.engine.job import Job
from tasks.engine.keyed import KeyedCorpus
from tasks.engine.outputs import Output
from tasks.engine.recall import Recall
from tasks.engine.shuffle import Shuffle, SliceGroup, grouped
from tasks.engine.stage import AskingStage, CorpusStage, RecallingStage, RepeatedStage
from tasks.storage.manifest import QUARANTINED, Entry, Index


class CorpusJobs(CorpusSteps):
    """The steps of one corpus stage, and the jobs that they ask for."""

    def __init__(self, pipeline: KeyedCorpus, stage: CorpusStage) -> None:
        super().__init__(pipeline, stage)
        self.state = CorpusState(self)

    def output(self) -> Output:
        """What is known of the stage's output, and the next jobs for it."""
        self.unavailable = self.pipeline.unavailable(self.columns(self.stage.inputs))
        self.pipeline.outputs[self.stage.label] = self.found  # of which recalls read what is done
        for number, places in enumerate(self.generations):
            if not self._generation(number, places):
                break
        quarantined = self.maps.state == QUARANTINED
        self.index.state[quarantined] = QUARANTINED
        self.index.errors |= self.maps.errors
        self.found.intermediates += self.state.paths(len(self.found.reductions))
        return self.found

    def _generation(self, number: int, places: Sequence[int]) -> bool:
        """Take in what is known of one generation; whether that is all of it."""
        recalled = None
        if number and isinstance(self.stage, RecallingStage):
            recalled = Recall(self, self.stage, number, places).answers()
            if recalled is None:
                return False
        asked = isinstance(self.stage, AskingStage)
        self._map(places, grouped([recalled], "") if recalled and asked else {})
        left_out = self.unavailable | (self.maps.state == QUARANTINED)
        if self.found.batches or not (self.maps.done | left_out)[places].all():
            return False
        order = [place for place in places if self.maps.done[place] and not left_out[place]]
        order.sort(key=self.uids.__getitem__)
        mapped = [Shuffle(f"{self.folder}/map", self.maps, order, self.uids)]
        if recalled and not asked:
            mapped.append(recalled)
        reduced = self._reduced(number, mapped)
        if reduced is None:
            return False
        self.found.reductions.append(reduced)
        self._scatter(places, reduced, left_out)
        return not self.found.batches

    def _map(self, places: Sequence[int], answers: Mapping[str, SliceGroup]) -> None:
        """What is known of the maps of some shards, with what was answered to each."""
        stage, pipeline, folder = self.stage, self.pipeline, f"{self.folder}/map"

        def of(place: int) -> SliceGroup | None:
            return answers.get(str(self.uids[place])) if answers else None

        def group_key(place: int) -> bytes:
            group = of(place)
            return group.key.encode() if group else b""

        fingerprint = f"{stage.fingerprint}:map:{stage.partitions}"
        keys = pipeline.keys_of(places, fingerprint, self.columns(stage.gated), group_key)
        self.learn("map", self.maps, keys)
        self.found.intermediates += [f"{folder}/{key}.arrow" for key in keys.values()]
        jobs = []
        for place in self._due(self.maps, keys):
            group, key = of(place), keys[place]
            parts = tuple(group.slices()) if group else ()
            job = pipeline.job(stage, "map", key, f"{folder}/{key}.arrow", place, stage.gated, slices=parts)
            jobs.append(job)
        self.next([folder] * len(self.maps.keys), self.maps, jobs)

    def _due(self, index: Index, keys: Mapping[int, str]) -> list[int]:
        return self.pipeline.due(index, list(keys))

    def _reduced(self, number: int, mapped: Sequence[Shuffle]) -> Shuffle | None:
        """The reductions of what was mapped, after as many rounds as it takes; None while there are jobs to do."""
        groups = self.stage.reduce_groups(sum(int(each.index.rows[each.order].sum()) for each in mapped))
        repeated = isinstance(self.stage, RepeatedStage) and len(groups) > 1
        settled = self._settled(mapped, groups) if repeated else mapped
        return None if settled is None else self._reduction(number, settled, groups)

    def _settled(self, mapped: Sequence[Shuffle], groups: Sequence[range]) -> Sequence[Shuffle] | None:
        """The round that read what the one before it read, so that another would change nothing; None while there are
        jobs to do."""
        entries = list(self.entries("round"))
        before: Sequence[Shuffle] = mapped
        after = self._round(mapped, groups, entries)
        while after and after.index.keys != before[0].index.keys:
            before, after = [after], self._round([after], groups, entries)
        return [after] if after else None

    def _round(self, read: Sequence[Shuffle], groups: Sequence[range], entries: Iterable[Entry]) -> Shuffle | None:
        """One round over what shuffles hold; None while there are jobs to do."""
        name = f"{self.stage.fingerprint}:round:{self.stage.partitions}:{len(groups)}"
        slices = _by_group(read, name, groups)
        index = Index(entries, [each.key for each in slices.values()])
        due = self.pipeline.due(index)
        return self._over_partitions("round", slices, groups, index, due, {})

    def _reduction(self, number: int, read: Sequence[Shuffle], groups: Sequence[range]) -> Shuffle | None:
        """The reduction of what shuffles hold for a generation, with the state that earlier ones left; None while there
        are jobs to do."""
        slices = _by_group(read, f"{self.stage.fingerprint}:reduce", groups)
        self.state.add(number, slices)
        keys = {place: each.key for place, each in enumerate(slices.values())}
        index = Index((), [*keys.values()])
        self.learn("reduce", index, keys)
        due = self.pipeline.due(index)
        starts = [*slices]
        state = self.state.runs(number, [starts[place] for place in due]) if due else {}
        return None if state is None else self._over_partitions("reduce", slices, groups, index, due, state)

    def _over_partitions(
        self,
        kind: Literal["round", "reduce"],
        slices: Mapping[str, SliceGroup],
        groups: Sequence[range],
        index: Index,
        due: Sequence[int],
        state: Mapping[str, Sequence[Run]],
    ) -> Shuffle | None:
        """The slices that jobs write, one job a group of partitions; None while some of them are due."""
        folder, starts = f"{self.folder}/{kind}", [*slices]
        partitions = {str(group.start): group for group in groups}
        paths = [f"{folder}/{key}.arrow" for key in index.keys]
        jobs = []
        for place in due:
            start, key = starts[place], str(index.keys[place])
            parts = tuple(slices[start].slices())
            job = Job(kind, key, paths[place], f"{self.stage.name} partition {start}", self.pipeline.run, slices=parts)
            runs = tuple(state.get(start, ()))
            jobs.append(replace(job, partition_range=partitions[start], cost=len(parts), state=runs))
        self.found.intermediates += paths
        self.next([folder] * len(starts), index, jobs)
        return Shuffle(folder, index, range(len(starts)), [0] * len(starts)) if index.done.all() else None

    def _scatter(self, places: Sequence[int], reduced: Shuffle, left_out: np.ndarray) -> None:
        """The output: of each shard of a generation the scatter of the slices that reductions wrote for it."""
        stage, pipeline, uids = self.stage, self.pipeline, self.uids
        slices = grouped([reduced], "")

        def group_key(place: int) -> bytes:
            uid = str(uids[place])
            return slices[uid].key.encode() if uid in slices else b""

        chosen = [place for place in places if not left_out[place]]
        keys = pipeline.keys_of(chosen, f"{stage.fingerprint}:scatter", self.columns(stage.scatters), group_key)
        self.learn("", self.index, keys)
        self.index.state[[place for place in places if left_out[place]]] = QUARANTINED
        jobs = []
        for place in self._due(self.index, keys):
            uid = str(uids[place])
            parts = tuple(slices[uid].slices()) if uid in slices else ()
            path = self.found.path(place)
            jobs.append(pipeline.job(stage, "scatter", keys[place], path, place, stage.scatters, slices=parts))
        self.next(self.found.folders, self.index, jobs)


def _by_group(read: Sequence[Shuffle], name: str, groups: Sequence[range]) -> dict[str, SliceGroup]:
    """Slices by the first partition of the group that theirs is in, in order: of the groups 0..1 and 2..3 those of the
    partitions 0 and 1 under "0", the others under "2"."""
    slices = grouped(read, name, {str(partition): str(group.start) for group in groups for partition in group})
    return {start: slices[start] for start in sorted(slices, key=int)}
