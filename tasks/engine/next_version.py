"""Making the next version of a corpus: the corpus as it stands, counted, judged by the gates, and committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tasks.engine import version_gates
from tasks.engine.counts import Counts, Totals, added, totals
from tasks.engine.ledger import funnel
from tasks.engine.outputs import Output
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import Execution
from tasks.engine.snapshot import Present, present, stage_facts
from tasks.engine.versions import ACCEPTED, COUNTS, REFUSED, Facts, Versions
from tasks.storage import columns
from tasks.storage.store import StoreError


@dataclass
class Made:
    """What came of it."""

    facts: Facts
    """The version, accepted or refused."""
    new: bool
    """Whether it was made now."""
    unjudged: Sequence[str] = ()
    """Where it was made now, the sources whose new shards no gate judged, as they have too few records, or had."""


def make(execution: Execution, counts: Counts, about: Facts, run: str) -> Made:
    """Commit a version where the corpus is another one than that of the last; else the last one, also where that was
    refused and the gates still are the same, or the one that another run has made meanwhile of the same corpus.
    `about`: what a data card says of it. Raises StoreError where that run has made another one."""
    pipeline, spec = execution.pipeline, execution.pipeline.spec
    versions = Versions(pipeline.store, spec.name)
    found, gates = present(pipeline, versions), spec.gates.model_dump(mode="json")
    base, newest = versions.accepted, versions.newest()
    for known in filter(None, (base, newest)):
        if _stands(known, found, gates):
            return Made(known, False)
    counted = execution.count(counts)
    for generation, places in zip(found.generations, found.places, strict=True):
        generation["keys"][COUNTS] = versions.put_keys(
            [counted.index.keys[place] if counted.index.done[place] else None for place in places]
        )
    sums = [_totals(pipeline, versions, counted, *each) for each in zip(found.generations, found.places, strict=True)]
    judged = _judged(pipeline, counts, counted, found, sums) if base and found.new else []
    refused = [version_gates.why(row) for row in judged if not row["passed"]]
    facts = {
        "version": (newest["version"] if newest else 0) + 1,
        "parent": base["version"] if base else None,
        "state": REFUSED if refused else ACCEPTED,
        "why": refused,
        "run": run,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "digest": found.digest,
        "new": found.generations[-1]["shards"] if found.new else 0,
        "left": found.left,
        "generations": found.generations,
        "stages": found.stages | {COUNTS: stage_facts(counted.folders[0], counted.suffix, counts.writes)},
        "sources": {
            name: {"columns": reader.writes.names, "unreadable": len(pipeline.unreadable.get(name, ()))}
            for name, reader in pipeline.readers.items()
        },
        "scores": list(counts.scores),
        "about": about,
        "limits": gates,
        "gates": judged,
        "funnel": funnel(pipeline),
        "totals": added(*sums),
    }
    try:
        versions.create(facts)
    except StoreError:
        meanwhile = versions.newest()
        if meanwhile and _stands(meanwhile, found, gates):
            return Made(meanwhile, False)
        raise
    came = {pipeline.shards[place].source for place in found.places[-1]} if base and found.new else set()
    return Made(facts, True, sorted(came - {row["source"] for row in judged}))


def _stands(known: Facts, found: Present, gates: Facts) -> bool:
    """Whether a version is of the corpus as it is, and gates would judge it as they did."""
    same = known["digest"] == found.digest and _same_values(known["generations"], found.generations)
    return same and (known["state"] == ACCEPTED or known["limits"] == gates)


def _same_values(known: Sequence[Facts], found: Sequence[Facts]) -> bool:
    """Whether generations of the same outputs have the same values, too: a stage that is computed again may give
    others. What an earlier version of Sluice did not note counts as the same."""
    return all(one.get("values", other["values"]) == other["values"] for one, other in zip(known, found, strict=True))


def _totals(
    pipeline: Pipeline, versions: Versions, counted: Output, generation: Facts, places: Sequence[int]
) -> Totals:
    """What is counted in a generation; noted, so that it is summed once."""
    name = generation["keys"][COUNTS]
    known = versions.totals(name)
    if known is None:
        known = totals(tables(pipeline, counted, places))
        versions.put_totals(name, known)
    return known


def tables(pipeline: Any, counted: Output, places: Sequence[int]) -> Iterator[tuple[str, pa.Table]]:
    """(source, counts) of some shards, as far as they are counted."""
    for place in places:
        if counted.index.done[place]:
            ids = pipeline.outputs["documents"].index.digests["id"][place].tobytes().hex()
            recorded = counted.index.recorded(place, ids, counted.index.digests)
            yield pipeline.shards[place].source, columns.read(pipeline.store, counted.path(place), (), recorded)


def _judged(
    pipeline: Pipeline, counts: Counts, counted: Output, found: Present, sums: Sequence[Totals]
) -> list[dict[str, Any]]:
    """What the gates say of the last generation, against those before it as they are now."""
    new, earlier = found.places[-1], [place for places in found.places[:-1] for place in places]
    if not earlier:
        return []
    uids = pipeline.uids()
    of_older = version_gates.duplicates_of(tables(pipeline, counted, new), (uids[place] for place in earlier))
    limits = pipeline.spec.gates
    return version_gates.judged(
        limits.new,
        limits.quarantined,
        version_gates.funnels(pipeline, new, sums[-1]),
        version_gates.funnels(pipeline, earlier, added(*sums[:-1])),
        of_older,
        counts.scores,
    )
