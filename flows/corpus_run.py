"""The data half of a run: a spec, a store and a name, and the steps from sources to a version of the corpus. Knows no
Prefect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Self

from data_specs.amounts import plural
from data_specs.expressions import suggestion
from data_specs.load import SpecError
from data_specs.spec import Spec
from flows import chosen_thresholds
from flows.record import Record, new_name
from tasks import column_checks, registry
from tasks.decision import conditions
from tasks.dedup import minhash
from tasks.engine import custom, garbage_collection, gates, next_version, rebase, worker
from tasks.engine.gates import GateError
from tasks.engine.ledger import funnel
from tasks.engine.pipeline import Listed, Pipeline
from tasks.engine.runner import Execution, StageResult
from tasks.engine.stage import Stage
from tasks.engine.takedowns import Takedowns
from tasks.engine.versions import Versions
from tasks.sources import own_columns, returned
from tasks.storage import locks
from tasks.storage.manifest import MISSING
from tasks.storage.pins import without
from tasks.storage.store import DeniedError, Store, StoreError

logger = logging.getLogger("sluice")

_listed: dict[str, Listed] = {}
"""What the runs of this process found when they listed their sources."""


class CorpusRun:
    """One run over one spec, up to the version of the corpus."""

    _given: tuple[str, Sequence[str]] | None = None
    """The path of the spec, and settings, where it was loaded."""

    def __init__(self, spec: Spec, name: str, retrain: Sequence[str] = (), store: Store | None = None) -> None:
        self.spec, self.name = spec, name
        self.store = store or Store(spec.store)
        self._prepare(Takedowns(self.store), retrain)
        self._record = Record(self.store, name, spec.name)

    def _prepare(self, takedowns: Takedowns, retrain: Collection[str]) -> None:
        """Make the pipeline, which reads nothing of what was taken down."""
        self.takedowns = takedowns
        nodes = partial(registry.nodes, taken_down=bool(takedowns.ids))
        readers = registry.readers(self.spec, takedowns)
        self.pipeline = Pipeline(self.spec, self.store, self.name, nodes, readers, retrain)
        self.execution = Execution(self.pipeline)

    @classmethod
    def of(
        cls,
        spec: str,
        store: str | None = None,
        settings: Sequence[str] = (),
        name: str | None = None,
        retrain: Sequence[str] = (),
    ) -> Self:
        """Load a spec and make its run. Raises SpecError."""
        given = (*settings, *([f"store={store}"] if store is not None else []))
        run = cls(chosen_thresholds.loaded(spec, given, retrain), name or new_name(), retrain)
        run._given = spec, given
        known = {node.stage.label for node in run.pipeline.nodes if node.name.startswith("learn_")}
        known |= {chosen_thresholds.PIN} if chosen_thresholds.applies(run.spec) else set()
        if unknown := sorted(set(retrain) - known):
            raise SpecError(
                f"--retrain: {', '.join(unknown)} is not learned by this spec; {', '.join(sorted(known))} are"
            )
        return run

    def reloaded(self) -> Self:
        """The same run, of what the store holds now."""
        run = type(self)(chosen_thresholds.loaded(*self._given) if self._given else self.spec, self.name)
        run._given = self._given
        return run

    # -- steps -------------------------------------------------------------------------------------------------------

    def corpus_stages(self, start: str | None = None, until: str | None = None) -> list[str]:
        """Names of the corpus stages up to `until`, in order. Raises SpecError for a name that is none, for a `start`
        that cannot be computed again or comes after `until`, and for a stage of one's own that fails on an empty text,
        GateError where a gate is bound to stop them."""
        names = ["documents", *(node.name for node in self.pipeline.nodes)]
        known = [*names, "version", "plan", "train"]
        for option, name in (("--from", start), ("--until", until)):
            if name is not None and name not in known:
                hint = suggestion(name, known, mark="")
                raise SpecError([f"{option}: {name} is no stage{hint}; the stages are {', '.join(known)}"])
        if start is not None and start.startswith("learn_"):
            pin = start.removeprefix("learn_")
            raise SpecError([f"--from: {start} is learned once and pinned; `--retrain {pin}` learns it anew"])
        if start in ("version", "plan", "train"):
            raise SpecError([f"--from: {start} is done again where what it reads changed; name a stage of the corpus"])
        if start and until and known.index(start) > known.index(until):
            raise SpecError([f"--from: {start} comes after {until}, where --until stops"])
        for pin in sorted(self.pipeline.pins.retrain):
            if until and known.index(f"learn_{pin}") > known.index(until):
                raise SpecError([f"--retrain: learn_{pin} comes after {until}, where --until stops"])
        chosen = names[: names.index(until) + 1] if until in names else names
        if "verdict" in chosen and (certain := self.certain_stops()):
            raise GateError("; ".join(certain))
        for stage in (node.stage for node in self.pipeline.nodes if node.name in chosen):
            if getattr(stage, "code", "") and type(stage).setup is Stage.setup:  # others once they are set up
                custom.try_empty(stage, worker.computed)
        return chosen

    def certain_stops(self) -> list[str]:
        """Why this run is bound to stop at a gate, as the spec alone shows."""
        channels = [
            name for name, weight in registry.weights(self.spec).items() if weight and name in self.spec.channels
        ] or [*self.spec.channels]
        columns = column_checks.columns(self.pipeline.nodes, own_columns(self.spec))
        return gates.certain(self.spec, channels, conditions.gates(self.spec), columns)

    def reads(self) -> int:
        """How many shards of documents have to be read. Raises SourceError for sources that cannot be listed."""
        self.pipeline.list_sources(pin=False)
        return sum(len(batch.jobs) for batch in self.pipeline.documents().batches)

    def stage(self, name: str, progress: Callable[[str, int, int], None], again: bool, replace: bool) -> StageResult:
        """Run one corpus stage, or compute it `again` and compare."""
        self.execution.progress = progress
        if name == "documents" and self.pipeline.rebasing:
            self.pipeline.list_sources(pin=False)
            rebase.check(self.pipeline)
        if again:
            if name == "documents":
                self.pipeline.list_sources()
            result = self.execution.recompute(name, replace)
        else:
            result = self.execution.documents() if name == "documents" else self.execution.stage(name)
        if name == "documents":
            returned.none_taken_down(self.pipeline, self.takedowns)
        _listed[self.name] = self.pipeline.shards, self.pipeline.unreadable
        return result

    def version(self, progress: Callable[[str, int, int], None]) -> StageResult:
        """Commit a version of the corpus, where it is another one than that of the last. Raises GateError where gates
        refuse it."""
        started = time.perf_counter()
        counts = registry.counts(self.spec)
        # counting is a part of this stage, and none of its own
        self.execution.progress = lambda name, *done: progress("version" if name == counts.name else name, *done)
        try:
            made = self.execution.repairing(
                lambda: next_version.make(self.execution, counts, made_with(self.pipeline), self.name)
            )
        except DeniedError as error:
            logger.warning("no version of the corpus is made: %s", error)
            return StageResult("version", "", "cached", 0, 0, 0.0, "none is made, as the store may not be written")
        facts = made.facts
        version_note = _version_note(made, self.spec)
        self.record["version"] = {name: facts[name] for name in ("version", "parent", "state", "why", "new")}
        self.record["version"] |= {"note": version_note} if version_note else {}
        if self.pipeline.rebasing:
            versions = Versions(self.store, self.spec.name)
            before = versions.read(facts["parent"]) if made.new else facts
            self.record["rebase"] = rebase.sides(versions, before, facts)
        if facts["why"]:
            raise GateError(
                f"version: {facts['version']} is refused, the last accepted one is {facts['parent']}: "
                f"{'; '.join(facts['why'])}; look at it with `sluice versions SPEC` and `sluice diff SPEC "
                f"{facts['parent']} {facts['version']}`; mend the new files, or raise the gate and run again; "
                f"`sluice run SPEC --version {facts['parent']}` trains on that one meanwhile"
            )
        rows = sum(each["rows"] for each in facts["generations"])
        shards = sum(each["shards"] for each in facts["generations"])
        seconds, state = round(time.perf_counter() - started, 3), "computed" if made.new else "cached"
        note = f"version {facts['version']}" + (f", {plural(facts['new'], 'new shard')}" if made.new else "")
        note = ", ".join(filter(None, [note, version_note]))
        return StageResult("version", facts["digest"][:16], state, shards, rows, seconds, note)

    @property
    def chooses(self) -> bool:
        """Whether thresholds are to be chosen by the budget, once there is a version."""
        if (
            not chosen_thresholds.applies(self.spec)
            or chosen_thresholds.pinned(self.pipeline.pins, self.spec)
            or self.pipeline.rebasing
        ):
            return False
        return Versions(self.store, self.spec.name).accepted is not None

    def resolve(self, anew: bool = True) -> None:
        """Find what exists, without computing anything. Sources are listed `anew`, or as this run listed them in this
        process: files that came since are left to the next run."""
        self.pipeline.resolve_all(None if anew else _listed.get(self.name))

    def _lacking(self) -> list[str]:
        """Stages of columns that have something to do, but to try again what is quarantined, or wait for that."""
        found = []
        for node in self.pipeline.nodes:
            output = self.pipeline.outputs[node.name]
            if node.writes and ((output.index.state == MISSING) & ~self.pipeline.unavailable(node.writes)).any():
                found.append(node.name)
        return found

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def record(self) -> dict[str, Any]:
        """What the run's record says."""
        return self._record.facts

    def json(self) -> dict[str, Any]:
        return self.record

    def keep(self, name: str, data: bytes) -> None:
        """Commit a file beside the run's record."""
        self._record.keep(name, data)

    def begin(self) -> None:
        """Commit the record as that of a run that has begun, or begun again after a failure."""
        self._record.begin()
        self.save(ended=False)

    def fail(self, stage: str, error: BaseException) -> None:
        """Note what stopped the run."""
        self._record.fail(stage, error)

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        """Nothing is removed from the store while the block runs; with `alone` no other run works on it, either, else
        BusyError. What stops it beside the failure of a step, such as Ctrl-C or a bug, is noted in the record."""
        with garbage_collection.alone(self.store) if alone else locks.shared(self.store):
            takedowns = Takedowns(self.store)
            takedowns.settled()
            if len(takedowns.all) > len(self.takedowns.all):  # while this run waited
                rebasing = self.pipeline.rebasing
                self._prepare(takedowns, self.pipeline.pins.retrain)
                self.pipeline.rebasing = rebasing
            try:
                yield
            except BaseException as error:
                self.fail("run", error if isinstance(error, Exception) else KeyboardInterrupt("interrupted"))
                with suppress(StoreError):
                    self._record.commit()
                raise

    def save(self, ended: bool) -> None:
        """Commit the record with what was done so far; `ended` where the run has nothing left to do."""
        if ended and "error" not in self.record:
            self.record["status"] = "completed"
        done = {result.name: result.json() for result in self.execution.results}
        earlier = [done.pop(stage["name"], stage) for stage in self.record["stages"]]
        self.record["stages"] = [*earlier, *done.values()]
        self.record["folders"] = garbage_collection.folders(self.pipeline)
        if "documents" in self.pipeline.outputs:
            for node in self.pipeline.nodes:
                if node.name not in self.pipeline.outputs:
                    self.pipeline.resolve(node)
            self.record["funnel"] = funnel(self.pipeline)
        self._record.commit()


