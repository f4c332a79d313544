"""Running a pipeline's stages, one call each: what a Prefect task, a benchmark or a test calls.

A stage is computed in waves until nothing of it can be computed any more; then its gates are checked. Free space is
checked before each wave. Nothing is started where nothing has to be done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tasks.engine import fanout, gates
from tasks.engine.pipeline import STAGING, Output, Pipeline, Wave
from tasks.engine.stage import Learned, Node, digest
from tasks.storage.manifest import QUARANTINED
from tasks.storage.pins import without

SPARE = 64 * 2**20
"""Bytes that must stay free on the store's disk beside what a wave may write."""


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
    recipe: str
    state: str
    """computed, partial (some shards quarantined) or cached."""
    shards: int
    rows: int
    seconds: float
    note: str = ""
    jobs: int = 0
    """Jobs done: shards read or computed, maps, reductions, samples."""

    def json(self) -> dict[str, Any]:
        return asdict(self)


Progress = Callable[[str, int, int], None]
"""Called with stage, jobs done, jobs in all."""
Fan = Callable[..., int]


class Execution:
    """One run over one pipeline. `fan` does the jobs: the Ray fan-out, or what a benchmark compares with it."""

    def __init__(self, pipeline: Pipeline, progress: Progress | None = None, fan: Fan = fanout.run) -> None:
        self.pipeline, self.progress, self.fan = pipeline, progress or (lambda *_: None), fan
        self.results: list[StageResult] = []

    def documents(self) -> StageResult:
        """List the sources and read what is new. Raises GateError where a source has not one document."""
        started = time.perf_counter()
        self.pipeline.list_sources()
        did = self._waves("documents", self.pipeline.documents)
        recipes = "+".join(sorted({reader.recipe for reader in self.pipeline.readers.values()}))
        result = self._result("documents", recipes, did, started)
        said = [f"{name}: {reader.regrouped}" for name, reader in self.pipeline.readers.items() if reader.regrouped]
        result.note = "; ".join([*said, *filter(None, [result.note])])
        gates.read(self.pipeline)
        return result

    def stage(self, name: str) -> StageResult:
        """Compute what is missing of one stage. Raises StageError or GateError."""
        started = time.perf_counter()
        node = self.pipeline.node(name)
        if isinstance(node.stage, Learned):
            return self._learn(node, started)
        did = self._waves(name, lambda: self.pipeline.resolve(self.pipeline.node(name)))
        result = self._result(name, node.stage.recipe, did, started)
        if name == "verdict":
            gates.removed(self.pipeline)
            gates.skipped(self.pipeline)
        return result

    def _learn(self, node: Node, started: float) -> StageResult:
        moved = self.pipeline.pins.moved(node.stage.label)
        did = self._waves(node.name, lambda: self.pipeline.resolve(node))
        pin = self.pipeline.pins.get(node.stage.label)
        if pin is None:
            gates.sampled(self.pipeline, node.name)
            errors = self.pipeline.outputs[node.name].index.errors.values()
            raise StageError(f"{node.name}: nothing was learned. {'; '.join(sorted(set(errors))[:3])}")
        if did:
            self.pipeline.refresh()
        rows = int(pin["facts"].get("rows", 0))
        note = f"pinned {pin['sha256'][:8]} by {pin['run']}"
        if did and moved:
            note += f"; learned anew, as {', '.join(moved)} moved"
        if left_out := without(pin):
            note += f"; {left_out}: --retrain {node.stage.label} learns it of all"
        if not did and digest(pin["ingredients"]) != digest(node.stage.ingredients()):
            note += f"; its settings have changed since: --retrain {node.stage.label} learns it anew"
        seconds = round(time.perf_counter() - started, 3)
        state = "computed" if did else "cached"
        result = StageResult(node.name, node.stage.recipe, state, 0, rows, seconds, note, did)
        self.results.append(result)
        return result

    def _waves(self, name: str, resolve: Callable[[], Any]) -> int:
        """Run jobs until none is left; returns how many there were."""
        done = 0
        output = resolve()
        while output.waves:
            recovered = [self.pipeline.recover(wave) for wave in output.waves]
            if any(recovered):
                output = resolve()
                continue
            for wave in output.waves:
                self._check_space(name, wave)
                done += self._one_wave(name, wave)
            output = resolve()
        return done

    def _one_wave(self, name: str, wave: Wave) -> int:
        total, count = len(wave.jobs), 0
        self.progress(name, 0, total)

        def take(entries: list[Any]) -> None:
            nonlocal count
            self.pipeline.take(wave, entries)
            count += len(entries)
            self.progress(name, count, total)

        pipeline = self.pipeline
        failed = self.fan(wave.stage, wave.token, wave.jobs, pipeline.store, pipeline.spec.cluster, take)
        if failed and wave.jobs[0].kind in ("round", "reduce", "fit"):
            raise StageError(f"{name}: {next(iter(wave.index.errors.values()))}")
        return total

    def _check_space(self, name: str, wave: Wave) -> None:
        free = self.pipeline.store.free()
        needed = sum(job.cost for job in wave.jobs) + SPARE
        if free is not None and free < needed:
            raise DiskFullError(
                f"{name}: {self.pipeline.store.url} has {free / 2**20:,.0f} MiB free and may need "
                f"{needed / 2**20:,.0f} MiB; free some (`sluice gc` lists what nothing refers to) or move the store"
            )

    def _result(self, name: str, recipe: str, did: int, started: float) -> StageResult:
        index = self.pipeline.outputs[name].index
        lost = int(np.count_nonzero(index.state == QUARANTINED))
        state = "partial" if lost else "computed" if did else "cached"
        seconds = round(time.perf_counter() - started, 3)
        rows = int(index.rows[index.done].sum())
        note = "; ".join(sorted(set(index.errors.values()))[:3])
        result = StageResult(name, recipe, state, len(index.keys), rows, seconds, note, did)
        self.results.append(result)
        gates.quarantined(self.pipeline, name)
        return result

    def recompute(self, name: str, replace: bool = False) -> StageResult:
        """Compute a stage again beside what exists and compare values. Equal: nothing below has to run. Raises
        ChangedError where values differ, unless they are to `replace` the old ones."""
        started = time.perf_counter()
        pipeline = self.pipeline
        resolve = pipeline.documents if name == "documents" else lambda: pipeline.resolve(pipeline.node(name))
        if name != "documents" and isinstance(pipeline.node(name).stage, Learned):
            raise StageError(f"{name} is learned and pinned; `--retrain {name}` learns it anew")
        before = resolve()
        with pipeline.store.alone(f"{STAGING}{name}"):
            return self._beside(name, replace, resolve, before, started)

    def _beside(
        self, name: str, replace: bool, resolve: Callable[[], Output], before: Output, started: float
    ) -> StageResult:
        """Compute a stage again in a folder beside what exists, which no other process does meanwhile."""
        pipeline = self.pipeline
        pipeline.beside = name
        pipeline.end_beside(name, keep=False)  # what a killed run left
        if before.waves:
            return self.documents() if name == "documents" else self.stage(name)
        pipeline.beside, pipeline.tried = name, set()
        try:
            did = self._waves(name, resolve)
            after = pipeline.outputs[name].index
            if after.errors:
                raise StageError(f"{name}: {next(iter(after.errors.values()))}; what exists was kept")
            different = [
                shard.name
                for place, shard in enumerate(pipeline.shards)
                if any((after.digests[c][place] != before.index.digests[c][place]).any() for c in after.digests)
            ]
            if different and not replace:
                raise ChangedError(
                    f"{name}: {len(different)} of {len(pipeline.shards)} shards have other values than before, first "
                    f"{different[0]}: an input that is not declared, or a version that was not raised; "
                    "`--replace` takes the new values"
                )
            pipeline.end_beside(name, keep=bool(different))
        finally:
            pipeline.end_beside(name, keep=False)
        resolve()
        recipe = "" if name == "documents" else pipeline.node(name).stage.recipe
        result = self._result(name, recipe, did, started)
        result.note = f"recomputed: {len(different)} shards replaced" if different else "recomputed: same values"
        return result
