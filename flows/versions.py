"""The versions of a corpus, as commands show and compare them."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_specs.amounts import decimal, plural
from data_specs.groups import named
from data_specs.load import SpecError
from data_specs.redaction import escaped
from flows.terminal import cell, console, line, pairs, table
from tasks.engine import drift
from tasks.engine.counts import by_value
from tasks.engine.hosts import as_one
from tasks.engine.next_version import tables
from tasks.engine.snapshot import Snapshot
from tasks.engine.versions import COUNTS, Facts, VersionError, Versions

log = logging.getLogger("sluice")

_NAMED = 50
"""Hosts that a comparison names, at most, of those gained and of those lost."""


def of(versions: Versions, number: int) -> Facts:
    """A version by its number. Raises SpecError where there is none."""
    try:
        return versions.read(number)
    except VersionError as error:
        raise SpecError([str(error)]) from None


def no_longer(facts: Facts, altered: Sequence[str]) -> str:
    """What to say of a version of which stages are not in the store any more as they were."""
    return (
        f"version {facts['version']} has {altered[0]} no longer as it was: documents were taken down, or `sluice gc` "
        "or `--replace` changed it; `sluice run SPEC --until version` makes one that is whole"
    )


def summaries(versions: Versions) -> list[dict[str, Any]]:
    """What is said of each version, oldest first."""
    found = []
    for facts in versions.all():
        kept = _sum(by_value(facts["totals"], "source", kept=True))
        found.append(
            {
                **{key: facts[key] for key in ("version", "parent", "state", "time", "run", "new", "digest", "why")},
                "shards": sum(each["shards"] for each in facts["generations"]),
                "generations": len(facts["generations"]),
                "records": facts["funnel"]["in"],
                "purged": versions.purged(facts["version"]),
                **dict(zip(("documents", "bytes", "tokens"), kept, strict=True)),
            }
        )
    return found


def show(found: list[dict[str, Any]]) -> None:
    """Print versions; why one was refused stands below."""
    grid = table(
        "version", "from", "state", "made (UTC)", "shards", "new", "documents", "bytes", "tokens", title="Versions"
    )
    for row in found:
        counted = (row[name] for name in ("shards", "new", "documents", "bytes", "tokens"))
        made = row["time"].replace("T", " ").removesuffix("+00:00")
        grid.add_row(str(row["version"]), cell(row["parent"]), row["state"], made, *map(cell, counted))
    console().print(grid)
    console().print("documents, bytes and tokens are of what is kept")
    purged: dict[str, list[str]] = {}
    for row in found:
        for why in row["why"]:
            console().print(f"version {row['version']} was refused: {line(why, None)}")
        if row["purged"]:
            purged.setdefault(", ".join(map(str, row["purged"])), []).append(str(row["version"]))
    for by, numbers in purged.items():
        whose = f"versions {', '.join(numbers)}: some of their" if numbers[1:] else f"version {numbers[0]}: some of its"
        console().print(f"{whose} documents were taken down (takedown {by})")


def difference(versions: Versions, first: int, second: int) -> dict[str, Any]:
    """What the second of two versions has more or less than the first, of what it keeps; reasons of what it drops;
    hosts gained and lost; how far languages and scores have moved."""
    before, after = of(versions, first), of(versions, second)
    old, new = before["totals"], after["totals"]
    kept = {
        by: {name: [_counts(one.get(name)), _counts(other.get(name))] for name in sorted(one.keys() | other.keys())}
        for by in ("source", "channel", "language")
        for one, other in [(by_value(old, by, kept=True), by_value(new, by, kept=True))]
    }
    reasons = {
        group: {
            name: [before["funnel"][group].get(name, 0), after["funnel"][group].get(name, 0)]
            for name in sorted(before["funnel"][group].keys() | after["funnel"][group].keys())
        }
        for group in ("dropped", "quarantined")
    }
    moved = {}
    for by in ("language", *sorted({*before["scores"], *after["scores"]})):
        one, other = (_documents(each, by) for each in (old, new))
        if one and other:
            numbers = by != "language"
            chance = drift.chance(one, other, numbers)
            index = round(drift.index(one, other, numbers), 6)
            moved[by] = {"index": index, "chance": round(chance, 6) if math.isfinite(chance) else None}
    gained, lost = hosts(versions, before, after)
    return {
        "from": first,
        "to": second,
        "records": [before["funnel"]["in"], after["funnel"]["in"]],
        "kept": kept,
        **reasons,
        "drift": moved,
        "hosts": {"gained": gained, "lost": lost},
    }


def _documents(totals: Any, by: str) -> dict[str, int]:
    """Kept documents by value."""
    return {name: outcomes["kept"][0] for name, outcomes in by_value(totals, by, kept=True).items()}


def hosts(versions: Versions, before: Facts, after: Facts) -> tuple[dict[str, int], dict[str, int]] | tuple[None, None]:
    """Hosts of kept documents that only the second version has, and those that only the first has, with how many
    documents; None where counts of one are gone, so that this is not known. What both have counted alike is read for
    the hosts in question alone."""
    old, new = _counted(versions, before), _counted(versions, after)
    for number, files in ((before["version"], old), (after["version"], new)):
        gone = sum(not snapshot.outputs[COUNTS].index.done[place] for snapshot, place in files.values())
        if gone:
            count = plural(gone, "shard")
            log.warning("version %d: what hosts it has is not known, as counts of %s are gone", number, count)
            return None, None
    only_old, only_new = _hosts(old, old.keys() - new.keys()), _hosts(new, new.keys() - old.keys())
    asked = only_old.keys() | only_new.keys()
    common = _hosts(old, old.keys() & new.keys(), asked) if asked else {}
    gained = {host: count for host, count in only_new.items() if host not in only_old and host not in common}
    lost = {host: count for host, count in only_old.items() if host not in only_new and host not in common}
    return _most(gained), _most(lost)


def _counted(versions: Versions, facts: Facts) -> dict[str, tuple[Snapshot, int]]:
    """Path of each file of counts -> where it is read."""
    snapshot = Snapshot(versions, facts)
    output = snapshot.outputs[COUNTS]
    return {output.path(place): (snapshot, place) for place, key in enumerate(output.index.keys) if key}


def _hosts(
    files: Mapping[str, tuple[Snapshot, int]], paths: Collection[str], asked: Collection[str] | None = None
) -> dict[str, int]:
    """Kept documents by host, in some files of counts."""
    found: dict[str, int] = {}
    wanted = None if asked is None else pa.array(sorted(asked), pa.string())
    for path in sorted(paths):
        snapshot, place = files[path]
        for _, counted in tables(snapshot, snapshot.outputs[COUNTS], [place]):
            rows = counted.filter(pc.equal(counted["by"], "host"))
            spelled = as_one(rows["value"].combine_chunks())  # earlier versions counted some under several spellings
            chosen = spelled.is_valid() if wanted is None else pc.is_in(spelled, wanted)
            both = (each.filter(chosen).to_pylist() for each in (spelled, rows["documents"]))
            for host, count in zip(*both, strict=True):
                found[host] = found.get(host, 0) + count
    return found


def _most(found: dict[str, int]) -> dict[str, int]:
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))


def _counts(outcomes: Mapping[str, list[int]] | None) -> list[int]:
    return outcomes["kept"] if outcomes else [0, 0, 0]


def _sum(values: Mapping[str, Mapping[str, list[int]]]) -> list[int]:
    return [sum(row["kept"][place] for row in values.values()) for place in range(3)]


def show_difference(found: dict[str, Any]) -> None:
    """Print a comparison: what has not changed is left out."""
    title = f"From version {found['from']} to {found['to']}"
    header = ("", "documents", "change", "bytes", "change", "tokens", "change")
    for by, values in found["kept"].items():
        grid = table(by, *header[1:], title=f"{title}: kept, by {by}")
        for name, (before, after) in values.items():
            if before != after:
                grid.add_row(escaped(named(name or None)), *_changes(before, after))
        if grid.row_count:
            console().print(grid)
    grid = table("", "before", "after", title=f"{title}: records")
    grid.add_row("in", *map(cell, found["records"]))
    for group in ("dropped", "quarantined"):
        for name, pair in found[group].items():
            if pair[0] != pair[1]:
                grid.add_row(f"{group}: {escaped(name)}", *map(cell, pair))
    grid.add_section()
    grid.add_row("kept", *(cell(sum(each[side][0] for each in found["kept"]["source"].values())) for side in (0, 1)))
    console().print(grid)
    pairs(
        ((name, decimal(each["index"], 4) + (f" (chance up to {decimal(each['chance'], 4)})" if each["chance"] else ""))
         for name, each in found["drift"].items()),
        "Drift of all that is kept: population stability index",
    )  # fmt: skip
    if found["drift"]:
        console().print(
            "the gates of `gates.new` hold what is new of a source against what there was of it: `sluice versions`"
        )
    for what, of in found["hosts"].items():
        if of is None:
            console().print(f"hosts {what}: not known, as counts of a version are gone", soft_wrap=True)
            continue
        shown = ", ".join(f"{line(host)} ({count:,})" for host, count in list(of.items())[:_NAMED])
        more = f", and {len(of) - _NAMED:,} more" if len(of) > _NAMED else ""
        console().print(f"hosts {what}: {len(of):,}" + (f": {shown}{more}" if of else ""), soft_wrap=True)


def _changes(before: list[int], after: list[int]) -> Iterator[str]:
    for one, other in zip(before, after, strict=True):
        yield from (cell(other), f"{other - one:+,}" if other != one else "")
