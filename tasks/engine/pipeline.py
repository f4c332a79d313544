"""The pipeline: which outputs a spec asks for, which of them exist, and the jobs that make the others.

Everything here is known from manifests; no column file is opened. What outputs are named by is in
tasks/engine/keyed.py, the steps of corpus stages in tasks/engine/corpus_jobs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import orjson

from data_specs.spec import Spec
from tasks.engine import rotation, upstream
from tasks.engine.corpus_jobs import CorpusJobs
from tasks.engine.counts import Counts
from tasks.engine.extracted import document_key, earlier
from tasks.engine.job import Job
from tasks.engine.keyed import KeyedCorpus
from tasks.engine.listings import Listings
from tasks.engine.nodes import Node
from tasks.engine.outputs import JobBatch, Output
from tasks.engine.reading import InputShard, Reader
from tasks.engine.stage import CorpusStage, Estimator, Stage, digest
from tasks.engine.versions import Versions
from tasks.storage.manifest import MISSING, QUARANTINED, Entry, Index, Manifest
from tasks.storage.pins import Pins, joins
from tasks.storage.store import DamagedError, DeniedError, Store

NAMED = 20
"""Shards or files, at most, that a pin, a funnel or an error names."""

Listed = tuple[list[InputShard], dict[str, dict[str, str]]]
"""The shards of the sources; of each source the files that cannot be read, by key, and why."""

Registry = Callable[[Spec, Pins], list[Node]]
"""Makes the stages that a spec asks for, in order."""


class Pipeline(KeyedCorpus):
    """One spec's corpus. `run` names the run in manifest entries; `registry` makes the stages from spec and pins;
    `readers` read the sources, by name."""

    def __init__(
        self,
        spec: Spec,
        store: Store,
        run: str,
        registry: Registry,
        readers: Mapping[str, Reader],
        retrain: Collection[str] = (),
    ) -> None:
        super().__init__(spec, store, run, readers)
        self.registry = registry
        self.pins = Pins(store, spec.name, retrain)
        self._described: set[str] = set()
        self.unreadable: dict[str, dict[str, str]] = {}
        """Source -> files that were listed and cannot be read, by key, and why."""
        self.gone: dict[str, set[str]] = {}
        """Source -> keys of files that have left the listing, and whose documents stay."""
        self.lost_files: dict[str, set[str]] = {}
        """Source -> keys of files that have left, and whose documents went with a changed file of their shard."""
        self.refresh()

    def refresh(self) -> None:
        """Build the stages anew, after a pin was set."""
        self.nodes = self.registry(self.spec, self.pins)
        for node in self.nodes:
            self.provider |= dict.fromkeys(node.writes, node.name)
            if node.writes:
                self.role |= zip(node.writes, node.stage.writes.names, strict=True)

    # -- documents ---------------------------------------------------------------------------------------------------

    def list_sources(self, pin: bool = True) -> None:
        """Find the input shards of every source, and `pin` how files are grouped, anew where they have outgrown what is
        pinned. Raises SourceError for a source that cannot be listed."""
        self.shards, self.unreadable, self.gone, self.lost_files = [], {}, {}, {}
        versions = Versions(self.store, self.spec.name)
        before = rotation.known(versions)
        self.known_generations = rotation.generations(before)
        version = 1 + (versions.accepted["version"] if versions.accepted else 0)
        listings = Listings(self.spec, self.store)
        for name, source_reader in self.readers.items():
            source_reader.remember(listings.last.get(name, {}))
            found = self.pins.get(f"groups_{name}")
            pinned = found["value"] if found else None
            shards, groups = source_reader.shards(pinned)
            if pin and groups and groups != pinned:
                self.pins.set(f"groups_{name}", {"value": groups, "run": self.run})
            found_now = rotation.arranged(shards, before.get(name), source_reader.chooses, version)
            self.shards += found_now.shards
            self.gone[name], self.lost_files[name] = found_now.gone, found_now.lost
            self.unreadable[name] = dict(source_reader.unreadable)
            if name in before:
                source_reader.regrouped = ""  # what is grouped stays grouped
        if pin:
            self._pin_newcomers(versions)

    def _pin_newcomers(self, versions: Versions) -> None:
        """Sources that come to a corpus that has a version, and a table of held-out documents without theirs: the share
        of them that is held out, too, before anything is learned from them."""
        if versions.accepted is None or not self.pins.get("held_out"):
            return
        new = [name for name in self.readers if name not in versions.accepted["sources"]]
        new = [name for name in new if joins(name) not in self.pins.history]
        for name in new:
            share = self.spec.training.evaluate.held_out
            self.pins.set(joins(name), {"value": share, "seed": self.spec.seed, "run": self.run})
        if new:
            self.refresh()

    def documents(self) -> Output:
        """Resolve the documents: the only output whose keys come from files outside the store."""
        fingerprints = {name: found.fingerprint for name, found in self.readers.items()}
        folder = {name: self.documents_folder(name) for name in self.readers}
        folders = [folder[shard.source] for shard in self.shards]
        keys = [document_key(fingerprints[shard.source], shard) for shard in self.shards]
        for place, shard in enumerate(self.shards):
            if shard.stored:
                folders[place], _, keys[place] = shard.stored.rpartition("/")
        entries = (entry for folder in dict.fromkeys(folders) for entry in Manifest(self.store, folder).entries())
        output = Output(folders, ".parquet", Index(entries, keys, self.documents_schema.names))
        for place, shard in enumerate(self.shards):
            if shard.stored and output.index.state[place] == MISSING:
                output.index.state[place] = QUARANTINED
                output.index.errors[place] = f"{output.path(place)} is gone, and files that it was read from are, too"
        for name in self.readers:
            places = [place for place, shard in enumerate(self.shards) if shard.source == name]
            batch = JobBatch(self.readers[name], f"{name}@{fingerprints[name]}", folders, output.index)
            places = [place for place in self.due(output.index, places) if not self.shards[place].stored]
            due = [self.shards[place] for place in places]
            known = earlier(self.store, name, self.readers[name], due) if self.staged is None else [None] * len(due)
            for place, shard, extracted in zip(places, due, known, strict=True):
                size = sum((part.end or 0) - part.start for part in shard.parts)
                job = Job("read", keys[place], output.path(place), shard.name, self.run, read=shard, earlier=extracted)
                batch.jobs.append(replace(job, cost=max(size, 0)))
            if batch.jobs:
                output.batches.append(batch)
        self.outputs["documents"] = output
        return output

    def resolve_all(self, listed: Listed | None = None) -> None:
        """Find what exists of every output, of the sources as they are or as they were `listed`, without computing or
        committing anything."""
        if listed is None:
            self.list_sources(pin=False)
        else:
            self.shards, self.unreadable = listed
            self.known_generations = rotation.generations(rotation.known(Versions(self.store, self.spec.name)))
        self.documents()
        for node in self.nodes:
            self.resolve(node)

    def stand_at_version(self) -> None:
        """Have the shards and the generations of the last accepted version, of the sources there are now, with their
        documents as they are in the store; no source is listed."""
        before = rotation.known(Versions(self.store, self.spec.name))
        self.known_generations = rotation.generations(before)
        self.shards, self.unreadable = [], {}
        for name in self.readers:
            known = before.get(name, rotation.Known())
            for number in range(len(known.names)):
                shard, stored = known.shard(number)
                if stored:
                    self.shards.append(replace(shard, stored=stored))

    # -- the kinds of nodes ------------------------------------------------------------------------------------------

    def resolve(self, node: Node) -> Output:
        """What is known of a node's output, and the next jobs for it."""
        if isinstance(node.stage, Estimator):
            output = self._learned(node.stage)
        elif not node.ready:
            output = Output([], ".parquet", Index((), [None] * len(self.shards), node.stage.writes.names))
        elif isinstance(node.stage, CorpusStage):
            output = CorpusJobs(self, node.stage).output()
        else:
            output = self._shard_stage(node.stage)
        self.outputs[node.name] = output
        return output

    def _shard_stage(self, stage: Stage) -> Output:
        return self._by_shard(stage, "shard", self.folder(stage), f".{stage.format}", stage.inputs)

    def counted(self, counts: Counts) -> Output:
        """What is known of the counts of each shard, and the next jobs for them."""
        return self._by_shard(counts, "count", self.counts_folder(counts), ".parquet", counts.reads)

    @staticmethod
    def counts_folder(counts: Counts) -> str:
        return f"counts/{counts.name}@{counts.fingerprint}"

    def _by_shard(
        self, stage: Stage | Counts, kind: Literal["shard", "count"], folder: str, suffix: str, reads: Sequence[str]
    ) -> Output:
        """What is known of a file for each shard, made of some of its columns alone, and the next jobs for them."""
        stages = {name: stage.of_source(name) for name in self.readers}
        variants = {name: made.variant for name, made in stages.items() if made.variant}
        found = self.keys_of(
            range(len(self.shards)),
            stage.fingerprint,
            self.columns_read(stage, reads),
            (lambda place: variants.get(self.shards[place].source, "").encode()) if variants else None,
        )
        keys = [found.get(place) for place in range(len(self.shards))]
        index = Index(Manifest(self.store, folder).entries(), keys, stage.writes.names)
        output = Output([folder] * len(keys), suffix, index)
        batches = {"": JobBatch(stage, f"{stage.name}@{stage.fingerprint}", output.folders, index)}
        for name, variant in variants.items():
            batches[name] = JobBatch(stages[name], f"{stage.name}@{stage.fingerprint}:{variant}", output.folders, index)
        for place in self.due(index):
            source = self.shards[place].source
            job = self.job(stage, kind, str(keys[place]), output.path(place), place, reads)
            batches[source if source in variants else ""].jobs.append(job)
        output.batches = [batch for batch in batches.values() if batch.jobs]
        return output

    def _learned(self, learned: Estimator) -> Output:
        """Samples of every shard, then one fit of all of them; nothing where a pin exists, or a column that is read is
        not resolved yet."""
        output = Output([], "", Index((), [None] * len(self.shards)))
        names = self.columns_read(learned, learned.inputs)
        resolved = all(name in self.provider and self.provider[name] in self.outputs for name in names)
        if self.pins.get(learned.label) or not resolved:
            return output
        sampling = self._sampling(learned, names)
        samples = sampling.index
        output.index.errors = samples.errors
        if sampling.jobs:
            output.batches = [sampling]
            return output
        unavailable = self.unavailable(names) | (samples.state == QUARANTINED)
        too_many_failed = len(samples.errors) > self.spec.gates.quarantined * len(self.shards)
        if (samples.done | unavailable).all() and samples.done.any() and not too_many_failed:
            fitting = self._fitting(learned, sampling)
            if f"{learned.label}:{fitting.jobs[0].key}" not in self.tried:
                output.batches = [fitting]
        return output

    def _sampling(self, learned: Estimator, names: Sequence[str]) -> JobBatch:
        """The samples of the shards, and the jobs for those that are due; it reads the columns `names`."""
        folder = f"models/{learned.name}/samples@{learned.fingerprint}"
        keys = self.keys(f"{learned.fingerprint}:sample", names)
        samples = Index(Manifest(self.store, folder).entries(), keys)
        batch = JobBatch(learned, f"{learned.name}@{learned.fingerprint}", [folder] * len(keys), samples)
        for place in self.due(samples):
            path = f"{folder}/{keys[place]}.parquet"
            batch.jobs.append(self.job(learned, "sample", str(keys[place]), path, place, learned.inputs))
        return batch

    def _fitting(self, learned: Estimator, sampling: JobBatch) -> JobBatch:
        """The fit of the samples that there are."""
        samples = sampling.index
        sampled = np.flatnonzero(samples.done).tolist()
        key = digest([learned.fingerprint, [samples.keys[place] for place in sampled]])
        batch = JobBatch(learned, f"{learned.name}@{learned.fingerprint}", [f"models/{learned.name}"], Index((), [key]))
        batch.without = [self.shards[place].name for place in np.flatnonzero(~samples.done).tolist()]
        paths = {f"{sampling.folders[place]}/{samples.keys[place]}.parquet": place for place in sampled}
        recorded = {path: samples.recorded(place) for path, place in paths.items()}
        inputs = tuple((path, ()) for path in paths)
        path = f"models/{learned.name}/{key}{learned.suffix}"
        batch.jobs = [Job("fit", key, path, learned.name, self.run, inputs=inputs, recorded=recorded)]
        return batch

    # -- committing --------------------------------------------------------------------------------------------------

    def recover(self, batch: JobBatch) -> bool:
        """Take in outputs that a killed driver left without a manifest entry. True where there were any."""
        found = 0
        for folder in dict.fromkeys(batch.folders):
            if batch.jobs[0].kind != "fit":
                keys = [job.key for job in batch.jobs if job.path.startswith(f"{folder}/")]
                found += Manifest(self.store, folder).recover(keys)
        return found > 0

    def commit(self, batch: JobBatch, entries: list[Entry]) -> None:
        """Commit entries to their manifests."""
        paths = {job.key: job.path for job in batch.jobs}
        batch.index.add(entries)
        by_folder: dict[str, list[Entry]] = {}
        for entry in entries:
            fitted = batch.jobs[0].kind == "fit"  # what two learn of the same with the same settings each pins
            self.tried.add(f"{batch.stage.label}:{entry['key']}" if fitted else entry["key"])
            by_folder.setdefault(paths[entry["key"]].rsplit("/", 1)[0], []).append(entry)
            if "facts" in entry:
                self._pin(batch, paths[entry["key"]], entry)
        for folder, found in by_folder.items():
            self.describe(folder, batch.stage)
            Manifest(self.store, folder).append(found)

    def describe(self, folder: str, stage: Any) -> None:
        """Say in recipe.json what a folder's files were made with, where it does not say so."""
        fields = orjson.loads(orjson.dumps(stage.fingerprint_fields()))
        with suppress(FileNotFoundError, DamagedError):
            if folder in self._described or self.store.json(f"{folder}/recipe.json") == fields:
                return self._described.add(folder)
        with suppress(DeniedError):  # what a run needs of a store that may not be written, it has
            self.store.commit_json(f"{folder}/recipe.json", fields)

    def describe_all(self, name: str) -> None:
        """The same of the folders that a stage's output lies in, as far as there is one."""
        output = self.outputs[name]
        present = {output.folders[place] for place in np.flatnonzero(output.index.done).tolist()}
        made: dict[str, Any] = {self.documents_folder(source): found for source, found in self.readers.items()}
        for folder in sorted(present & made.keys() if name == "documents" else present):
            self.describe(folder, made[folder] if name == "documents" else self.node(name).stage)

    def _pin(self, batch: JobBatch, path: str, entry: Entry) -> None:
        """Hold fast what was learned, and of which shards it was not."""
        pin = {
            "path": path,
            "sha256": entry["sha256"],
            "run": entry["run"],
            "ingredients": batch.stage.fingerprint_fields(),
        }
        facts = {"rows": entry["rows"], **entry["facts"]}
        if texts := upstream.texts(self, batch.stage):
            pin["texts"] = texts
        if read := upstream.columns(self, batch.stage):
            pin["columns"] = read
        if batch.without:
            facts["without"] = {"count": len(batch.without), "shards": batch.without[:NAMED]}
        self.pins.set(batch.stage.label, pin | {"facts": facts})

    # -- reading -----------------------------------------------------------------------------------------------------

    def state(self, name: str) -> str:
        """cached (nothing to do), stale (jobs to do), waiting (for something above), partial (shards quarantined)."""
        index = self.outputs[name].index
        if self.outputs[name].batches:
            return "stale"
        if (index.state == MISSING).any():
            return "waiting"
        return "partial" if (index.state == QUARANTINED).any() else "cached"
