"""One run: a spec, a store and a name, and the steps that the flows call. Knows no Prefect.

A run's record, `runs/records/<run>/run.json`, says what each stage did, the funnel, and where training stands.
Training has an identity of its own, the digest of its plan and settings: `runs/<spec>-<digest>/`. So a run that was
stopped is continued by the next one, and a training that is done is never done again.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from data_specs import redaction
from data_specs.expressions import ExpressionError, suggestion
from data_specs.load import SpecError, load
from data_specs.spec import Spec
from flows import parameters, supervisor, trainings, versions
from flows.data_card import made_with
from flows.embedded import ServerError
from tasks import registry
from tasks.engine import fanout, garbage_collection, gates, next_version, rebase
from tasks.engine.corpus import Corpus
from tasks.engine.gates import GateError
from tasks.engine.ledger import funnel
from tasks.engine.pipeline import Listed, Pipeline
from tasks.engine.rebase import RebaseError
from tasks.engine.runner import Execution, StageError, StageResult
from tasks.engine.snapshot import Snapshot
from tasks.engine.stage import digest
from tasks.engine.takedowns import Takedowns
from tasks.engine.versions import ACCEPTED, Facts, Versions
from tasks.planning import run_plan, trace
from tasks.planning.files import read_json
from tasks.planning.inputs import PlanInputs
from tasks.planning.mixture import MixtureError
from tasks.sources import LedgerError, SourceError
from tasks.storage.checksums import sealed
from tasks.storage.manifest import MISSING
from tasks.storage.pins import Pin, fetched
from tasks.storage.store import DamagedError, DeniedError, Store, StoreError
from training import checkpoint, launch, log
from training.checkpoint import CheckpointError
from training.launch import TrainingError
from training.rows import PlanError

T = TypeVar("T")
USER_ERRORS = (
    SpecError,
    ExpressionError,
    SourceError,
    LedgerError,
    StoreError,
    StageError,
    GateError,
    RebaseError,
    MixtureError,
    fanout.ClusterError,
    ServerError,
    TrainingError,
    CheckpointError,
    PlanError,
)
"""Errors that tell the user what to mend; all others are bugs and keep their traceback."""


def exit_code(error: BaseException) -> int:
    """2 for a bad spec, 3 for a gate, 1 for any other failure."""
    return (
        3
        if isinstance(error, GateError)
        else 2
        if isinstance(error, SpecError | ExpressionError | SourceError | MixtureError)
        else 1
    )


_listed: dict[str, Listed] = {}
"""What the runs of this process found when they listed their sources."""


_unwritten: dict[str, dict[str, Any]] = {}
"""Records of runs of this process whose store may not be written."""

logger = logging.getLogger("sluice")


class Run:
    """One run over one spec."""

    def __init__(self, spec: Spec, name: str, retrain: Sequence[str] = ()) -> None:
        self.spec, self.name = spec, name
        self.store = Store(spec.store)
        self._prepare(Takedowns(self.store), retrain)
        self.folder = f"runs/records/{name}"
        self._replanned = False
        self.record_path = f"{self.folder}/run.json"
        self.record: dict[str, Any] = {"run": name, "spec": spec.name, "status": "running", "stages": []}
        if name in _unwritten:
            self.record |= _unwritten[name]
        elif self.store.exists(self.record_path):
            self.record |= self.store.json(self.record_path)

    def _prepare(self, takedowns: Takedowns, retrain: Collection[str]) -> None:
        """Make the pipeline, which reads nothing of what was taken down."""
        self.takedowns = takedowns
        nodes = partial(registry.nodes, taken_down=bool(takedowns.ids))
        readers = registry.readers(self.spec, takedowns)
        self.pipeline = Pipeline(self.spec, self.store, self.name, nodes, readers, retrain)
        self.execution = Execution(self.pipeline)
        self.corpus: Corpus = self.pipeline
        """What is planned and trained on."""
        self.pins = self.pipeline.pins
        self.version_facts: Facts | None = None
        """The version that it is, where it is not the corpus as it stands."""

    @staticmethod
    def new_name(spec: str) -> str:
        """A name no other run has: when it began."""
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"

    @classmethod
    def of(
        cls,
        spec: str,
        store: str | None = None,
        settings: Sequence[str] = (),
        name: str | None = None,
        retrain: Sequence[str] = (),
    ) -> Run:
        """Load a spec and make its run. Raises SpecError."""
        given = (*settings, *([f"store={store}"] if store is not None else []))
        loaded = load(spec, [parameters.whole(each) for each in given])
        run = cls(loaded, name or cls.new_name(spec), retrain)
        known = {node.stage.label for node in run.pipeline.nodes if node.name.startswith("learn_")}
        if unknown := sorted(set(retrain) - known):
            raise SpecError(
                f"--retrain: {', '.join(unknown)} is not learned by this spec; {', '.join(sorted(known))} are"
            )
        return run

    def reloaded(self) -> Run:
        """The same run, of what the store holds now."""
        return Run(self.spec, self.name)

    def train_on(self, number: int) -> None:
        """Plan and train on an accepted version, whatever the corpus is now. Raises SpecError where there is none of
        that number, or it was refused."""
        lineage = Versions(self.store, self.spec.name)
        facts = versions.of(lineage, number)
        if facts["state"] != ACCEPTED:
            why = "; ".join(facts["why"])
            raise SpecError([f"--version: {number} was refused ({why}); only accepted ones are trained on"])
        self.version_facts = facts
        self.corpus = Snapshot(lineage, facts)
        self.pins = self.pipeline.pins.of({name: pin["sha256"] for name, pin in facts["about"]["pins"].items()})
        self.record["version"] = {name: facts[name] for name in ("version", "parent", "state", "why", "new")}
        self.record["funnel"] = facts["funnel"]

    # -- steps -------------------------------------------------------------------------------------------------------

    def corpus_stages(self, start: str | None = None, until: str | None = None) -> list[str]:
        """Names of the corpus stages up to `until`, in order. Raises SpecError for a name that is none, and for a
        `start` that cannot be computed again or comes after `until`, GateError where a gate is bound to stop them."""
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
        return chosen

    def certain_stops(self) -> list[str]:
        """Why this run is bound to stop at a gate, as the spec alone shows."""
        channels = [name for name, weight in registry.weights(self.spec).items() if weight] or [*self.spec.channels]
        columns = registry.columns(self.pipeline.nodes, registry.own_columns(self.spec))
        return gates.certain(self.spec, channels, registry.gates(self.spec), columns)

    def reads(self) -> bool:
        """Whether documents have to be read. Raises SourceError for sources that cannot be listed."""
        self.pipeline.list_sources(pin=False)
        return bool(self.pipeline.documents().batches)

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
        _listed[self.name] = self.pipeline.shards, self.pipeline.unreadable
        return result

    def version(self, progress: Callable[[str, int, int], None]) -> StageResult:
        """Commit a version of the corpus, where it is another one than that of the last. Raises GateError where gates
        refuse it."""
        started = time.perf_counter()
        self.execution.progress = progress
        counts = registry.counts(self.spec)
        try:
            made = self.execution.repairing(
                lambda: next_version.make(self.execution, counts, made_with(self.pipeline), self.name)
            )
        except DeniedError as error:
            logger.warning("no version of the corpus is made: %s", error)
            return StageResult("version", "", "cached", 0, 0, 0.0, "none is made, as the store may not be written")
        facts = made.facts
        self.record["version"] = {name: facts[name] for name in ("version", "parent", "state", "why", "new")}
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
        note = f"version {facts['version']}" + (f", {facts['new']:,} new shards" if made.new else "")
        if made.new and facts["left"]:
            note += f", without {facts['left']:,} shards of version {facts['parent']}"
        return StageResult("version", facts["digest"][:16], state, shards, rows, seconds, note)

    def resolve(self, anew: bool = True) -> None:
        """Find what exists, without computing anything. Sources are listed `anew`, or as this run listed them in this
        process: files that came since are left to the next run."""
        self.pipeline.resolve_all(None if anew else _listed.get(self.name))

    def plan(self, progress: Callable[[str, int, int], None]) -> StageResult:
        """Write the run plan, where it does not exist. Raises MixtureError where the mixture cannot be met."""
        started = time.perf_counter()
        if self.version_facts:
            self._check_version(self.version_facts["version"])
        elif (self.pipeline.outputs["documents"].index.state == MISSING).any():
            raise StageError("plan: files of a source came or changed since the corpus was made; run again")
        elif lacking := self._lacking():
            raise StageError(
                f"plan: {', '.join(lacking)}: not complete for the pins as they stand, which another run of "
                f"{self.spec.name} has moved meanwhile; run again"
            )
        key = self.plan_key()
        folder = run_plan.plan_folder(self.spec, key)
        self.record["plan"] = folder
        try:
            cached = self._repairing(lambda: self._write_plan(key))
        except BaseException:
            del self.record["plan"]  # there is none
            raise
        rows = sum(phase["rows"] for phase in self.plan_facts["phases"])
        seconds = round(time.perf_counter() - started, 3)
        state = "cached" if cached and not self._replanned else "computed"
        note = "; ".join(self.execution.repaired())
        result = StageResult("plan", key[:16], state, len(self.corpus.shards), rows, seconds, note)
        self.execution.results.append(result)
        return result

    def _check_version(self, number: int) -> None:
        """Raises StageError where a version is not in the store any more as it was."""
        takedowns = Versions(self.store, self.spec.name).purged(number)
        for name in self.plan_inputs().names:
            stage = self.corpus.provider[name]
            if stage in self.corpus.replaced or (self.corpus.outputs[stage].index.state == MISSING).any():
                why = (
                    f"takedown {', '.join(map(str, takedowns))} has purged documents of it"
                    if takedowns
                    else "`sluice gc` has removed what later ones do not name, or `--replace` taken other values"
                )
                raise StageError(f"plan: version {number} has {name} no longer as it was: {why}")

    def _write_plan(self, key: str) -> bool:
        """Write the run plan where it does not exist; whether it did."""
        folder, rows_too = run_plan.plan_folder(self.spec, key), self.spec.mixture.shards == "rows"
        if self.store.exists(f"{folder}/{'tokens' if rows_too else 'plan'}.json"):
            return bool(self.plan_facts)
        inputs = self.plan_inputs()
        run_plan.build(self.spec, self.vocabulary, key, inputs.tables(), self.store, inputs.checksums)
        if rows_too:
            trace.materialise(self.store, folder)
        return False

    def _repairing(self, work: Callable[[], T]) -> T:
        """Do work that reads outputs and the run plan, again where some of it was damaged and could be made again."""
        while True:
            try:
                return self.execution.repairing(work)
            except DamagedError as damage:
                self._plan_again(damage)

    def _plan_again(self, damage: DamagedError) -> None:
        """Write a damaged run plan again, once. Raises DamagedError for any other damage, and where it differs."""
        folder = self.record["plan"]
        if self._replanned or not damage.paths or not all(path.startswith(f"{folder}/") for path in damage.paths):
            raise damage
        self._replanned = True
        before = None
        with suppress(DamagedError):
            before = self.plan_facts["content"]
        self.store.remove(*damage.paths, f"{folder}/plan.json", f"{folder}/tokens.json")
        self.execution.repairing(lambda: self._write_plan(self.plan_key()))
        if before not in (None, self.plan_facts["content"]):
            raise DamagedError(f"{damage.paths[0]} was damaged, and {folder}, made again, is another plan: run again")
        self.execution.repair.notes += [f"{path} was damaged and is made again" for path in damage.paths]

    def plan_inputs(self) -> PlanInputs:
        return PlanInputs(self.corpus, registry.phase_conditions(self.spec, self.pins))

    def plan_key(self) -> str:
        """The digest of the run plan that the corpus as it stands would give."""
        return run_plan.plan_key(self.spec, self.vocabulary, self.plan_inputs().digests())

    @property
    def vocabulary(self) -> int:
        """Entries of the pinned tokenizer."""
        return int(self._tokenizer["facts"]["size"])

    @property
    def _tokenizer(self) -> Pin:
        """The pinned tokenizer."""
        pin = self.pins.get("tokenizer")
        if pin is None:
            raise StageError("there is no tokenizer yet: run the corpus first")
        return pin

    def planned(self) -> str | None:
        """The folder of the run plan, where the corpus is complete and it was written; None otherwise."""
        if self._lacking():
            return None
        folder = run_plan.plan_folder(self.spec, self.plan_key())
        if not self.store.exists(f"{folder}/plan.json"):
            return None
        self.record["plan"] = folder
        return folder

    def _lacking(self) -> list[str]:
        """Stages of columns that have something to do, but to try again what is quarantined, or wait for that."""
        found = []
        for node in self.pipeline.nodes:
            output = self.pipeline.outputs[node.name]
            if node.writes and ((output.index.state == MISSING) & ~self.pipeline.unavailable(node.writes)).any():
                found.append(node.name)
        return found

    @property
    def plan_facts(self) -> dict[str, Any]:
        return read_json(self.store, f"{self.record['plan']}/plan.json")

    @property
    def identity(self) -> str:
        """The digest that names the training: of its plan and of the settings that shape the model. What only spreads
        the work or looks at it (ranks, ZeRO stage, micro-batches, evaluations, checkpoints) may change on the way."""
        return digest(
            {
                "plan": self.plan_facts["digest"],
                "model": self.spec.model.model_dump(mode="json"),
                "training": self.spec.training.model_dump(mode="json", exclude=trainings.EXECUTION_ONLY),
                "seed": self.spec.seed,
            }
        )

    @property
    def training_name(self) -> str:
        return f"{self.spec.name}-{self.identity[:12]}"

    def training_folder(self) -> str | None:
        """The folder of this spec's training; None while its plan is not known."""
        return f"runs/{self.training_name}" if self.planned() else None

    def trained(self) -> bool:
        """Whether the training on the plan was done to its end, and its export is whole."""
        run = f"runs/{self.training_name}"
        if not self.store.exists(f"{run}/summary.json"):
            return False
        try:
            summary = self.store.json(f"{run}/summary.json")
        except DamagedError as error:
            if not checkpoint.steps(self.store, run.removeprefix("runs/")):
                raise
            logger.warning("%s; it is made again from the log and the checkpoint", error)
            return False
        if summary["exported"].items() <= self.store.list(summary["export"]).items():
            noted = summary.get("checksums", {})  # an earlier version noted none
            found = self.store.checksums(summary["export"], noted)
            damaged = [name for name, checksum in noted.items() if found.get(name) not in (None, checksum)]
            if not damaged:
                return True
            logger.warning("%s/%s is damaged; the model is exported again", summary["export"], damaged[0])
        if checkpoint.steps(self.store, run.removeprefix("runs/")):
            return False
        raise TrainingError(
            f"{run} was trained, but its export and checkpoints are gone: bring one back, or remove {run}/summary.json "
            "to train it again"
        )

    def train(self, progress: Callable[[str, int, int], None]) -> StageResult:
        """Train on the plan: continue where checkpoints are, do nothing where it is done; where another run trains on
        it, wait for that one's end."""
        started = time.perf_counter()
        run = self.training_name
        state, note = "cached", ""
        if not self.trained():
            with self.store.alone(f"runs/{run}", f"run {self.name}", wait=True):
                if not self.trained():
                    state, note = "computed", self._repairing(lambda: self._train(run, progress))
        summary = self.store.json(f"runs/{run}/summary.json")
        facts = self.plan_facts
        for name, losses in summary["held_out"].items():
            losses["documents"] = facts["held_out"]["documents"][name]
            losses["tokens"] = facts["held_out"]["supervised"][name]
        self.record["training"] = summary | {"run": run}
        seconds = round(time.perf_counter() - started, 3)
        rows = summary["steps"] * facts["rows_per_step"]
        note = "; ".join(filter(None, [*self.execution.repaired(), note]))
        result = StageResult("train", self.identity[:16], state, 0, rows, seconds, note)
        self.execution.results.append(result)
        return result

    def _train(self, run: str, progress: Callable[[str, int, int], None]) -> str:
        """Train, and say where it went on from, or what it leaves behind."""
        facts = self.plan_facts
        steps = facts["steps"]
        saved = checkpoint.steps(self.store, run)
        resume = bool(saved)
        note = "" if resume else trainings.left_behind(self.pipeline, run, facts["digest"])
        if note:
            logger.warning("train: %s", note)

        def follow(record: log.Record) -> None:
            nonlocal note
            if record["kind"] == "step":
                progress(f"train: loss {record['loss']:.3f}", record["step"], steps)
            elif record["kind"] == "start" and resume:
                note = trainings.continues(run, record["step"], steps)
                progress(f"train: {note}", record["step"], steps)
            elif record["kind"] in log.DIVERGED:
                logger.warning("train: step %s: %s; its rows are not read again", record["step"], record["reason"])
            elif record["kind"] == "warning":
                logger.warning("train: %s", record["message"])

        done = max(saved, default=0)
        further = f", to go on from step {done:,}" if resume else ""
        progress(f"train: loading torch and DeepSpeed, workers: {self.spec.training.workers}{further}", done, steps)
        if not any(facts.get("checksums", ())):
            self.plan_inputs().verify()
        tokenizer = self._tokenizer
        fetched(self.store, tokenizer["path"], tokenizer["sha256"])  # now, and not when the model is exported
        with supervisor.patient(self.spec.training.grace):
            launch.train(self.spec, self.spec.store, self.record["plan"], run, tokenizer, resume, follow)
        return note

    # -- what it says ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Commit the record as that of a run that has begun, or begun again after a failure."""
        self.record = {key: value for key, value in self.record.items() if key not in ("error", "exit")}
        self.record |= {"status": "running", "process": {"host": socket.gethostname(), "pid": os.getpid()}}
        self.save(ended=False)

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        """Nothing is removed from the store while the block runs; with `alone` no other run works on it, either, else
        BusyError. What stops it beside the failure of a step, such as Ctrl-C or a bug, is noted in the record."""
        with garbage_collection.alone(self.store) if alone else self.store.shared():
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
                    self._commit()
                raise

    def fail(self, stage: str, error: BaseException) -> None:
        """Note what stopped the run."""
        text = str(error) if str(error).startswith(f"{stage}: ") else f"{stage}: {error}"
        self.record |= {"status": "failed", "error": text, "exit": exit_code(error)}

    def json(self) -> dict[str, Any]:
        """The record: {"run", "spec", "status", "stages", "funnel", "plan", "training"}."""
        return self.record

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
        self._commit()

    def _commit(self) -> None:
        self.keep("run.json", sealed(redaction.values(self.record), self.record_path))

    def keep(self, name: str, data: bytes) -> None:
        """Commit a file of the run, for its owner alone. Where the store may not be written, the run goes on without,
        which is said once; what then needs the store fails by itself."""
        try:
            self.store.commit(f"{self.folder}/{name}", data, private=True)
        except DeniedError as error:
            if self.name not in _unwritten:
                logger.warning("the record of run %s cannot be written: %s", self.name, error)
            _unwritten[self.name] = self.record
