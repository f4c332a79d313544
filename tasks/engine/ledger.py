"""The ledger: where every record went, from manifests alone.

in = kept + dropped per reason + quarantined per reason + pending, at every commit. Reading counts records in and out,
the verdict, or the outcome where a cut comes after it, counts documents kept and dropped; documents of a shard that was
quarantined in between, and kept ones of which the model's text, or its tokens, could not be made, are quarantined under
the stage's name; documents that no verdict has reached yet are pending.
A shard whose reading failed counts as one record, and so does a file that was listed and cannot be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

import numpy as np

from data_specs.amounts import plural
from data_specs.reasons import COPIES, READING
from tasks.engine.pipeline import NAMED, Pipeline
from tasks.engine.reading import LedgerError
from tasks.storage.manifest import QUARANTINED


class Tally:
    """Counts of one source."""

    def __init__(self) -> None:
        self.total = self.kept = self.pending = 0
        self.dropped: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.files: dict[str, dict[str, int]] = {}
        """Files that have quarantined records, the first ones, by key, with the reasons."""

    def name(self, files: Mapping[str, dict[str, int]]) -> None:
        """Name files, as long as there is room."""
        for key, reasons in islice(files.items(), NAMED - len(self.files)):
            self.files[key] = {**self.files.get(key, {}), **reasons}

    def add(self, other: Tally) -> None:
        self.total += other.total
        self.kept += other.kept
        self.pending += other.pending
        self.dropped.update(other.dropped)
        self.quarantined.update(other.quarantined)

    def balanced(self, name: str) -> dict[str, Any]:
        """As JSON. Raises LedgerError where the sums differ."""
        out = self.kept + self.pending + self.dropped.total() + self.quarantined.total()
        if out != self.total:
            raise LedgerError(
                f"{name}: {plural(self.total, 'record')} in, {out:,} accounted for: the manifests of documents and of "
                "verdicts count differently; `sluice invalidate SPEC verdict`, else `documents`, has the next run "
                "count anew, and if it then says the same it is a bug: report it with the store's runs/records"
            )
        return {
            "in": self.total,
            "kept": self.kept,
            "dropped": dict(self.dropped.most_common()),
            "quarantined": {reason: count for reason, count in self.quarantined.most_common() if count},
            "pending": self.pending,
            **({"files": self.files} if self.files else {}),
        }


def funnel(pipeline: Pipeline) -> dict[str, Any]:
    """{"in", "kept", "dropped": {reason: n}, "quarantined": {reason: n}, "pending", "sources": {source: the same, and
    "files": {key: {reason: n}}, some of those that have records quarantined}}.

    Raises LedgerError where the sums differ."""
    documents = pipeline.outputs["documents"].index
    judging = [pipeline.outputs[name].index for name in ("outcome", "verdict") if name in pipeline.outputs]
    stopped = _stopped_at(pipeline)
    lost = pipeline.unavailable(("tokens",)) if "tokens" in pipeline.outputs else np.zeros(len(pipeline.shards), bool)
    tallies: dict[str, Tally] = {name: Tally() for name in pipeline.spec.sources}
    for name, files in pipeline.unreadable.items():
        tallies[name].total += len(files)
        tallies[name].quarantined["unreadable"] += len(files)
        tallies[name].name({key: {"unreadable": 1} for key in islice(files, NAMED)})
    for place, shard in enumerate(pipeline.shards):
        tally = tallies[shard.source]
        read = documents.ledger(place)
        if read is None:
            if documents.state[place] == QUARANTINED:
                tally.total += 1
                tally.quarantined["reading"] += 1
            continue
        tally.total += read["in"]
        tally.dropped.update(read["dropped"])
        tally.quarantined.update(read["quarantined"])
        tally.name(read.get("files", {}))
        judged = next((found for index in judging if (found := index.ledger(place)) is not None), None)
        if judged is not None:
            reasons = Counter(judged.get(shard.source, {}))
            kept = reasons.pop("kept", 0)
            if lost[place]:
                tally.quarantined[stopped.get(place, "tokens")] += kept
            else:
                tally.kept += kept
            tally.dropped.update(reasons)
        elif place in stopped:
            tally.quarantined[stopped[place]] += int(documents.rows[place])
        else:
            tally.pending += int(documents.rows[place])
    whole = Tally()
    for tally in tallies.values():
        whole.add(tally)
    return whole.balanced("all sources") | {"sources": {name: t.balanced(name) for name, t in tallies.items()}}


def _stopped_at(pipeline: Pipeline) -> dict[int, str]:
    """Shard -> the first stage that quarantined it, of those that its tokens are made by."""
    found: dict[int, str] = {}
    needed, asked = set[str](), ["tokens"]
    while asked:
        name = asked.pop()
        if name not in needed and name != "documents":
            needed.add(name)
            asked += [pipeline.provider[column] for column in pipeline.node(name).inputs]
    for node in pipeline.nodes:
        if node.name in pipeline.outputs and node.name in needed:
            for place in pipeline.outputs[node.name].index.errors:
                found.setdefault(place, node.name)
    return found


def removed_share(counts: dict[str, Any], refusals: Collection[str] = ()) -> dict[str, float]:
    """Per source: the share of its documents (records that became text; those that sources refuse, for `refusals`, did
    not) that went as copies of others."""
    shares = {}
    for name, source in counts["sources"].items():
        never = sum(source["dropped"].get(reason, 0) for reason in READING | {*refusals})
        documents = source["in"] - never - sum(source["quarantined"].values())
        copies = sum(source["dropped"].get(reason, 0) for reason in COPIES)
        shares[name] = copies / documents if documents else 0.0
    return shares