def _version_note(made: next_version.Made, spec: Spec) -> str:
    """What is said of a version that was made now: which shards left, and which new ones no gate judged."""
    notes = []
    if made.new and (left := made.facts["left"]):
        notes.append(f"without {plural(left, 'shard')} of version {made.facts['parent']}")
    if made.unjudged:
        least = (
            f"fewer than {plural(spec.gates.new.least, 'record is', 'records are')} new or were there (gates.new.least)"
        )
        notes.append(f"not judged by gates.new: {', '.join(made.unjudged)}, of which {least}")
    return "; ".join(notes)


def made_with(pipeline: Pipeline) -> dict[str, Any]:
    """What a card says of how a corpus was made: sources, rules, duplicates, fingerprints, pins."""
    spec = pipeline.spec
    pins = {name: history[-1] for name, history in pipeline.pins.history.items() if "sha256" in history[-1]}
    documents = {f"documents of {name}": reader.fingerprint for name, reader in pipeline.readers.items()}
    bands = minhash.bands_and_rows(spec.duplicates.compared_from, spec.duplicates.hashes)
    return {
        "name": spec.name,
        "text": spec.text,
        "sources": {name: {"kind": each.kind, "license": each.license} for name, each in spec.sources.items()},
        "rules": {rule.name: rule.model_dump(mode="json", exclude={"name"}) for rule in spec.rules},
        **({"augmented": spec.augmentations} if spec.augmentations else {}),
        "duplicates": {
            "threshold": spec.duplicates.threshold,
            "missed": 1 - minhash.found_share(spec.duplicates.threshold, *bands),
            "keep": [*pipeline.node("verdict").stage.settings.keep],
            **({"per": [*spec.duplicates.per]} if spec.duplicates.per else {}),
        },
        "fingerprints": documents | {node.name: node.stage.fingerprint for node in pipeline.nodes if node.writes},
        "pins": {name: {"sha256": pin["sha256"], "without": without(pin)} for name, pin in pins.items()},
    }
