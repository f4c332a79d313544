"""Running a pipeline's stages, one call each: what a Prefect task, a benchmark or a test calls.

A stage is computed in batches of jobs until nothing of it can be computed any more; then its gates are checked. Free
space is checked before each batch. Nothing is started where nothing has to be done.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from data_specs.amounts import plural
from tasks.engine import fanout, gates, upstream
from tasks.engine.counts import Counts
from tasks.engine.keyed import STAGING
from tasks.engine.listings import Listings
from tasks.engine.nodes import Node
from tasks.engine.outputs import JobBatch, Output
from tasks.engine.pipeline import Pipeline
from tasks.engine.repair import Repair
from tasks.engine.stage import Estimator, digest
from tasks.engine.staging import Staging
from tasks.storage import locks
from tasks.storage.manifest import QUARANTINED, Index
from tasks.storage.pins import without
from tasks.storage.store import DamagedError

T = TypeVar("T")
SPARE = 64 * 2**20
"""Bytes that must stay free on the store's disk beside what a batch of jobs may write."""


class StageError(RuntimeError):
    """A stage could not be computed."""


class ChangedError(StageError):
    """A recomputed stage gave other values than before."""


class DiskFullError(StageError):
    """The store's disk has too little free space for the next stage."""


@dataclass
class StageResult:
    """What a run says of one stage."""

    name: str
    fingerprint: str
    state: str
    """computed, partial (some shards quarantined) or cached."""
    shards: int
    rows: int
    seconds: float
    note: str = ""
    jobs: int = 0
    """Jobs done: shards read or computed, maps, reductions, samples."""
    computed: int = 0
    """Of the shards, those read or computed now, also without success; the others were there."""

    def json(self) -> dict[str, Any]:
        return asdict(self)


Progress = Callable[[str, int, int], None]
"""Called with stage, jobs done, jobs in all."""
RunJobs = Callable[..., int]


