"""One run: a spec, a store and a name, and the steps that the flows call. Knows no Prefect.

The data half is in `flows.corpus_run`, what is noted of a run in `flows.record`. Training has an identity of its own,
the digest of its plan and settings: `runs/<spec>-<digest>/`. So a run that was stopped is continued by the next one,
and a training that is done is never done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from data_specs import redaction
from data_specs.amounts import decimal
from data_specs.load import SpecError
from flows import resuming, supervisor, versions
from flows.corpus_run import CorpusRun
from flows.seen_rows import moved, rows_read
from tasks.decision.conditions import phase_conditions, unpinned
from tasks.engine.corpus import Corpus
from tasks.engine.runner import StageError, StageResult
from tasks.engine.snapshot import Snapshot
from tasks.engine.takedowns import Takedowns
from tasks.engine.versions import ACCEPTED, Facts, Versions
from tasks.planning import collect, run_plan, seen, trace
from tasks.planning.borders import Borders
from tasks.planning.files import read_json
from tasks.planning.inputs import PlanInputs
from tasks.planning.objectives import MASK
from tasks.storage import locks
from tasks.storage.manifest import MISSING
from tasks.storage.pins import Pin, fetched
from tasks.storage.store import DamagedError, DeniedError
from tasks.tokenization.borders import ends
from tasks.tokenization.tokenizer import load
from training import checkpoint, identity, launch, log, start
from training.launch import TrainingError

T = TypeVar("T")
_NO_UPLOAD = ("upload", None)
logger = logging.getLogger("sluice")


class Run(CorpusRun):
    """One run over one spec: the data half, then the run plan and the training on it."""

    _replanned = False

    def _prepare(self, takedowns: Takedowns, retrain: Collection[str]) -> None:
        super()._prepare(takedowns, retrain)
        self.corpus: Corpus = self.pipeline
        """What is planned and trained on."""
        self.pins = self.pipeline.pins
        self.version_facts: Facts | None = None
        """The version that it is, where it is not the corpus as it stands."""
        self.watch: Callable[[log.Record], None] | None = None
        """Is given each record of a training's log as it comes."""

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
        before = self.plan_facts.get("seen", {})
        notes = [seen.elsewhere_in_words(before), moved(self.store, before)]
        note = "; ".join([*self.execution.repaired(), *filter(None, notes)])
        result = StageResult("plan", key[:16], state, len(self.corpus.shards), rows, seconds, note)
        self.execution.results.append(result)
        return result

    def _check_version(self, number: int) -> None:
        """Raises StageError where a version is not in the store any more as it was."""
        takedowns = Versions(self.store, self.spec.name).purged(number)
        assert isinstance(self.corpus, Snapshot)  # who asks has chosen a version
        names = self.plan_inputs().names
        for name in names:
            if name not in self.corpus.provider:
                raise StageError(f"plan: version {number} has no column {name}, which the mixture asks for")
        mixture = self.spec.mixture
        asked = [*(phase.where for phase in mixture.phases if phase.where), *(cell.where for cell in mixture.repeat)]
        if unknown := unpinned(asked, self.pins):
            raise StageError(
                f"plan: version {number} has no threshold of {unknown[0]}, which the mixture asks for; a run of the "
                "corpus as it stands, without --version, learns it"
            )
        if altered := self.corpus.altered(names):
            why = (
                f"takedown {', '.join(map(str, takedowns))} has purged documents of it"
                if takedowns
                else "`sluice gc` has removed what later ones do not name, or `--replace` taken other values"
            )
            raise StageError(f"plan: version {number} has {altered[0]} no longer as it was: {why}")

    def _write_plan(self, key: str) -> bool:
        """Write the run plan where it does not exist; whether it did."""
        folder, rows_too = run_plan.plan_folder(self.spec, key), self.spec.mixture.shards == "rows"
        if self.store.exists(f"{folder}/{'tokens' if rows_too else 'plan'}.json"):
            return bool(self.plan_facts)
        inputs = self.plan_inputs()
        own = {MASK[0]: mask} if (mask := self._tokenizer["facts"].get("mask")) is not None else {}
        read = rows_read(self.store, self.spec.mixture.seen)
        run_plan.build(self.spec, self.vocabulary, key, inputs.tables(), self.store, inputs.checksums, own, read)
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
        content = self.plan_facts["content"]
        if before is not None and any(content.get(name) != digest for name, digest in before.items()):
            raise DamagedError(f"{damage.paths[0]} was damaged, and {folder}, made again, is another plan: run again")
        self.execution.repair.notes += [f"{path} was damaged and is made again" for path in damage.paths]

    def plan_inputs(self) -> PlanInputs:
        conditions = phase_conditions(self.spec, self.pins)
        orders = {f"order_{n}": each.order.by for n, each in enumerate(self.spec.mixture.phases) if each.order}
        asked = {"cluster_size": self.spec.mixture.rehydration, "url": self.spec.mixture.host_tokens}
        more = tuple(name for name, setting in asked.items() if setting)
        cuts = {f"cut_{number}": shape for number, shape in collect.cut_phases(self.spec).items()}
        augmented = tuple(self.spec.augmentations)
        return PlanInputs(
            self.corpus, conditions, self.spec.training.loss_by, orders, more, cuts, self._borders, augmented
        )

    def _borders(self) -> Borders:
        """What ends lines, or sentences, in the pinned tokenizer's vocabulary."""
        pin, at = self._tokenizer, self.spec.mixture.cut_at
        loaded = load(fetched(self.store, pin["path"], pin["sha256"]).read_bytes(), pin["path"], self.spec.tokenizer)
        return Borders(*ends(loaded, "sentence" if at == "sentence" else "line"))

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

    @property
    def plan_facts(self) -> dict[str, Any]:
        return read_json(self.store, f"{self.record['plan']}/plan.json")

    @property
    def identity(self) -> str:
        """The digest that names the training."""
        return identity.identity(self.spec, self.plan_facts["digest"])

    @property
    def training_name(self) -> str:
        return identity.name(self.spec, self.plan_facts["digest"])

    def training_folder(self) -> str | None:
        """The folder of this spec's training; None while its plan is not known."""
        return f"runs/{self.training_name}" if self.planned() else None

    def trained(self) -> bool:
        """Whether the training on the plan was done to its end, and its export is whole."""
        run = f"runs/{self.training_name}"
        if not self.store.exists(f"{run}/summary.json"):
            return False
        if changed := start.other(self.store, self.training_name):
            raise TrainingError(changed)
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
            other = self._exported_otherwise(summary)
            if not damaged and not other:
                return True
            why = f"{damaged[0]} is damaged" if damaged else f"it was exported with other {', '.join(other)}"
            logger.warning("%s: %s; the model is exported again", summary["export"], why)
        if checkpoint.steps(self.store, run.removeprefix("runs/")):
            return False
        raise TrainingError(
            f"{run} was trained, but its export and checkpoints are gone: bring one back, or remove {run}/summary.json "
            "to train it again"
        )

    def _exported_otherwise(self, summary: Mapping[str, Any]) -> list[str]:
        """Settings of the spec, which a training does not follow, with which its export would be another."""
        now = identity.export_choices(self.spec.model_dump(mode="json"))
        made = summary.get("exported_with")
        if made is None:  # an earlier version noted none
            with suppress(FileNotFoundError, DeniedError, DamagedError):
                made = identity.export_choices(self.store.json(f"runs/{self.training_name}/run.json")["spec"])
        return [name for name, chosen in now.items() if made and made[name] != chosen and (name, chosen) != _NO_UPLOAD]

    def _evaluated_otherwise(self) -> str:
        """What to say where the training was evaluated on other named sets than the spec has; "" where it was not."""
        with suppress(FileNotFoundError, DeniedError, DamagedError):
            before = self.store.json(f"runs/{self.training_name}/run.json")["spec"]["training"]["evaluate"]
            now = self.spec.training.evaluate.model_dump(mode="json").get("sets", {})
            if before.get("sets", {}) != redaction.values(now):
                return "it was evaluated on other training.evaluate.sets than these, which no summary has"
        return ""

    def train(self, progress: Callable[[str, int, int], None]) -> StageResult:
        """Train on the plan: continue where checkpoints are, do nothing where it is done; where another run trains on
        it, wait for that one's end."""
        started = time.perf_counter()
        run = self.training_name
        state, note = "cached", self._evaluated_otherwise()
        if not self.trained():
            with locks.alone(self.store, f"runs/{run}", f"run {self.name}", wait=True):
                if not self.trained():
                    state, note = "computed", self._repairing(lambda: self._train(run, progress))
        summary = self.store.json(f"runs/{run}/summary.json")
        facts = self.plan_facts
        for name, losses in summary["held_out"].items():
            losses["documents"] = facts["held_out"]["documents"][name]
            losses["tokens"] = facts["held_out"]["supervised"][name]
        self.record["training"] = summary | {"run": run}
        seconds = round(time.perf_counter() - started, 3)
        rows = summary.get("rows", summary["steps"] * facts["rows_per_step"])  # an earlier version counted none
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
        note = "" if resume else resuming.left_behind(self.pipeline, run, facts["digest"])
        if note:
            logger.warning("train: %s", note)

        def follow(record: log.Record) -> None:
            nonlocal note
            if self.watch:
                self.watch(record)
            if record["kind"] == "step":
                loss = "not finite" if record["loss"] is None else decimal(record["loss"])
                progress(f"train: loss {loss}", record["step"], steps)
            elif record["kind"] == "start" and resume:
                note = resuming.continues(run, record["step"], steps)
                progress(f"train: {note}", record["step"], steps)
            elif record["kind"] in log.DIVERGED:
                logger.warning("train: step %s: %s; its rows are not read again", record["step"], record["reason"])
            elif record["kind"] == "left_out":
                logger.warning("train: step %s: %s; its update is left out", record["step"], record["reason"])
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
