"""The gates: what stops a run instead of letting it go on with a bad corpus. Each raises GateError."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.amounts import digits, plural
from data_specs.expressions import compares_with_constants, literals, parse
from data_specs.redaction import in_one_line
from data_specs.spec import Spec
from data_specs.sql_parser import ExpressionError
from tasks.engine.ledger import funnel, removed_share
from tasks.engine.listings import Listings
from tasks.engine.pipeline import NAMED, Pipeline
from tasks.engine.reading import InputShard
from tasks.engine.sql import evaluate
from tasks.engine.versions import Versions
from tasks.storage.columns import value_digest
from tasks.storage.manifest import QUARANTINED, Index
from tasks.storage.pins import joins

_MOST = 20_000
"""Combinations of values on which two expressions are judged, at most."""
DAMAGE = frozenset({"unreadable", "truncated"})
"""Reasons of quarantined records that stand for a damaged file."""

_MEANS = {
    "not_json": "a line that is not one JSON object in UTF-8",
    "not_csv": "a row that is not in UTF-8, or another text behind a quoted field (see `encoding`, `quote`)",
    "unclosed_quote": "a line that opens a quoted field which nothing closes (see `quote`)",
    "wrong_fields": "a row of more or fewer fields than the first (see `delimiter`)",
    "unreadable": "what is damaged, or no file of its source's kind, or not compressed as its name says",
    "no_pages": "a file without records of its source's kind",
}
"""What to say of reasons, as settings may be wrong, and not the files."""


class GateError(RuntimeError):
    """A gate of the spec stopped the run (exit code 3)."""


def quarantined(pipeline: Pipeline, name: str) -> None:
    """Of a stage's shards, and of any source's documents, at most the share `gates.quarantined` may be quarantined."""
    index, limit = pipeline.outputs[name].index, pipeline.spec.gates.quarantined
    lost = index.state == QUARANTINED
    count = int(np.count_nonzero(lost))
    if count / max(1, len(index.keys)) > limit:
        raise GateError(
            f"{name}: {count} of {plural(len(index.keys), 'shard')} quarantined, more than gates.quarantined "
            f"= {_share(limit)}: {_errors(index)}"
        )
    rows = pipeline.outputs["documents"].index.rows
    sources = np.array([shard.source for shard in pipeline.shards])
    for source in sorted(set(sources[lost].tolist())):
        of_source = sources == source
        documents, gone = int(rows[of_source].sum()), int(rows[of_source & lost].sum())
        if gone > limit * documents:
            raise GateError(
                f"{name}: {gone:,} of {plural(documents, 'document')} of source {source} quarantined, more than "
                f"gates.quarantined = {_share(limit)}: {_errors(index)}"
            )


def sampled(pipeline: Pipeline, name: str) -> None:
    """What is learned is learned of all shards, but for the share `gates.quarantined` whose samples failed."""
    index, limit = pipeline.outputs[name].index, pipeline.spec.gates.quarantined
    if limit * len(index.keys) < len(index.errors) < len(index.keys):
        raise GateError(
            f"{name}: {len(index.errors)} of {plural(len(index.keys), 'shard')} could not be sampled, more than "
            f"gates.quarantined = {_share(limit)}, so nothing was learned: {_errors(index)}"
        )


def _share(share: float, limit: float | None = None) -> str:
    """In per cent, with as many digits as tell it from the limit that it is held against."""
    return f"{digits(100 * share, 5, 100 * (share if limit is None else limit))}%"


def _errors(index: Index) -> str:
    return "; ".join(sorted(set(index.errors.values()))[:3])


def listed(pipeline: Pipeline, listings: Listings) -> list[str]:
    """No file that was read before is unreadable now, of the others at most the share `gates.quarantined`; at most the
    share `gates.gone` has left since the last run, also where other `paths` choose files of their names, so that their
    documents would stay. Returns what has gone, for people."""
    notes = []
    for source in pipeline.spec.sources:
        unreadable = pipeline.unreadable.get(source, {})
        _read_before(source, unreadable, listings)
        stay = pipeline.gone.get(source, set())
        keys = _keys(pipeline, source) - stay
        _within(pipeline, source, len(unreadable), len(keys) + len(unreadable), "files", unreadable)
        lost = pipeline.lost_files.get(source, set())
        expected, other = listings.expected(source), ""
        if not expected and (stay | lost) & listings.read(source):  # by other paths, and yet not by them
            expected = listings.read(source)
            other = "; another data set wants a source of another name"
        gone = sorted((expected & (stay | lost) if other else expected) - keys - unreadable.keys())
        if gone:
            note = f"{len(gone):,} of {plural(len(expected), 'file')} of source {source} gone: {_named(gone)}"
            limit = pipeline.spec.gates.gone
            if len(gone) > limit * len(expected):
                raise GateError(
                    f"documents: {note}: more than gates.gone = {_share(limit)}; bring them back, or raise the gate "
                    f"for one run (`--set gates.gone=100%`){other}"
                )
            if lost:
                note += f"; with a changed file of their shard went the documents of {_named(sorted(lost))}"
            kept = stay.intersection(gone)
            whose = "their documents" if len(kept) == len(gone) else f"the documents of {_named(sorted(kept))}"
            notes.append(note + (f"; {whose} stay in the corpus" if kept else ""))
    return notes


def held_out(pipeline: Pipeline, listings: Listings) -> list[str]:
    """Held-out documents are known by their payloads: where settings of their source make others of these, what was
    held out would be trained on. Raises GateError, but where `gates.gone` lets all go; then it is said, for people."""
    table, notes = pipeline.pins.get("held_out"), list[str]()
    if table is None or not table["facts"].get("payloads"):
        return notes
    for source, reader in pipeline.readers.items():
        before = listings.payload_settings(source) or _payload_settings_of_version(pipeline, source)
        now = reader.payload_settings
        count = table["facts"]["sources"].get(source)
        if not before or before == now or not (count or pipeline.pins.get(joins(source))):
            continue
        documents = f"the {count:,} held-out documents" if count else "the held-out documents"
        was, made = (", ".join(f"{name}: {value}" for name, value in each.items()) for each in (before, now))
        note = in_one_line(f"{documents} of source {source} are found no more, as its `{was}` has become `{made}`")
        if pipeline.spec.gates.gone < 1:
            raise GateError(
                f"documents: {note}, and would be trained on: more than gates.gone = {_share(pipeline.spec.gates.gone)}"
                "; set it as it was, choose anew what is held out of all sources (`--retrain held_out`), or raise the "
                "gate for one run (`--set gates.gone=100%`)"
            )
        notes.append(f"{note}, and are trained on")
    return notes


def _payload_settings_of_version(pipeline: Pipeline, source: str) -> Mapping[str, Any]:
    """What payloads hung on, where no run noted it: by the recipe of the documents of the last accepted version."""
    reader, versions = pipeline.readers[source], Versions(pipeline.store, pipeline.spec.name)
    folders = versions.documents_folders(source) if reader.payload_settings else []
    if not folders or pipeline.documents_folder(source) in folders:
        return {}
    recipe = f"{folders[0]}/recipe.json"
    known = pipeline.store.json(recipe)["settings"] if pipeline.store.exists(recipe) else {}
    return reader.payload_settings_of(known) if known else {}


def read(pipeline: Pipeline, readings: Mapping[str, Reading], listings: Listings) -> None:
    """No file that was read before is damaged now; of a source's records, and of its bytes, at most the share
    `gates.quarantined` is quarantined; every source has a document."""
    for source, reading in readings.items():
        _read_before(source, reading.damaged, listings)
        _within(pipeline, source, reading.quarantined, reading.records, "records", reading.files)
        _within(pipeline, source, reading.lost, reading.bytes, "bytes", reading.damaged)
    rows = pipeline.outputs["documents"].index.rows
    found = {shard.source for shard, count in zip(pipeline.shards, rows, strict=True) if count}
    for source, counts in funnel(pipeline)["sources"].items():
        if source not in found:
            lost = [*counts["dropped"].items(), *counts["quarantined"].items()]
            why = ", ".join(f"{count:,} {reason}" for reason, count in lost) or "there is none"
            key = getattr(pipeline.spec.sources[source], "text", None)
            no_text = key and counts["in"] and counts["in"] == counts["dropped"].get("no_text")
            remedy = (
                f"see whether they call their text {key}, else say how, `text: ...`" if no_text else "mend its settings"
            )
            raise GateError(
                f"documents: none of the {plural(counts['in'], 'record')} of source {source} is a document ({why}); "
                f"{remedy}, or leave it out"
            )


@dataclass
class Reading:
    """What reading a source came to."""

    records: int = 0
    quarantined: int = 0
    bytes: int = 0
    lost: int = 0
    """Of the bytes, those of damaged stretches and of shards whose reading failed."""
    whole: set[str] = field(default_factory=set)
    """Files without damage."""
    files: dict[str, str] = field(default_factory=dict)
    """Files that have quarantined records, and the reasons."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Files of which a part, or all, cannot be read, and why."""

    @property
    def damage_in_words(self) -> str:
        """The damaged files, for people."""
        return f"{plural(len(self.damaged), 'file')} cannot be read whole: {_named(self.damaged)}"

    def unreadable(self, files: Mapping[str, str]) -> None:
        """Count in files that were listed and cannot be opened: a record each."""
        self.records, self.quarantined = self.records + len(files), self.quarantined + len(files)
        self.files |= files
        self.damaged |= files

    def shard(self, shard: InputShard, ledger: Mapping[str, Any] | None) -> None:
        """Count in a shard by what its ledger says; one that has none failed, and counts as one record."""
        size = sum(max(0, (part.end or 0) - part.start) for part in shard.parts)
        self.bytes += size
        if ledger is None:
            self.records, self.quarantined, self.lost = self.records + 1, self.quarantined + 1, self.lost + size
            return
        self.records += ledger["in"]
        self.quarantined += sum(ledger["quarantined"].values())
        self.lost += ledger.get("lost", 0)
        for key, reasons in ledger.get("files", {}).items():
            self.files[key] = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            if DAMAGE & reasons.keys():
                self.damaged[key] = self.files[key]
        self.whole |= {part.key for part in shard.parts}


