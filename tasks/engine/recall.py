"""Older documents that those of a later generation name: what stages say of them is read, and of no others.

Which they are is in slices by shard: of what the new shards' columns name (a job of kind `ask` each), or of another
stage's reductions. Then as many jobs as there are partitions, at most, read the named rows of older shards' columns,
and write what follows from them: rows for partitions, or answers to the shards that asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.engine.corpus_steps import CorpusSteps
from tasks.engine.job import Job
from tasks.engine.shuffle import Shuffle, SliceGroup, grouped
from tasks.engine.stage import AskingStage, RecallingStage
from tasks.storage.manifest import Index


class Recall:
    """What one generation of a corpus stage asks of those before it."""

    def __init__(self, steps: CorpusSteps, stage: RecallingStage, number: int, places: Sequence[int]) -> None:
        self.steps, self.stage, self.number, self.places = steps, stage, number, places
        self.pipeline = steps.pipeline

    def answers(self) -> Shuffle | None:
        """Slices by partition, or by the shard that asked; None while there are jobs to do."""
        named = self._named()
        if named is None:
            return None
        folder, place_of = f"{self.steps.folder}/recall", self._older(named)
        residues: dict[int, list[int]] = {}
        for uid in sorted(place_of):
            residues.setdefault(uid % self.stage.partitions, []).append(uid)
        order = sorted(residues)
        index = Index(
            self.steps.entries("recall"), [self._key(each, residues[each], place_of, named) for each in order]
        )
        jobs = []
        for place in self.pipeline.due(index):
            key, residue = str(index.keys[place]), order[place]
            older = tuple(self._older_job(place_of[uid], named[str(uid)]) for uid in residues[residue])
            path, name = f"{folder}/{key}.arrow", f"{self.stage.name} of older documents {residue}"
            cost = sum(each.cost for each in older)
            jobs.append(Job("recall", key, path, name, self.pipeline.run, older=older, cost=cost))
        self.steps.found.intermediates += [f"{folder}/{key}.arrow" for key in index.keys]
        self.steps.next([folder] * len(order), index, jobs)
        return Shuffle(folder, index, range(len(order)), order) if index.done.all() else None

    def _named(self) -> Mapping[str, SliceGroup] | None:
        """Slices by the shard that they name documents of; None while there are jobs to do."""
        if isinstance(self.stage, AskingStage):
            return self._asked(self.stage)
        provider = self.pipeline.provider[self.stage.read_from(self.stage.named_by)]
        reductions = self.pipeline.outputs[provider].reductions
        return grouped([reductions[self.number]], "") if len(reductions) > self.number else None

    def _asked(self, stage: AskingStage) -> Mapping[str, SliceGroup] | None:
        """The same of what the new shards' own columns name."""
        folder = f"{self.steps.folder}/ask"
        names = self.steps.columns(stage.asks)
        keys = self.pipeline.keys_of(self.places, f"{stage.fingerprint}:ask", names)
        places = sorted(keys, key=self.steps.uids.__getitem__)
        index = Index(self.steps.entries("ask"), [keys[place] for place in places])
        jobs = []
        for number in self.pipeline.due(index):
            place, key = places[number], str(index.keys[number])
            jobs.append(self.pipeline.job(stage, "ask", key, f"{folder}/{key}.arrow", place, stage.asks))
        self.steps.found.intermediates += [f"{folder}/{key}.arrow" for key in keys.values()]
        self.steps.next([folder] * len(places), index, jobs)
        waiting = ~self.steps.unavailable[self.places].astype(bool)
        if not index.done.all() or len(places) < np.count_nonzero(waiting):
            return None
        return grouped([Shuffle(folder, index, range(len(places)), [self.steps.uids[place] for place in places])], "")

    def _older(self, named: Mapping[str, SliceGroup]) -> dict[int, int]:
        """The older shards that are named and have all that is recalled: number in shuffles -> place."""
        ready = np.ones(len(self.pipeline.shards), bool)
        for name in self.steps.columns(self.stage.recalls):
            ready &= self.pipeline.outputs[self.pipeline.provider[name]].index.done
        place_of = self.steps.place_of
        uids = [uid for uid in map(int, named) if uid in place_of]
        return {
            uid: place_of[uid]
            for uid in uids
            if ready[place_of[uid]] and self.steps.generation_of[place_of[uid]] < self.number
        }

    def _key(
        self, residue: int, uids: Sequence[int], place_of: Mapping[int, int], named: Mapping[str, SliceGroup]
    ) -> str:
        """Of what is named, and of the values that are recalled."""
        state = hashlib.blake2b(f"{self.stage.fingerprint}:recall:{residue}".encode(), digest_size=16)
        recalled = [
            (self.pipeline.outputs[self.pipeline.provider[name]].index, self.pipeline.role[name])
            for name in self.steps.columns(self.stage.recalls)
        ]
        for uid in uids:
            state.update(f"{uid}:{named[str(uid)].key};".encode())
            for index, role in recalled:
                state.update(index.digests[role][place_of[uid]].tobytes())
        return state.hexdigest()

    def _older_job(self, place: int, group: SliceGroup) -> Job:
        """What is read of one older shard."""
        parts = tuple(group.slices())
        return self.pipeline.job(self.stage, "recall", "", "", place, self.stage.recalls, slices=parts)
