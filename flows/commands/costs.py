"""What steps cost when they last ran, from manifests, training logs and the records of runs; no column file is opened.

A cost is seconds of worker processes, one core each, and bytes written. What never ran has none, nor has what only the
records of other users know, which are theirs alone. Starting processes, listing sources and resolving manifests are
nobody's jobs and are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_specs.amounts import plural
from data_specs.spec import Spec
from flows.run import Run
from tasks.engine.outputs import Output
from tasks.engine.pipeline import Pipeline
from tasks.engine.stage import CorpusStage, Estimator, Instance
from tasks.storage.manifest import Entry, Index, Manifest
from tasks.storage.store import DeniedError, Store
from training import checkpoint, log

_STEPS = 1000
"""Steps of a training from which the seconds of one are taken, at least, where it has so many: its newest."""
DENIED = "what it cost stands in records of other users, which they alone may read"


@dataclass(frozen=True)
class Cost:
    """Of some jobs: seconds of worker processes, one core each, and bytes written."""

    jobs: float = 0
    seconds: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.jobs + other.jobs, self.seconds + other.seconds, self.bytes + other.bytes)

    def of(self, jobs: int) -> Cost:
        """The cost of so many jobs at the mean of these; nothing where there are none."""
        times = jobs / self.jobs if self.jobs else 0
        return Cost(self.jobs * times, self.seconds * times, self.bytes * times)

    def grown(self, times: float) -> Cost:
        """As many jobs, each with so many times the work."""
        return Cost(self.jobs, self.seconds * times, self.bytes * times)


def past(entries: Iterable[Entry]) -> Cost:
    """What entries cost: of each shard or partition, those of the last run that computed it."""
    last: dict[str, tuple[str, int, float, int]] = {}
    for entry in entries:
        if "rows" in entry:
            run, jobs, seconds, size = last.get(entry["shard"], ("", 0, 0.0, 0))
            if run != entry["run"]:
                jobs, seconds, size = 0, 0.0, 0
            last[entry["shard"]] = entry["run"], jobs + 1, seconds + entry["seconds"], size + entry["bytes"]
    found = last.values()
    return Cost(sum(each[1] for each in found), sum(each[2] for each in found), sum(each[3] for each in found))


def shards(store: Store, folder: str, index: Index, chosen: np.ndarray, to_do: int) -> Cost | None:
    """Of `to_do` shards, as those of the `chosen` that are done, else as those in the manifest of `folder`, which an
    older fingerprint may have written. The done ones are in memory: the manifest of 100,000 shards takes 0.4 s."""
    done = index.done & chosen
    if done.any():
        return Cost(int(done.sum()), index.seconds[done].sum(), index.bytes[done].sum()).of(to_do)
    found = past(Manifest(store, folder).entries())
    return found.of(to_do) if found.jobs else None


def corpus(pipeline: Pipeline, stage: CorpusStage, output: Output, ready: bool, folder: str, to_do: int) -> Cost | None:
    """Of what is left of a corpus stage: maps, rounds, reductions and `to_do` scatters, as in `folder`. Rounds and
    reductions are done over all shards of the newest generation, and grow with their number."""
    step = {name: past(Manifest(pipeline.store, f"{folder}{name}").entries()) for name in ("", "/map", "/reduce")}
    if not all(cost.jobs for cost in step.values()):
        return None
    due = output.batches[0].jobs if output.batches else []
    kind = due[0].kind if due else "map"
    cost = step[""].of(to_do)
    if kind in ("map", "round"):
        rounds = past(Manifest(pipeline.store, f"{folder}/round").entries())
        cost += (rounds + step["/reduce"]).grown(len(pipeline.generations()[-1]) / step["/map"].jobs)
    if kind == "reduce":
        cost += step["/reduce"].of(len(due))
    if kind == "map":
        maps = len(due) + _waiting(pipeline, stage, stage.gated) if ready else len(pipeline.shards)
        cost += step["/map"].of(maps)
    return cost


def learned(pipeline: Pipeline, stage: Estimator, output: Output) -> Cost | None:
    """Of the samples that are left of what is learned, and of its fit."""
    top, store = f"models/{stage.name}", pipeline.store
    fits = past(Manifest(store, top).entries())
    found = newest(store, top, "samples", stage.fingerprint)
    sampled = past(Manifest(store, f"{top}/{found}").entries()) if found else Cost()
    if not fits.jobs or not sampled.jobs:
        return None
    due = output.batches[0].jobs if output.batches else []
    left = 0 if due and due[0].kind == "fit" else len(due) + _waiting(pipeline, stage, stage.inputs)
    return sampled.of(left) + fits


def newest(store: Store, parent: str, stem: str, fingerprint: str) -> str | None:
    """Of the folders `<stem>@<fingerprint>` in `parent` that have a manifest: that of `fingerprint`, else the one last
    written. An empty `stem` is any."""
    found = [(name.endswith(f"@{fingerprint}"), written, name) for name, written in folders(store, parent, stem)]
    return max(found)[2] if found else None


def folders(store: Store, parent: str, stem: str) -> Iterator[tuple[str, int]]:
    """The folders `<stem>@<fingerprint>` in `parent` that have a manifest, and when that was last written to."""
    for name in store.folders(parent):
        head = name.rpartition("@")[0]
        if head and head == (stem or head) and (segments := list(store.list(f"{parent}/{name}/manifest"))):
            yield name, int(segments[-1].split("-")[0])


def _waiting(pipeline: Pipeline, stage: Instance, roles: tuple[str, ...]) -> int:
    """Shards that wait for one of the columns that a stage reads in some roles, and do not wait in vain."""
    names = [stage.read_from(role) for role in roles]
    ready = pipeline.outputs["documents"].index.done.copy()
    for name in names:
        ready &= pipeline.outputs[pipeline.provider[name]].index.done
    return int((~ready & ~pipeline.unavailable(names)).sum())


def run_plan(run: Run) -> tuple[Cost | None, str]:
    """Of a run plan as the last run that wrote one for this spec: one job, of one process; and that run's name, or why
    the cost is not known."""
    denied = False
    for name in reversed(run.store.folders("runs/records")):
        record = _json(run.store, f"runs/records/{name}/run.json")
        denied |= record is None
        if record and record.get("spec") == run.spec.name and "plan" in record:
            for stage in record["stages"]:
                if stage["name"] == "plan" and stage["state"] == "computed":
                    size = sum(run.store.walk(record["plan"]).values())
                    return Cost(1, stage["seconds"], size), f"as in run {name}"
    return None, DENIED if denied else ""


def training_bytes(run: Run, steps: int, parameters: int) -> int:
    """Bytes of the checkpoints that stay, and of the export (weights, 4 bytes each)."""
    training = run.spec.training
    return parameters * (checkpoint.bytes_of_weight(training) * checkpoint.kept(training, steps) + 4)


def training(run: Run, steps: int, parameters: int) -> tuple[float | None, str]:
    """Seconds of workers that `steps` steps take, evaluations among them, as in the newest training of this lineage,
    and how that is known, or why not. With another model or batch, seconds go with parameters x positions; loading,
    checkpoints and export are in no step and are not counted."""
    lineage = re.compile(re.escape(run.spec.name) + "-[0-9a-f]{12}")
    denied = False
    names = [name for name in run.store.folders("runs") if lineage.fullmatch(name)]
    for name in sorted(names, key=lambda name: log.last_written(run.store, name), reverse=True):
        then = _json(run.store, f"runs/{name}/run.json")
        denied |= then is None
        count, positions, seconds = _pace(run.store, f"runs/{name}/log", then) if then else (0, 0, 0.0)
        if not then or not count:
            continue
        pace, workers = seconds / count, then["spec"]["training"]["workers"]
        work = _positions(run.spec, steps) * parameters * count / (max(1, steps) * positions * then["parameters"])
        text = f"{plural(steps, 'step')}, as in runs/{name}: {pace:.3g} s a step x {plural(workers, 'worker')}"
        if steps and abs(work - 1) > 0.01:
            text += f" x {work:.3g} for another model or batch"
        return steps * pace * workers * work, text
    return None, DENIED if denied else "no training of this lineage ran"


def _positions(spec: Spec, steps: int) -> int:
    """Positions of the rows of the last steps of a training."""
    found = 0
    for shape in reversed(spec.shapes):
        taken = min(steps, shape.steps)
        found, steps = found + taken * shape.rows * shape.sequence, steps - taken
    return found


def _pace(store: Store, folder: str, then: Mapping[str, Any]) -> tuple[int, int, float]:
    """Steps of the newest segments of a log, the positions of their rows, and seconds of them and of the evaluations
    between them; `then`: the run's `run.json`."""
    count, positions, seconds = 0, 0, 0.0
    said = then["spec"]
    phases = said["mixture"]["phases"]
    for name in reversed(store.list(folder)):
        for record in log.segment(store, f"{folder}/{name}"):
            if record["kind"] == "step":
                own = phases[record["phase"]].get("sequence") if phases else None
                count, positions = count + 1, positions + record["rows"] * (own or said["training"]["sequence"])
            seconds += record["seconds"] if record["kind"] in ("step", "held_out") else 0
        if count >= _STEPS:
            break
    return count, positions, seconds


def _json(store: Store, path: str) -> dict[str, Any] | None:
    """A record; {} where it is not there, None where it may not be read."""
    try:
        found: dict[str, Any] = store.json(path)
        return found
    except FileNotFoundError:
        return {}
    except DeniedError:
        return None