def readings(pipeline: Pipeline) -> dict[str, Reading]:
    """What reading came to, by source."""
    found = {source: Reading() for source in pipeline.spec.sources}
    failed: dict[str, set[str]] = {source: set() for source in found}
    for source, files in pipeline.unreadable.items():
        found[source].unreadable(files)
    index = pipeline.outputs["documents"].index
    for place, shard in enumerate(pipeline.shards):
        ledger = index.ledger(place)
        found[shard.source].shard(shard, ledger)
        if ledger is None:
            failed[shard.source] |= {part.key for part in shard.parts}
    for source, reading in found.items():
        reading.whole -= reading.damaged.keys() | failed[source] | pipeline.gone.get(source, set())
    return found


def unfilled(pipeline: Pipeline) -> list[str]:
    """What to say of columns that no document of their source has a value in, and of what a template prints and no
    record has, as where a key is misspelt: by the digests of their values, and ledgers, without reading any."""
    index, found = pipeline.outputs["documents"].index, []
    for source, reader in pipeline.readers.items():
        places = [n for n, shard in enumerate(pipeline.shards) if shard.source == source and index.rows[n]]
        for name, kind in reader.named.items() if places else ():
            digests = ((index.digests[name][place].tobytes().hex(), int(index.rows[place])) for place in places)
            if all(made == _nulls(rows, kind) for made, rows in digests):
                word = getattr(pipeline.spec.sources[source], "columns", {}).get(name, kind)
                why = f"see whether its records call it so, and whether it is {word}"
                found.append(f"no document of source {source} has {name}: {why}")
        ledgers = [index.ledger(place) or {} for place in places]
        for name in sorted(set.intersection(*({*each.get("lacking", ())} for each in ledgers)) if ledgers else ()):
            found.append(f"no record of source {source} has the {name} that its template prints: see how they call it")
    return found


