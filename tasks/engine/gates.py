"""The gates: what stops a run instead of letting it go on with a bad corpus. Each raises GateError."""

from __future__ import annotations

import numpy as np

from tasks.engine.ledger import funnel, removed_share
from tasks.engine.pipeline import Pipeline
from tasks.storage.manifest import QUARANTINED, Index


class GateError(RuntimeError):
    """A gate of the spec stopped the run (exit code 3)."""


def quarantined(pipeline: Pipeline, name: str) -> None:
    """Of a stage's shards, and of any source's documents, at most the share `gates.quarantined` may be quarantined."""
    index, limit = pipeline.outputs[name].index, pipeline.spec.gates.quarantined
    lost = index.state == QUARANTINED
    count = int(np.count_nonzero(lost))
    if count / max(1, len(index.keys)) > limit:
        raise GateError(
            f"{name}: {count} of {len(index.keys)} shards are quarantined, more than gates.quarantined "
            f"= {limit:.0%}: {_errors(index)}"
        )
    rows = pipeline.outputs["documents"].index.rows
    sources = np.array([shard.source for shard in pipeline.shards])
    for source in sorted(set(sources[lost].tolist())):
        own = sources == source
        documents, gone = int(rows[own].sum()), int(rows[own & lost].sum())
        if gone > limit * documents:
            raise GateError(
                f"{name}: {gone:,} of the {documents:,} documents of source {source} are quarantined, more than "
                f"gates.quarantined = {limit:.0%}: {_errors(index)}"
            )


def sampled(pipeline: Pipeline, name: str) -> None:
    """What is learned is learned of all shards, but for the share `gates.quarantined` whose samples failed."""
    index, limit = pipeline.outputs[name].index, pipeline.spec.gates.quarantined
    if limit * len(index.keys) < len(index.errors) < len(index.keys):
        raise GateError(
            f"{name}: {len(index.errors)} of {len(index.keys)} shards could not be sampled, more than "
            f"gates.quarantined = {limit:.0%}, so nothing was learned: {_errors(index)}"
        )


def _errors(index: Index) -> str:
    return "; ".join(sorted(set(index.errors.values()))[:3])


def read(pipeline: Pipeline) -> None:
    """Every source has a document."""
    rows = pipeline.outputs["documents"].index.rows
    found = {shard.source for shard, count in zip(pipeline.shards, rows, strict=True) if count}
    for source, counts in funnel(pipeline)["sources"].items():
        if source not in found:
            lost = [*counts["dropped"].items(), *counts["quarantined"].items()]
            why = ", ".join(f"{count:,} {reason}" for reason, count in lost) or "there is none"
            raise GateError(
                f"documents: none of the {counts['in']:,} records of source {source} is a document ({why}); mend "
                "its settings, or leave it out"
            )


def removed(pipeline: Pipeline) -> None:
    """Copies take at most the share `gates.removed_per_source` of any source."""
    limit = pipeline.spec.gates.removed_per_source
    for source, share in removed_share(funnel(pipeline)).items():
        if share > limit:
            raise GateError(
                f"verdict: duplicates and copies of held-out documents take {share:.1%} of source {source}, more "
                f"than gates.removed_per_source = {limit:.0%}; look at them with `sluice query`, or raise the gate"
            )


def skipped(pipeline: Pipeline) -> None:
    """No document is kept that a stage's `where` skipped, unless `gates.skipped` allows it."""
    if pipeline.spec.gates.skipped:
        return
    index = pipeline.outputs["verdict"].index
    for place in range(len(index.keys)):
        for group, counts in (index.ledger(place) or {}).items():
            if group.endswith(".skipped"):
                stage, count = next(iter(counts.items()))
                source = group.removesuffix(".skipped")
                raise GateError(
                    f"verdict: {count:,} documents of one shard of {source} are kept although stages.{stage}.where "
                    "skipped them; add a rule that drops them, or set gates.skipped: true"
                )
