"""What a run that goes on asks of its log, read once.

After a million steps a log is a gigabyte. Every segment is read and verified, but of the records of steps only the last
ones are made anything of; of the others it is enough that they are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import orjson

from tasks.storage.store import Store
from training import log
from training.log import DIVERGED, Record

_BEGINS = re.compile(rb'\{"kind":"(\w+)","step":(-?\d+),')
"""How a record is written."""


class History:
    """A run's log as it stands; empty where there is none. Raises DamagedError."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.paths = store, log.segments(store, run)
        self.steps: dict[int, int] = {}
        """Step -> the segment with the record of it that later attempts have not superseded."""
        self.started: list[Record] = []
        """The records of all attempts."""
        self.others: list[Record] = []
        """Records that are not superseded, but those of steps and of their sums, in the order they were written."""
        for number, (path, data) in enumerate(zip(self.paths, store.read_each(self.paths), strict=True)):
            for line in log.lines(data, path):
                self._take(number, line)

    def _take(self, number: int, line: bytes) -> None:
        """A record of the segment of a number."""
        if (begins := _BEGINS.match(line)) and begins[1] in (b"step", b"losses"):
            if begins[1] == b"step":
                self.steps[int(begins[2])] = number
            return
        record: Record = orjson.loads(line)
        if record["kind"] == "start":
            self.started.append(record)
            for step in range(max(self.steps, default=0), record["step"], -1):
                self.steps.pop(step, None)
            self.others = [old for old in self.others if old["step"] <= record["step"] or old["kind"] in DIVERGED]
        else:
            self.others.append(record)

    def of(self, kind: str) -> list[Record]:
        """The records of a kind other than `step`, by step."""
        return sorted((record for record in self.others if record["kind"] == kind), key=lambda record: record["step"])

    def diverged(self) -> list[tuple[int, int, int]]:
        """Phase, first row and number of rows of the steps that are not read again."""
        return sorted((r["phase"], r["row"], r["rows"]) for r in self.others if r["kind"] in DIVERGED)

    def lost(self, until: int) -> list[int]:
        """Steps up to one that have no record, though a run that went so far committed one of each."""
        return log.missing(self.steps, until)

    def last_steps(self, until: int, updated: int | None) -> list[Record]:
        """The last records of steps up to one, oldest first: so many that `updated` of them moved the weights, where
        there are as many; all for None."""
        found: list[Record] = []
        for record in self._backwards(until):
            if updated is not None and updated <= 0:
                break
            found.append(record)
            if updated is not None:
                updated -= log.updated(record)
        return found[::-1]

    def _backwards(self, until: int) -> Iterator[Record]:
        opened, records = -1, dict[int, Record]()
        for step in range(min(until, max(self.steps, default=0)), 0, -1):
            if self.steps[step] != opened:
                opened = self.steps[step]
                whole = log.segment(self.store, self.paths[opened])
                records = {record["step"]: record for record in whole if record["kind"] == "step"}
            yield records[step]

    def other_precision(self, bf16: bool) -> str:
        """What to say where the run was trained in another precision when it last began; "" where it was not, or never
        did."""
        if not self.started or self.started[-1].get("bf16", bf16) == bf16:
            return ""
        before, now = ("fp32", "bf16") if bf16 else ("bf16", "fp32")
        return f"goes on in {now}, and was trained in {before}: `training.precision` keeps it on every machine"

    def other_evaluation(self, sets: Mapping[str, str], averaged: bool) -> list[str]:
        """What to say where evaluations are of something else than the last one so far was: other texts of a set
        (`sets`: their digests), or the weights and not their average, or this and not those."""
        held = self.of("held_out")
        if not held:
            return []
        alone = f"than at step {held[-1]['step']} and before, which are no part of what a summary compares"
        before = held[-1].get("sets_of", {})
        differences = [
            f"training.evaluate.sets.{name}: it holds other documents {alone}"
            for name, found in sets.items()
            if before.get(name, found) != found
        ]
        if held[-1].get("averaged", False) != averaged:
            differences.append(
                f"training.average.evaluate: what is evaluated is {'the average' if averaged else 'no average'}, "
                f"other weights {alone}"
            )
        return differences
