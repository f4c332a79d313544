"""`sluice whatif`: what other settings would keep and drop, against the last accepted version, and nothing of it stays.

Documents are judged by a run's own stages (tasks/engine/hypothetical.py); of whose text a cut behind the verdict left
nothing in the version, it leaves nothing here, and what the version counts as quarantined, as its tokens could not be
made, is not kept here either. Tokens are `token_estimate`, as the version
has it: about how many a document has, kept or not. Epochs are how often the mixture would read a channel's kept tokens.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from data_specs.amounts import plural
from data_specs.groups import named
from data_specs.load import SpecError
from data_specs.reasons import EMPTIED_BY_CUT
from data_specs.sources import SourceSettings
from data_specs.spec import Spec
from flows import chosen_thresholds
from flows.commands.query import plain
from flows.corpus_run import CorpusRun
from flows.terminal import cell, console, line, table
from flows.versions import no_longer
from tasks.decision.verdict import BEFORE_CUT
from tasks.engine import hypothetical, job
from tasks.engine.corpus import Corpus
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import StageError
from tasks.engine.snapshot import Snapshot
from tasks.engine.versions import Versions
from tasks.engine.views import View, views
from tasks.planning import repeats
from tasks.storage.overlay import overlay

EXAMPLES = 10
"""Documents that are shown of those that would be kept, and of those that would go."""
TEXT = 300
"""Characters of their texts."""
GROUPS = ("source", "channel", "language")
BEFORE, AFTER = 0, 1
QUARANTINED = "quarantined"
"""Reason of a document that the verdict keeps, and whose tokens could not be made."""
KNOWN = ("id", "language", "channel", "kept", "reason", "token_estimate")
"""Columns of the version that are compared with what would be."""

Counted = list[int]
"""Documents and tokens, before and after: [documents, documents, tokens, tokens]."""
_Row = tuple[str, int, int, int]
"""A value, BEFORE or AFTER, and how many documents and tokens of a shard have it."""


def ask(spec: str, store: str | None, settings: Sequence[str], examples: int = EXAMPLES) -> dict[str, Any]:
    """{"version", "settings", "computed": stages, "stops": gates that would stop the run, "kept": {group: {name:
    counted}}, "reasons": {reason: counted}, "changed": {"kept" or "dropped": {reason it had or would have: documents}},
    "epochs": {channel: [before, after]}, "examples": {"kept" or "dropped": documents}}, where counted is [documents
    before, after, tokens before, after]. Raises SpecError, and StageError where no version is there or the answer would
    need texts to be read."""
    given = [*settings, *([f"store={store}"] if store is not None else [])]
    as_is, other = CorpusRun.of(spec, store), chosen_thresholds.loaded(spec, given)
    pins = as_is.pipeline.pins
    if (
        chosen_thresholds.applies(other)
        and pins.get(chosen_thresholds.PIN)
        and not chosen_thresholds.pinned(pins, other)
    ):
        remedy = "`sluice plan` shows which it would choose by that of now"
        raise StageError(f"whatif: a run chooses thresholds anew, as they were pinned for another budget; {remedy}")
    return judged(as_is, other, examples) | {"settings": list(settings)}


def judged(as_is: CorpusRun, spec: Spec, examples: int) -> dict[str, Any]:
    """The same of another spec, without "settings"."""
    versions = Versions(as_is.store, as_is.spec.name)
    if versions.accepted is None:
        raise SpecError([f"whatif: {as_is.spec.name} has no version in {as_is.store.url} yet; `sluice run` makes one"])
    before = Snapshot(versions, versions.accepted)
    if altered := before.altered(name for name in KNOWN if name in before.provider):
        raise StageError(f"whatif: {no_longer(versions.accepted, altered)}")
    with overlay(as_is.store) as store_over:
        other = CorpusRun(spec, as_is.name, store=store_over)
        if spec.name != as_is.spec.name or spec.store != as_is.spec.store:
            raise SpecError(["whatif: another name or store is another corpus; --store says where this one is"])
        sources = as_is.spec.sources
        if files := [
            name for name, each in other.spec.sources.items() if _files(each) != _files(sources.get(name, each))
        ]:
            raise SpecError([f"whatif: it asks nothing of other files than the version has ({', '.join(files)})"])
        computed = hypothetical.judge(other.pipeline)
        found = _compared(before, other.pipeline, examples, spec.text)
    kept = {name: row for name, row in found["kept"]["channel"].items() if name}
    return {
        "version": versions.accepted["version"],
        "computed": computed.stages,
        "stops": [*computed.gates, *other.certain_stops()],
        **found,
        "epochs": {
            name: [_epochs(as_is.spec, kept, name, BEFORE), _epochs(spec, kept, name, AFTER)]
            for name in dict.fromkeys([*as_is.spec.channels, *spec.channels])
        },
        "cap": {name: spec.mixture.cap(name) for name in spec.channels},
    }


def _files(source: SourceSettings) -> dict[str, Any]:
    """What chooses the files of a source."""
    return source.model_dump(include={"paths", "match", "count", "listing"})


def _epochs(spec: Spec, kept: Mapping[str, Counted], channel: str, when: int) -> float | None:
    """How often a channel's kept tokens are read over all phases; None where it is not read, or has none, or where
    documents stand in an epoch otherwise than once each, or texts made of documents have shares by their sizes, which
    only a plan knows."""
    by_size = spec.augmentations and not spec.mixture.phases
    if repeats.asked(spec) or spec.mixture.repetitions or by_size:
        return None
    tokens = {name: row[2 + when] for name, row in kept.items() if name in spec.channels}
    if not tokens.get(channel):
        return None
    sizes = {name: size ** (1 / spec.mixture.temperature) for name, size in tokens.items() if size}
    read = 0.0
    for phase, shape in zip(spec.mixture.phases or (None,), spec.shapes, strict=True):
        weights: Mapping[str, float] = phase.weights if phase else sizes
        share = weights.get(channel, 0) / (sum(weights.values()) or 1)
        read += max(0, shape.steps) * shape.rows * shape.sequence * share
    return round(read / tokens[channel], 6) or None


def _compared(before: Snapshot, after: Pipeline, examples: int, text: str) -> dict[str, Any]:
    """What both keep and drop, and documents that change sides: of each kind those with the smallest ids."""
    counts: dict[str, dict[str, Counted]] = {group: {} for group in GROUPS}
    reasons: dict[str, Counted] = {}
    changed: dict[str, Counter[str]] = {"kept": Counter(), "dropped": Counter()}
    nearest: dict[str, list[tuple[bytes, int, int]]] = {"kept": [], "dropped": []}
    judged = {}
    names, columns = _columns(after)
    lost = before.unavailable(("tokens",))
    place_of = {(shard.source, shard.name, shard.digest): place for place, shard in enumerate(before.shards)}

    def compared(place: int) -> _Shard:
        shard = after.shards[place]
        new = _read(after, place, columns).rename_columns(names)
        place = place_of[shard.source, shard.name, shard.digest]
        return _shard(before, place, new, bool(after.spec.cut_texts), bool(lost[place]), examples)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading and counting leave the interpreter free
        for found in pool.map(compared, [place for place, _ in after.files(columns)]):
            judged[found.place] = found.judged
            for group, rows in found.counts.items():
                _add(counts[group], rows)
            _add(reasons, found.reasons)
            for side in changed:
                changed[side].update(found.changed[side])
                nearest[side] = heapq.nsmallest(examples, [*nearest[side], *found.nearest[side]])
    corpus = views(before)["corpus"]
    return {
        "kept": {group: dict(sorted(found.items())) for group, found in counts.items()},
        "reasons": dict(sorted(reasons.items())),
        "changed": {side: dict(found.most_common()) for side, found in changed.items()},
        "examples": {
            side: [_example(corpus, judged[place], place, row, text) for _, place, row in found]
            for side, found in nearest.items()
        },
    }


@dataclass
class _Shard:
    """One shard of the version beside what it would be: its place there; documents and tokens by group, and of what is
    dropped by reason; of documents that change sides how many had or would have each reason, and (id, place, row) of
    those with the smallest ids."""

    place: int
    judged: pa.Table
    counts: dict[str, list[_Row]]
    reasons: list[_Row]
    changed: dict[str, Counter[str]]
    nearest: dict[str, list[tuple[bytes, int, int]]]


def _shard(before: Snapshot, place: int, new: pa.Table, cut: bool, lost: bool, examples: int) -> _Shard:
    """A shard of the version beside what it would be; `lost`: its tokens could not be made."""
    old = _read(before, place, [name for name in KNOWN if name in before.provider])
    if cut:
        new = _gone(new, pc.fill_null(pc.equal(old["reason"], EMPTIED_BY_CUT), False), EMPTIED_BY_CUT)
    if lost:
        old, new = (_gone(each, pa.scalar(True), QUARANTINED) for each in (old, new))
    tokens = _tokens(old)
    counts: dict[str, list[_Row]] = {group: [] for group in GROUPS}
    reasons = []
    for when, judged in ((BEFORE, old), (AFTER, new)):
        groups = {
            "source": pa.array([before.shards[place].source] * len(old), pa.string()),
            "channel": judged["channel"],
            "language": judged["language"] if "language" in judged.column_names else old["language"],
        }
        for group, values in groups.items():
            counts[group] += _counted(values, tokens, when, judged["kept"])
        reasons += _counted(judged["reason"], tokens, when, pc.invert(pc.fill_null(judged["kept"], False)))
    was, will = (pc.fill_null(judged["kept"], False).to_numpy() for judged in (old, new))
    changed, nearest = {}, {}
    for side, flags, why in (("kept", will & ~was, old["reason"]), ("dropped", was & ~will, new["reason"])):
        rows = np.flatnonzero(flags)
        changed[side] = Counter(reason or "" for reason in why.take(rows).to_pylist())
        ids = zip(old["id"].take(rows).to_pylist(), rows.tolist(), strict=True)
        nearest[side] = heapq.nsmallest(examples, ((each, place, row) for each, row in ids))
    return _Shard(place, new, counts, reasons, changed, nearest)


def _columns(after: Pipeline) -> tuple[list[str], list[str]]:
    """What is compared of documents as they would be: names, and the columns that hold it; of languages only where all
    are known."""
    names = ["kept", "reason"]
    columns = [BEFORE_CUT.get(name, name) for name in names] if after.spec.cut_texts else names
    known = after.resolve(after.node(after.provider["language"])).index.done.all()
    more = ["channel", *(["language"] if known else [])]
    return [*names, *more], [*columns, *more]


def _gone(judged: pa.Table, gone: Any, reason: str) -> pa.Table:
    """A verdict by which kept documents go for a reason behind it, as they did in the version."""
    gone = pc.and_(judged["kept"], gone)
    kept, reasons = pc.and_not(judged["kept"], gone), pc.if_else(gone, reason, judged["reason"])
    others = {name: judged[name] for name in judged.column_names if name not in ("kept", "reason")}
    return pa.table({"kept": kept, "reason": reasons, **others})


def _read(corpus: Corpus, place: int, names: Sequence[str]) -> pa.Table:
    documents = corpus.outputs["documents"].index
    ids = documents.digests["id"][place].tobytes().hex()
    inputs = job.inputs_by_file([(corpus.column(name, place), name) for name in names])
    return job.read(corpus.store, inputs, ids, int(documents.rows[place]), corpus.recorded(place, names))


def _tokens(table_: pa.Table) -> pa.Array:
    if "token_estimate" not in table_.column_names:
        return pa.array(np.zeros(len(table_), np.int64))
    return pc.fill_null(table_["token_estimate"].combine_chunks(), 0)


def _counted(values: Any, tokens: pa.Array, when: int, chosen: Any) -> list[_Row]:
    """Documents and tokens by value, of the rows that are chosen."""
    rows = pa.table({"value": pc.fill_null(values, ""), "tokens": tokens}).filter(pc.fill_null(chosen, False))
    found = rows.group_by("value").aggregate([([], "count_all"), ("tokens", "sum")]).to_pylist()
    return [(row["value"], when, row["count_all"], row["tokens_sum"]) for row in found]


def _add(counts: dict[str, Counted], rows: list[_Row]) -> None:
    for value, when, documents, tokens in rows:
        counted = counts.setdefault(value, [0, 0, 0, 0])
        counted[when] += documents
        counted[2 + when] += tokens


def _example(corpus: View, judged: pa.Table, place: int, row: int, text: str) -> dict[str, Any]:
    """One document, with what it was and would be."""
    names = [name for name in ("id", "source", "url", "file", "channel", "reason", text) if name in corpus.schema.names]
    corpus.places = [place]
    [(_, table_)] = corpus.scan(names, dataset.field("position") == row)
    [values] = table_.to_pylist()
    found = {name: plain(values.get(name)) for name in ("id", "source", "url", "file")}
    now = judged.slice(row, 1).to_pylist()[0]
    return found | {
        "channel": [values["channel"], now["channel"]],
        "reason": [values["reason"], now["reason"]],
        "text": (values.get(text) or "")[:TEXT],
    }


def show(found: dict[str, Any]) -> None:
    """Print an answer: what would not change is left out of groups, and said so."""
    title = f"What if {', '.join(found['settings']) or 'the spec as it is'}, against version {found['version']}"
    console().print(title, soft_wrap=True)
    header = ("documents", "would be", "tokens", "would be")
    whole = [sum(row[place] for row in found["kept"]["source"].values()) for place in range(4)]
    grid = table("kept", *header, "epochs", "would be", "of at most")
    grid.add_row("all", *_pair(whole), "", "", "")
    for name in found["epochs"]:
        epochs = [cell(each) for each in found["epochs"][name]]
        row = found["kept"]["channel"].get(name, [0, 0, 0, 0])
        grid.add_row(f"channel {name}", *_pair(row), *epochs, cell(found["cap"].get(name)))
    for group in ("source", "language"):
        for name, row in found["kept"][group].items():
            if row[0] != row[1]:
                grid.add_row(f"{group} {line(named(name or None))}", *_pair(row), "", "", "")
    console().print(grid)
    console().print("tokens: estimates from the text; versions count what the tokenizer gives", soft_wrap=True)
    grid = table("dropped as", *header)
    for name, row in found["reasons"].items():
        if row[0] != row[1]:
            grid.add_row(line(name), *_pair(row))
    if grid.row_count:
        console().print(grid)
    for side, kind, none in (
        ("kept", "would be kept, dropped now as", "no document would be kept that is dropped"),
        ("dropped", "would be dropped as", "no document would be dropped that is kept"),
    ):
        reasons = found["changed"][side]
        every = ", ".join(f"{line(name)} {count:,}" for name, count in reasons.items())
        console().print(f"{plural(sum(reasons.values()), 'document')} {kind}: {every}" if every else none)
        for each in found["examples"][side]:
            was, will = each["reason"]
            where = line(each["url"] or each["file"])
            console().print(f"  {each['id'][:12]}  {line(was) or 'kept'} -> {line(will) or 'kept'}  {where}")
            console().print(f"    {line(each['text'], 200)}", soft_wrap=True)
    for why in found["stops"]:
        console().print(f"This run would stop: {line(why, None)}", soft_wrap=True)


def _pair(row: Counted) -> list[str]:
    return [cell(row[0]), cell(row[1]), cell(row[2]), cell(row[3])]