class Execution:
    """One run over one pipeline. `run_jobs` does the jobs: the Ray fan-out, or what a benchmark compares with it."""

    def __init__(self, pipeline: Pipeline, run_jobs: RunJobs = fanout.run) -> None:
        self.pipeline, self.run_jobs = pipeline, run_jobs
        self.progress: Progress = lambda *_: None
        self.results: list[StageResult] = []
        self.jobs: Counter[str] = Counter()
        """Jobs done, by stage."""
        self.computed: Counter[str] = Counter()
        """Shards read or computed, by stage."""
        self._counts: Counts | None = None
        self.repair = Repair(pipeline, self._compute)

    def documents(self) -> StageResult:
        """List the sources and read what is new. Raises GateError where too much cannot be read or is gone, or a source
        has not one document."""
        started = time.perf_counter()
        self.pipeline.list_sources()
        listings = Listings(self.pipeline.spec, self.pipeline.store)
        gone = [*gates.listed(self.pipeline, listings), *gates.held_out(self.pipeline, listings)]
        jobs_run = self._compute("documents")
        fingerprints = "+".join(sorted({reader.fingerprint for reader in self.pipeline.readers.values()}))
        result = self._result("documents", fingerprints, jobs_run, started)
        notes = [f"{name}: {reader.regrouped}" for name, reader in self.pipeline.readers.items() if reader.regrouped]
        readings = gates.readings(self.pipeline)
        damaged = [f"of source {name} {each.damage_in_words}" for name, each in readings.items() if each.damaged]
        notes += [*gone, *damaged, *gates.unfilled(self.pipeline)]
        result.note = "; ".join([*notes, *filter(None, [result.note])])
        gates.read(self.pipeline, readings, listings)
        listings.commit({name: each.whole for name, each in readings.items()}, self.pipeline.readers)
        return result

    def stage(self, name: str) -> StageResult:
        """Compute what is missing of one stage. Raises StageError or GateError."""
        started = time.perf_counter()
        node = self.pipeline.node(name)
        if isinstance(node.stage, Estimator):
            return self._learn(node, started)
        jobs_run = self._compute(name)
        result = self._result(name, node.stage.fingerprint, jobs_run, started)
        result.note = "; ".join([*filter(None, [result.note]), *gates.unlabelled(self.pipeline, name)])
        if name == "verdict":
            gates.removed(self.pipeline)
            gates.skipped(self.pipeline)
        return result

    def count(self, counts: Counts) -> Output:
        """Count what is in the shards that are new or changed."""
        self._counts = counts
        self.repair.counted = {self.pipeline.counts_folder(counts): counts.name}
        self._compute(counts.name)
        return self.pipeline.counted(counts)

    def _learn(self, node: Node, started: float) -> StageResult:
        moved = self.pipeline.pins.moved(node.stage.label)
        jobs_run = self._compute(node.name)
        pin = self.pipeline.pins.get(node.stage.label)
        if pin is None:
            gates.sampled(self.pipeline, node.name)
            errors = self.pipeline.outputs[node.name].index.errors.values()
            raise StageError(f"{node.name}: nothing was learned. {'; '.join(sorted(set(errors))[:3])}")
        if jobs_run:
            self.pipeline.refresh()
        rows = int(pin["facts"].get("rows", 0))
        note = "; ".join([*self.repaired(), f"pinned {pin['sha256'][:8]} by {pin['run']}"])
        if jobs_run and moved:
            note += f"; learned anew, as {', '.join(moved)} moved"
        if jobs_run and "asked" in pin["facts"]:
            note += f"; {_asked(pin['facts'])}"
        if caution := node.stage.caution(pin["facts"]):
            note += f"; {caution}"
        if left_out := without(pin):
            note += f"; {left_out}: --retrain {node.stage.label} learns it of all"
        if not jobs_run and digest(pin["ingredients"]) != digest(node.stage.fingerprint_fields()):
            note += f"; not as it would be now, see `sluice plan`: --retrain {node.stage.label} learns it anew"
        elif not jobs_run and (why := node.stage.since(pin)):
            note += f"; {why}: --retrain {node.stage.label} takes it"
        elif not jobs_run and (changed := upstream.changed_columns(self.pipeline, pin, node.stage)):
            note += f"; learned from {', '.join(changed)}, made otherwise since: --retrain {node.stage.label} follows"
        seconds = round(time.perf_counter() - started, 3)
        state = "computed" if jobs_run else "cached"
        result = StageResult(node.name, node.stage.fingerprint, state, 0, rows, seconds, note, jobs_run)
        self.results.append(result)
        return result

    def repairing(self, work: Callable[[], T]) -> T:
        """Do work that reads outputs, again where some are damaged and could be made again. Raises DamagedError."""
        while True:
            try:
                return work()
            except DamagedError as damage:
                self.repair(damage)

    def _compute(self, name: str) -> int:
        """Compute what is missing of a stage; returns how many jobs that took."""
        if name == "documents":
            return self._run_all(name, self.pipeline.documents)
        if (counts := self._counts) and name == counts.name:
            return self._run_all(name, lambda: self.pipeline.counted(counts))
        return self._run_all(name, lambda: self.pipeline.resolve(self.pipeline.node(name)))

    def _run_all(self, name: str, resolve: Callable[[], Output]) -> int:
        """Run jobs until none is left; returns how many there were."""
        before = self.jobs[name]
        while self.repairing(lambda: self._next(name, resolve())):
            pass
        return self.jobs[name] - before

    def _next(self, name: str, output: Output) -> bool:
        """Take in what was computed already, else do the next jobs; whether there was anything."""
        if not any(self.pipeline.recover(batch) for batch in output.batches):
            for batch in output.batches:
                self._check_space(name, batch)
                self._run_batch(name, batch)
        return bool(output.batches)

    def _run_batch(self, name: str, batch: JobBatch) -> None:
        total, count, errors = len(batch.jobs), 0, list[str]()
        self.progress(name, 0, total)

        def commit(entries: list[Any]) -> None:
            nonlocal count
            self.pipeline.commit(batch, entries)
            count += len(entries)
            errors.extend(entry["error"] for entry in entries if "error" in entry)
            self.jobs[name] += len(entries)
            self.computed[name] += len(entries) if batch.jobs[0].kind in ("read", "shard", "scatter") else 0
            self.progress(name, count, total)

        pipeline = self.pipeline
        try:
            self.run_jobs(batch.stage, batch.stage_key, batch.jobs, pipeline.store, pipeline.spec.cluster, commit)
        finally:
            if errors and batch.jobs[0].kind in ("ask", "recall", "round", "state", "reduce", "fit"):
                raise StageError(f"{name}: {errors[0]}")

    def _check_space(self, name: str, batch: JobBatch) -> None:
        free = self.pipeline.store.free()
        needed = sum(job.cost for job in batch.jobs) + SPARE
        if free is not None and free < needed:
            raise DiskFullError(
                f"{name}: {self.pipeline.store.url} has {free / 2**20:,.0f} MiB free and may need "
                f"{needed / 2**20:,.0f} MiB; free some (`sluice gc` lists what nothing refers to) or move the store"
            )

    def _result(self, name: str, fingerprint: str, jobs_run: int, started: float) -> StageResult:
        index = self.pipeline.outputs[name].index
        lost = int(np.count_nonzero(index.state == QUARANTINED))
        state = "partial" if lost else "computed" if jobs_run else "cached"
        seconds = round(time.perf_counter() - started, 3)
        rows = int(index.rows[index.done].sum())
        note = "; ".join([*self.repaired(), *sorted(set(index.errors.values()))[:3]])
        self.pipeline.describe_all(name)
        shards, computed = len(index.keys), self.computed[name]
        result = StageResult(name, fingerprint, state, shards, rows, seconds, note, jobs_run, computed)
        self.results.append(result)
        gates.quarantined(self.pipeline, name)
        return result

    def repaired(self) -> list[str]:
        """What was made again since this was last asked."""
        notes, self.repair.notes = self.repair.notes, []
        return notes

    def recompute(self, name: str, replace: bool = False) -> StageResult:
        """Compute a stage again beside what exists and compare values. Equal: nothing below has to run. Raises
        ChangedError where values differ, unless they are to `replace` the old ones."""
        started = time.perf_counter()
        pipeline = self.pipeline
        resolve = pipeline.documents if name == "documents" else lambda: pipeline.resolve(pipeline.node(name))
        if name != "documents" and isinstance(pipeline.node(name).stage, Estimator):
            raise StageError(f"{name} is learned and pinned; `--retrain {name}` learns it anew")
        before = self.repairing(resolve)
        with locks.alone(pipeline.store, f"{STAGING}{name}"):
            staging = Staging(pipeline, name)
            staging.clear()  # what a killed run left
            if before.batches:
                return self.documents() if name == "documents" else self.stage(name)
            try:
                with staging.computing():
                    jobs_run = self._run_all(name, resolve)
                    different = self._different(name, before.index)
                if different and not replace:
                    raise ChangedError(
                        f"{name}: {len(different)} of {plural(len(pipeline.shards), 'shard')} with other values than "
                        f"before, first {different[0]}: an input that is not declared, or a version that was not "
                        "raised; `--replace` takes the new values"
                    )
                if different or (replace and name == "documents"):
                    staging.replace()
            finally:
                staging.clear()
        resolve()
        fingerprint = "" if name == "documents" else pipeline.node(name).stage.fingerprint
        result = self._result(name, fingerprint, jobs_run, started)
        result.note = (
            f"recomputed: {plural(len(different), 'shard')} replaced" if different else "recomputed: same values"
        )
        return result

    def _different(self, name: str, before: Index) -> list[str]:
        """The shards of which a stage, computed again, has other values than before; a column that documents of an
        earlier version lack is none. Raises StageError where it could not be computed again."""
        after = self.pipeline.outputs[name].index
        if after.errors:
            raise StageError(f"{name}: {next(iter(after.errors.values()))}; what exists was kept")
        same = []
        for column, digests in before.digests.items():
            lacked = before.done & ~digests.any(axis=1)
            same.append(lacked | (after.digests[column] == digests).all(axis=1))
        places = np.flatnonzero(~np.logical_and.reduce(same))
        return [self.pipeline.shards[place].name for place in places.tolist()]


def _asked(facts: Mapping[str, Any]) -> str:
    """How much a language model was asked for what was learned, and what that cost."""
    failed = sum(facts["failures"].values())
    return (
        f"{plural(facts['asked'], 'question')} asked, {facts['answered_before']:,} answered before, "
        f"{plural(facts['retries'], 'time')} again, {failed:,} without an answer; cost {facts['cost']:g}"
    )
