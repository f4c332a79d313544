"""What a corpus stage knows of earlier generations: mapped rows of each partition, sorted by a key, in a few runs.

The next generation finds in them the rows that have a key of its own, and reads no others: a run is cut into blocks by
the first bits of the key, each a slice of its file with a digest of its own. A generation adds one run for each
partition; runs of similar size are merged, so there are no more than the logarithm of the generations. They are made
when a later generation asks for them: a corpus of one generation has none.

Sizes of generations of 100, 1, 1, 1 and 1: runs of 100; of 100 and 1; of 100 and 2; of 100 and 3; of 100, 3 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from tasks.engine.corpus_steps import CorpusSteps
from tasks.engine.job import Job
from tasks.engine.shuffle import Slice, SliceGroup
from tasks.engine.stage import digest
from tasks.storage.manifest import Index


class Run(NamedTuple):
    """A file of sorted rows: its blocks' names, and their digests, in file order."""

    path: str
    blocks: tuple[str, ...]
    digests: tuple[str, ...]


Span = tuple[int, int]
"""The first and the last generation of a run."""


def spans(sizes: Sequence[int]) -> list[Span]:
    """The runs of generations of such sizes: a new one takes in what is before it and not more than twice its size."""
    found: list[tuple[int, int, int]] = []
    for each, size in enumerate(sizes):
        first = each
        while found and 2 * size >= found[-1][2]:
            first, _, before = found.pop()
            size += before
        found.append((first, each, size))
    return [(first, last) for first, last, _ in found]


class CorpusState:
    """The state of one corpus stage, generation by generation."""

    def __init__(self, steps: CorpusSteps) -> None:
        self.steps, self.stage = steps, steps.stage
        self.folder = f"{steps.folder}/state"
        self.groups: list[Mapping[str, SliceGroup]] = []
        """Of each generation the slices of each partition."""
        self.latest: list[dict[str, str]] = []
        """After each generation: partition -> the key of its last reduction, which tells its history."""

    def add(self, number: int, slices: Mapping[str, SliceGroup]) -> None:
        """A generation's slices, by partition; what was before them goes into their keys."""
        if not self.stage.state_key:
            return
        before = self.latest[number - 1] if number else {}
        for partition, group in slices.items():
            if partition in before:
                group.state.update(f"after {before[partition]}".encode())
        self.groups.append(slices)
        self.latest.append(before | {partition: group.key for partition, group in slices.items()})

    def runs(self, number: int, partitions: Sequence[str]) -> Mapping[str, Sequence[Run]] | None:
        """Of some partitions the runs of what was before a generation, oldest first; None while jobs are to do."""
        if not (self.stage.state_key and number):
            return {}
        wanted = [(span, partition) for span in self._spans(number) for partition in partitions]
        wanted = [(span, partition) for span, partition in wanted if self._key(span, partition)]
        entries = list(self.steps.entries("state"))
        index = Index(entries, [self._key(*each) for each in wanted])
        jobs = []
        for place in self.steps.pipeline.due(index):
            span, partition = wanted[place]
            key, groups = str(index.keys[place]), self._parts(span, partition, entries)
            parts, ends = tuple(chain(*groups)), tuple(accumulate(map(len, groups)))
            path, name = f"{self.folder}/{key}.arrow", f"{self.stage.name} state {partition}"
            jobs.append(
                Job("state", key, path, name, self.steps.pipeline.run, slices=parts, ends=ends, cost=len(parts))
            )
        if jobs:
            self.steps.next([self.folder] * len(wanted), index, jobs)
        if not index.done.all():
            return None
        found: dict[str, list[Run]] = {partition: [] for partition in partitions}
        for place, (_, partition) in enumerate(wanted):
            blocks = [*index.sliced(place)]
            path = f"{self.folder}/{index.keys[place]}.arrow"
            found[partition].append(Run(path, tuple(name for name, _ in blocks), tuple(each for _, each in blocks)))
        return found

    def paths(self, number: int) -> list[str]:
        """Of the runs before a generation, and of those that they are made of."""
        spans = {span for count in (number - 1, number) if count > 0 for span in self._spans(count)}
        if not self.groups:
            return []
        keys = [self._key(span, partition) for span in sorted(spans) for partition in self.latest[-1]]
        return [f"{self.folder}/{key}.arrow" for key in keys if key]

    def _spans(self, number: int) -> list[Span]:
        """The runs after so many generations."""
        return spans([int(self.steps.maps.rows[places].sum()) for places in self.steps.generations[:number]])

    def _key(self, span: Span, partition: str) -> str | None:
        """The key of a run; None where none of its generations has rows of the partition."""
        first, last = span
        if not any(partition in self.groups[each] for each in range(first, last + 1)):
            return None
        return digest([self.stage.fingerprint, "state", first, self.latest[last][partition]])

    def _parts(self, span: Span, partition: str, entries: Sequence[dict[str, object]]) -> list[list[Slice]]:
        """What a run is made of, oldest first: the slices of each run before its last generation that is there, and of
        each generation that is in none."""
        first, last = span
        parts: list[list[Slice]] = []
        for begin, end in [each for each in self._spans(last) if each[0] >= first] if last else []:
            index = Index(entries, [self._key((begin, end), partition)])
            if index.done.all():
                path = f"{self.folder}/{index.keys[0]}.arrow"
                parts.append([(path, number, found) for number, (_, found) in enumerate(index.sliced(0))])
            else:
                parts += self._mapped(range(begin, end + 1), partition)
        return [*parts, *self._mapped(range(last, last + 1), partition)]

    def _mapped(self, generations: range, partition: str) -> list[list[Slice]]:
        groups = [self.groups[each] for each in generations]
        return [[*group[partition].slices()] for group in groups if partition in group]
