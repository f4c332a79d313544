"""A rebase: the generations of a corpus become one, as if all of its files had come at once.

What a later generation was not allowed to change, it then does: of duplicates the preferred one stays, whenever it
came, and what is alike to a held-out document goes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.amounts import plural
from tasks.engine.outputs import Output
from tasks.engine.pipeline import Pipeline
from tasks.engine.snapshot import Name, Snapshot
from tasks.engine.versions import Facts, Versions
from tasks.storage import columns

KEPT = "kept"


class RebaseError(ValueError):
    """There is nothing that a rebase could start from; the message says what to do."""


def check(pipeline: Pipeline) -> None:
    """Raise RebaseError where there is no version, or the sources as they were listed have what it has not: what is new
    is judged by the gates of a night."""
    versions = Versions(pipeline.store, pipeline.spec.name)
    if versions.accepted is None:
        raise RebaseError(f"rebase: {pipeline.spec.name} has no version yet; `sluice run` makes one")
    if new := [pipeline.shards[place].name for place in pipeline.newer()]:
        named = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
        raise RebaseError(
            f"rebase: {plural(len(new), 'shard')} came or changed since version {versions.accepted['version']}, the "
            f"last accepted one ({named}); `sluice run` has to make one of them first that its gates accept"
        )


def sides(versions: Versions, before: Facts, after: Facts) -> dict[str, dict[str, list[int]]]:
    """What changes sides between two versions of the same shards: {"kept" or "dropped": {reason that it had or has:
    [documents, tokens]}}. Only shards of which a verdict is another one are read."""
    old, new = Snapshot(versions, before), Snapshot(versions, after)
    place_of = {_name(old, place): place for place in range(len(old.shards))}
    found: dict[str, dict[str, list[int]]] = {KEPT: {}, "dropped": {}}
    for place in np.flatnonzero(_judging(new).index.done).tolist():
        earlier = place_of.get(_name(new, place))
        if earlier is None or _same(old, earlier, new, place):
            continue
        one, other = _judged(old, earlier), _judged(new, place)
        changed = pc.not_equal(one[KEPT], other[KEPT])
        for name, which, reasons in ((KEPT, other, one), ("dropped", one, other)):
            chosen = pc.and_(changed, which[KEPT])
            rows = pa.table({"reason": reasons["reason"], "tokens": which["tokens"]}).filter(chosen)
            for row in rows.group_by("reason").aggregate([([], "count_all"), ("tokens", "sum")]).to_pylist():
                counted = found[name].setdefault(row["reason"], [0, 0])
                counted[0] += row["count_all"]
                counted[1] += row["tokens_sum"] or 0
    return found


def _name(snapshot: Snapshot, place: int) -> Name:
    shard = snapshot.shards[place]
    return shard.source, shard.name, shard.digest


def _judging(snapshot: Snapshot) -> Output:
    """The output that has the last word on documents."""
    return snapshot.outputs[snapshot.provider[KEPT]]


def _same(old: Snapshot, earlier: int, new: Snapshot, place: int) -> bool:
    one, other = _judging(old).index, _judging(new).index
    return not one.done[earlier] or all(
        (one.digests[name][earlier] == other.digests[name][place]).all() for name in (KEPT, "reason")
    )


def _judged(snapshot: Snapshot, place: int) -> pa.Table:
    """`kept`, `reason` and the number of `tokens` of a shard's documents."""
    ids = snapshot.outputs["documents"].index.digests["id"][place].tobytes().hex()

    def read(output: Output, *names: str) -> pa.Table:
        return columns.read(snapshot.store, output.path(place), names, output.index.recorded(place, ids, names))

    judged, tokens = read(_judging(snapshot), KEPT, "reason"), read(snapshot.outputs["tokens"], "tokens")
    return judged.append_column("tokens", pc.cast(pc.list_value_length(tokens["tokens"]), pa.int64()))
