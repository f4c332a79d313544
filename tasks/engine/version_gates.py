"""Gates of versions: shards that came since the last version are held against the earlier ones, source by source, so
that a hundred good shards do not hide one that is destroyed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_specs.amounts import digits
from data_specs.gates import NewShards
from data_specs.reasons import COPIES
from tasks.engine import drift
from tasks.engine.counts import Totals
from tasks.engine.pipeline import Pipeline

_EXPECTED = 20
"""Documents of a channel that new shards would have by its share before, from which on none is no chance."""


@dataclass
class Funnel:
    """Where the records of some shards of one source went."""

    records: int = 0
    quarantined: int = 0
    groups: Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]] = field(default_factory=dict)
    """by -> value -> outcome -> [documents, ...], of `counts`."""

    @property
    def outcomes(self) -> Counter[str]:
        """Documents by outcome."""
        found: Counter[str] = Counter()
        for outcomes in self.groups.get("language", {}).values():
            found.update({outcome: counted[0] for outcome, counted in outcomes.items()})
        return found

    @property
    def copies(self) -> int:
        return sum(self.outcomes[reason] for reason in COPIES)

    @property
    def kept_share(self) -> float:
        """Of the records that are no copies, the share that is kept."""
        return self.outcomes["kept"] / max(1, self.records - self.copies)

    def kept(self, by: str) -> dict[str, int]:
        """Kept documents by value."""
        found = {value: outcomes.get("kept", [0])[0] for value, outcomes in self.groups.get(by, {}).items()}
        return {value: count for value, count in found.items() if count}


def funnels(pipeline: Pipeline, places: Iterable[int], totals: Totals) -> dict[str, Funnel]:
    """The funnels of some shards, by source."""
    index = pipeline.outputs["documents"].index
    found: dict[str, Funnel] = {}
    for place in places:
        source = pipeline.shards[place].source
        funnel = found.setdefault(source, Funnel(groups=totals.get(source, {})))
        read = index.ledger(place)
        funnel.records += read["in"] if read else 1
        funnel.quarantined += sum(read["quarantined"].values()) if read else 1
    return found


def judged(
    limits: NewShards,
    quarantined: float,
    new: Mapping[str, Funnel],
    earlier: Mapping[str, Funnel],
    of_older: Mapping[str, int],
    scores: Sequence[str],
) -> list[dict[str, Any]]:
    """What the gates say of new shards: {"gate", "source", "about", "value", "limit", "passed"} of each. `of_older`:
    how many documents of each source are duplicates of documents of earlier shards."""
    found = []
    for source, now in new.items():
        before = earlier.get(source)
        if now.records < limits.least or before is None or before.records < limits.least:
            continue
        for gate, about, value, limit, passed in _of_source(limits, quarantined, now, before, of_older[source], scores):
            row = {"gate": gate, "source": source, "about": about, "value": _short(value, limit)}
            found.append(row | {"limit": _short(limit, value), "passed": bool(passed)})
    return found


def _short(value: float, other: float) -> float:
    """A number rounded to six decimals, unless that would make it another one that it is not."""
    short = round(value, 6)
    return value if short == round(other, 6) and value != other else short


def _of_source(
    limits: NewShards, quarantined: float, now: Funnel, before: Funnel, of_older: int, scores: Sequence[str]
) -> Iterator[tuple[str, str, float, float, bool]]:
    """(gate, what it is about, value, limit, whether it is passed)."""
    share = now.quarantined / now.records
    yield "quarantined", "share that is quarantined", share, quarantined, share <= quarantined
    documents = max(1, now.outcomes.total())
    copies = (now.copies - of_older) / documents
    yield "removed", "copies of each other or of held-out documents", copies, limits.removed, copies <= limits.removed
    older = of_older / documents
    yield "again", "duplicates of older documents", older, limits.again, older <= limits.again
    if now.records - now.copies >= limits.least:
        low, high = before.kept_share * (1 - limits.band), before.kept_share * (1 + limits.band)
        if now.kept_share < before.kept_share:
            yield "band", "share kept", now.kept_share, low, now.kept_share >= low
        else:
            yield "band", "share kept", now.kept_share, high, now.kept_share <= high
    kept, channels = sum(now.kept("channel").values()), before.kept("channel")
    for channel, count in channels.items():
        expected = kept * count / sum(channels.values())
        if expected >= _EXPECTED:
            there = now.kept("channel").get(channel, 0)
            yield "channels", f"documents of channel {channel}", there, 1, there >= 1
    for by in ("language", *scores):
        pair = before.kept(by), now.kept(by)
        if sum(pair[0].values()) and sum(pair[1].values()):
            moved, numbers = drift.index(*pair, numbers=by != "language"), by != "language"
            limit = max(limits.drift, drift.chance(*pair, numbers=numbers))
            yield "drift", f"population stability index of {by}", moved, min(limit, 1e6), moved <= limit


def why(row: Mapping[str, Any]) -> str:
    """What a gate that is not passed says."""
    name = {"quarantined": "gates.quarantined"}.get(row["gate"], f"gates.new.{row['gate']}")
    value, limit = digits(row["value"], 4, row["limit"]), digits(row["limit"], 4, row["value"])
    bound = "at least" if row["value"] < row["limit"] else "at most"
    return f"new shards of source {row['source']}: {row['about']} {value}, {bound} {limit} asked for ({name})"


def duplicates_of(tables: Iterable[tuple[str, Any]], older: Iterable[int]) -> Counter[str]:
    """Source -> documents of its shards' counts that are duplicates of documents of some other shards."""
    known = {str(uid) for uid in older}
    found: Counter[str] = Counter()
    for source, table in tables:
        by, value, documents = (table[name].to_pylist() for name in ("by", "value", "documents"))
        chosen = [n for b, v, n in zip(by, value, documents, strict=True) if b == "duplicate_of" and v in known]
        found[source] += sum(chosen)
    return found