def unlabelled(pipeline: Pipeline, name: str) -> list[str]:
    """What to say of a stage of labels that found one for no document, as where the lines name them otherwise."""
    index, stage = pipeline.outputs[name].index, pipeline.node(name).stage
    if stage.name != "labels" or not (places := np.flatnonzero(index.done & (index.rows > 0)).tolist()):
        return []
    digests, kind = index.digests["labels"], stage.writes.field("labels").type
    if any(digests[place].tobytes().hex() != _nulls(int(index.rows[place]), kind) for place in places):
        return []
    return [f"no document has a label: see whether the files name documents by {stage.settings.by} as the corpus does"]


@lru_cache
def _nulls(rows: int, kind: pa.DataType) -> str:
    """The digest of so many rows without a value."""
    return value_digest(pa.nulls(rows, kind))


def _keys(pipeline: Pipeline, source: str) -> set[str]:
    return {part.key for shard in pipeline.shards if shard.source == source for part in shard.parts}


def _read_before(source: str, damaged: Mapping[str, str], listings: Listings) -> None:
    """Raises GateError where files that were read before are damaged."""
    before = listings.read(source)
    if lost := {key: why for key, why in damaged.items() if key in before}:
        raise GateError(
            f"documents: {plural(len(lost), 'file')} of source {source} that could be read before cannot be read now: "
            f"{_named(lost)}; bring them back, or remove them from the source"
        )


