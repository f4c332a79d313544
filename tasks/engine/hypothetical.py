"""A corpus as it would be under another spec: the last accepted version's documents, judged as a run would judge them.

The stages that lead to the verdict are those of a run, with its generations and gates, in threads of this process and
over an overlay (tasks/storage/overlay.py), so nothing of it stays. What may have to be computed of these stages are
channels, clusters, percentiles, the verdict, and others that read no text. One that has to read texts is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tasks.engine import gates, upstream, worker
from tasks.engine.gates import GateError
from tasks.engine.job import Job
from tasks.engine.listings import Listings
from tasks.engine.nodes import Node
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import Execution, StageError
from tasks.engine.stage import CorpusStage, Estimator
from tasks.storage.manifest import MISSING, Entry
from tasks.storage.store import Store

EXPRESSIONS = frozenset({"channel", "verdict"})
"""Stages that only evaluate the spec's expressions: those may read texts."""


@dataclass
class Computed:
    """What a verdict took: the stages that were computed, and the gates that would stop a run."""

    stages: list[str] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)


def judge(pipeline: Pipeline) -> Computed:
    """Compute what the verdict of a pipeline lacks; its store is an overlay. Raises StageError where texts would have
    to be read for it, or documents of a source, as its settings make them, are not there yet."""
    pipeline.stand_at_version()
    if unread := sorted(pipeline.readers.keys() - {shard.source for shard in pipeline.shards}):
        raise StageError(f"whatif: no document of {', '.join(unread)} is in the last version; `sluice run` reads them")
    documents = pipeline.documents()
    for name in pipeline.readers:
        read = {
            folder for shard, folder in zip(pipeline.shards, documents.folders, strict=True) if shard.source == name
        }
        if pipeline.documents_folder(name) not in read:
            raise StageError(
                f"whatif: documents of {name} would be read anew, by other settings of sources or `extract` than those "
                "of the last version, and what they would be is not known; `sluice run --until documents` reads them"
            )
    execution, found = Execution(pipeline, run_jobs=_in_threads), Computed()
    found.gates += _stops(pipeline, "documents")
    texts = {"text", *(node.stage.label for node in upstream.rewriting(pipeline))}
    for name in [node.name for node in needed(pipeline)]:
        node = pipeline.node(name)  # pins that were learned on the way make others of the nodes
        if not _lacking(pipeline, node):
            found.gates += _stops(pipeline, name)
            continue
        if name not in EXPRESSIONS and (reads := texts & {*node.inputs, *_scattered(node)}):
            hint = ""
            if name == "candidates" and pipeline.spec.duplicates.threshold <= pipeline.spec.duplicates.floor:
                hint = "; with a lower `stages.duplicates.floor` runs keep the pairs for other thresholds"
            raise StageError(
                f"whatif: {name} would be computed anew from {', '.join(sorted(reads))}, and what it would say is not "
                "known; ask about rules, channels, mixture, or settings that no text is read for, or make it by "
                f"`sluice run SPEC --until {name}` with these settings{hint}"
            )
        with suppress(GateError):  # of several the first
            execution.stage(name)
        found.gates += _stops(pipeline, name)
        found.stages.append(name)
    return found


def _stops(pipeline: Pipeline, name: str) -> Iterator[str]:
    """Each gate that would stop a run once it has a stage, computed or not."""
    asked: list[Callable[[], None]] = []
    if name == "documents":
        listings = Listings(pipeline.spec, pipeline.store)
        asked.append(lambda: gates.read(pipeline, gates.readings(pipeline), listings))
    if name == "documents" or not isinstance(pipeline.node(name).stage, Estimator):
        asked.append(lambda: gates.quarantined(pipeline, name))
    if name == "verdict":
        asked += [lambda: gates.removed(pipeline), lambda: gates.skipped(pipeline)]
    for gate in asked:
        try:
            gate()
        except GateError as stop:
            yield str(stop)


def needed(pipeline: Pipeline) -> list[Node]:
    """The nodes that lead to the verdict, in order; of what is learned, what is not pinned."""
    learned = {node.stage.label: node.name for node in pipeline.nodes if isinstance(node.stage, Estimator)}
    asked, chosen = ["verdict"], set[str]()
    while asked:
        name = asked.pop()
        if name in chosen or name == "documents":
            continue
        chosen.add(name)
        node = pipeline.node(name)
        asked += [pipeline.provider[column] for column in node.inputs]
        asked += [learned[pin] for pin in node.pins if pin in learned and not pipeline.pins.get(pin)]
    return [node for node in pipeline.nodes if node.name in chosen]


def _lacking(pipeline: Pipeline, node: Node) -> bool:
    """Whether something of a stage has to be computed."""
    output = pipeline.resolve(node)
    if isinstance(node.stage, Estimator):
        return not pipeline.pins.get(node.stage.label)
    return bool(((output.index.state == MISSING) & ~pipeline.unavailable(node.writes)).any())


def _scattered(node: Node) -> list[str]:
    return [node.stage.read_from(role) for role in node.stage.scatters] if isinstance(node.stage, CorpusStage) else []


def _in_threads(
    stage: Any,
    stage_key: str,
    jobs: Sequence[Job],
    store: Store,
    cluster: Any,
    commit: Callable[[list[Entry]], None],
) -> int:
    """Do jobs in threads of this process, which reading columns and evaluating expressions leave free for one another;
    what fails is raised."""
    del stage_key, cluster
    prepared = worker.prepare(stage, store)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        commit(list(pool.map(lambda job: worker.run(prepared, job, store), jobs)))
    return 0