def _within(pipeline: Pipeline, source: str, lost: int, total: int, what: str, files: Mapping[str, str]) -> None:
    """Raises GateError where the share that was lost is above `gates.quarantined`."""
    limit = pipeline.spec.gates.quarantined
    if lost > limit * total:
        named = f": {_named(files)}" if files else ""
        remedy = f"{_explained(named)}mend or remove them, or raise the gate"
        raise GateError(
            f"documents: {lost:,} of {total:,} {what} of source {source} cannot be read, "
            f"{_share(lost / total, limit)}, more than gates.quarantined = {_share(limit)}{named}; {remedy}"
        )


def _explained(named: str) -> str:
    """What reasons mean that name no damage by themselves."""
    return "".join(f"{reason} is {what}; " for reason, what in _MEANS.items() if f" {reason}" in named)


def _named(files: Collection[str]) -> str:
    """The first files, with why where that is known."""
    why = files if isinstance(files, Mapping) else {}
    shown = [f"{key} ({why[key]})" if key in why else key for key in islice(files, NAMED)]
    return in_one_line(", ".join([*shown, *(["..."] if len(files) > NAMED else [])]))


def removed(pipeline: Pipeline) -> None:
    """Copies take at most the share `gates.removed_per_source` of any source."""
    limit = pipeline.spec.gates.removed_per_source
    for source, share in removed_share(funnel(pipeline), pipeline.spec.refusals).items():
        if share > limit:
            raise GateError(
                f"verdict: duplicates and copies of held-out documents take {_share(share, limit)} of source {source}, "
                f"more than gates.removed_per_source = {_share(limit)}; look at them with `sluice query`, or raise the "
                "gate"
            )


def certain(spec: Spec, channels: Collection[str], wheres: Mapping[str, str], columns: pa.Schema) -> list[str]:
    """Why a run is bound to stop at `gates.skipped`, as the spec alone shows: one of the `channels` that have a weight
    takes only documents that a stage's `where` (of `wheres`) skips, so each of them that is kept was skipped."""
    if spec.gates.skipped:
        return []
    return [
        f"channels.{channel} takes only documents that stages.{stage}.where skips, so the verdict would stop the run: "
        "set gates.skipped: true, or leave the channel out"
        for channel in channels
        for stage, where in wheres.items()
        if _apart(spec.channels[channel], where, columns)
    ]


def _apart(one: str, other: str, columns: pa.Schema) -> bool:
    """Whether no row can meet both expressions, though some meet the first: where they compare columns with constants
    alone, it shows in every combination of these constants, values between and beside them, and null. Others, and those
    with too many combinations, are not judged."""
    names = sorted(parse(one).columns | parse(other).columns)
    if not (names and compares_with_constants(one) and compares_with_constants(other)):
        return False
    constants = literals(one) | literals(other)
    values = [_candidates(columns.field(name).type, constants) for name in names]
    if math.prod(map(len, values)) > _MOST:
        return False
    rows = zip(*product(*values), strict=True)
    given = {name: pa.array(row, columns.field(name).type) for name, row in zip(names, rows, strict=True)}
    try:
        found = evaluate({"one": one, "other": other}, pa.table(given))
    except ExpressionError:
        return False
    met = pc.fill_null(found["one"], False)
    return bool(pc.any(met).as_py()) and not pc.any(pc.and_(met, pc.fill_null(found["other"], False))).as_py()


def _candidates(kind: pa.DataType, constants: Collection[str]) -> list[Any]:
    """Values of a type that may tell expressions with these constants apart."""
    if pa.types.is_boolean(kind):
        return [None, False, True]
    if pa.types.is_string(kind):
        return [None, "", *sorted({*constants, *(f"{each}~" for each in constants)})]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = sorted({float(each) for each in constants if _number(each)} | {0.0})
        near = [number + step for number in numbers for step in (-1, 0, 1)]
        return [None, *(near if pa.types.is_floating(kind) else [max(0, int(number)) for number in near])]
    return [None]


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


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
                    f"verdict: {plural(count, 'document')} of one shard of {source} kept although stages.{stage}.where "
                    "skipped them; add a rule that drops them, or set gates.skipped: true"
                )
