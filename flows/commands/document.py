"""One document: its verdict explained, and every column of it.

The verdict names the rule that the reason is, as the spec has it, with the values of the document that met it and the
pinned thresholds that they were compared with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, dataset

from data_specs.amounts import plural
from data_specs.expressions import parse
from data_specs.load import SpecError
from data_specs.spec import Rule
from flows.commands import refused
from flows.commands.query import plain
from flows.terminal import line
from tasks.decision import conditions
from tasks.engine.pipeline import Pipeline
from tasks.engine.sql import evaluate
from tasks.engine.takedowns import REASON, TAKEN_DOWN, Takedown, Takedowns
from tasks.engine.views import ADDRESS, View, views
from tasks.sources.taken_down import TakenDown

FAILS = "fails_"
"""What the columns begin with that say of each rule whether it drops a document."""
REASONS = {
    REASON: "it was taken down: its text is purged, and this row is left in its place",
    "emptied": "rewriting left nothing of its text",
    "emptied_by_cut": "the verdict kept it, and a cut of what repeats left nothing of the text that the model reads",
    "held_out": "it is held out: evaluation is made from it, and training never sees it",
    "held_out_copy": "it is a copy of a held-out document, or in one cluster with it",
    "no_channel": "no channel's expression is true",
    "duplicate": "it is alike to a document that is kept",
}
"""What the reasons mean that are no rules."""


NAMED = ("id", "source", "url")
"""What a document is shown by."""
BY_FILE = """by its file: `sluice query SPEC "select id from corpus where file = 'NAME'"`"""
"""How a document without a URL is found."""
OPENING = 120
"""Characters of its text that stand beside it."""


def document(pipeline: Pipeline, asked: str) -> dict[str, Any]:
    """Every column of one document, those of `corpus` first, and its `verdict`; where it is trained on a text that was
    rewritten, as `rewriting` the columns of the text `from` which and `to` which; of one that was taken down by which
    takedown, as `taken_down`; where stages made other texts of it the ids of these, by stage, as `augmented`; by its
    URL, or by the beginning of its id or of that of a text that was made of it. Of a URL that no document has, but
    records that reading refused: these, as `refused`, and `taken_down`, where that names it. Raises SpecError where no
    document, or more than one, has it, StageError where nothing is computed."""
    corpus = views(pipeline)["corpus"]
    row = _row(corpus, asked, [f"{name}_id" for name in pipeline.spec.augmentations])
    if row is None:
        found: dict[str, Any] = {"refused": refused.records(pipeline, asked)} if by_url(asked) else {}
        naming = [each for each in Takedowns(pipeline.store).all if by_url(asked) and _names(each, asked)]
        found |= {"taken_down": _said(naming[0])} if naming else {}
        if any(found.values()):
            return found
        missed = refused.missed(pipeline) if by_url(asked) else 0
        unsure = (
            f"; of {plural(missed, 'shard')} the refused records are only counted, or not all kept" if missed else ""
        )
        remedy = f"; {BY_FILE}" if by_url(asked) and "://" not in asked else ""
        raise SpecError([f"no document has {_what(asked)}{unsure}{remedy}"])
    [values] = row.to_pylist()
    columns: dict[str, Any] = {column: plain(value) for column, value in values.items()}
    if columns["kind"] == TAKEN_DOWN and (went := Takedowns(pipeline.store).of(columns["id"])):
        columns["taken_down"] = _said(went)
    if (text := pipeline.spec.text) != "text" and columns.get(text) is not None:
        columns["rewriting"] = {"from": "text", "to": text}
    made = [name for name in pipeline.spec.augmentations if columns.get(f"{name}_id")]
    columns |= {"augmented": {name: columns[f"{name}_id"] for name in made}} if made else {}
    return columns | {"verdict": verdict(pipeline, corpus, row)}


def _names(takedown: Takedown, url: str) -> bool:
    """Whether a takedown says of an address that it is not to be read."""
    asked = takedown["asked"]
    return TakenDown((), [*asked["urls"], *takedown["urls"]], asked["domains"]).names(url)


def _said(takedown: Takedown) -> dict[str, Any]:
    return {name: takedown[name] for name in ("takedown", "time", "spec")}


def by_url(asked: str) -> bool:
    """Whether a URL is asked for, not an id."""
    return bool({"/", ":"} & set(asked))


def _what(asked: str) -> str:
    return f"the url {line(asked)}" if by_url(asked) else f"an id that begins with {asked.lower()}"


def _meeting(corpus: View, condition: Any) -> list[tuple[int, str]]:
    """The shards and ids of documents that meet a condition."""
    return [(place, name) for place, table in corpus.scan(("id",), condition) for name in table["id"].to_pylist()]


def _row(corpus: View, asked: str, made: Sequence[str]) -> pa.Table | None:
    """The row of the document that is asked for; None where there is none. `made`: columns of ids of texts that were
    made of documents."""
    if by_url(asked):
        condition = dataset.field("url") == asked
    else:
        beginning = asked.lower()
        if not beginning or set(beginning) - set("0123456789abcdef") or len(beginning) > 32:
            raise SpecError([f"{asked!r} is not a document's id (up to 32 hexadecimal digits), nor a URL; {BY_FILE}"])
        condition = compute.starts_with(dataset.field("id"), beginning)
    found = _meeting(corpus, condition)
    if not found and not by_url(asked):
        for name in (name for name in made if name in corpus.schema.names):
            found += _meeting(corpus, compute.starts_with(dataset.field(name), beginning))
    if not found:
        return None
    if len(found) > 1:
        some = ", ".join(name for _, name in found[:3]) + (", ..." if len(found) > 3 else "")
        raise SpecError([f"{plural(len(found), 'document has', 'documents have')} {_what(asked)}: {some}"])
    [(place, name)] = found
    corpus.places = [place]
    [(_, row)] = corpus.scan(corpus.schema.names, dataset.field("id") == name)
    return row


def verdict(pipeline: Pipeline, corpus: View, row: pa.Table) -> dict[str, Any]:
    """`kept` and `reason`, both null before the verdict is computed; what the reason means; every rule that drops the
    document, in order, and how many others judged it; of a duplicate the document that stays in its place. Of one that
    was taken down no rule is told."""
    [values] = row.to_pylist()
    found: dict[str, Any] = {"kept": values.get("kept"), "reason": values.get("reason")}
    if values["kind"] == TAKEN_DOWN:  # what rules say of a row without a text says nothing
        later = "; `sluice run SPEC` makes a version without it" if found["kept"] is None else ""
        return found | {"because": REASONS[REASON] + later, "fails": [], "passes": 0}
    if found["kept"] is None:
        return found | {"because": "the verdict is not computed for this document yet", "fails": [], "passes": 0}
    rules = pipeline.spec.rules
    fails = [rule for rule in rules if values[FAILS + rule.name]]
    reason = next((rule for rule in fails if rule.name == found["reason"]), None)
    because = reason.drop if reason else REASONS.get(found["reason"], f"it passes every rule, in {values['channel']}")
    found |= {"because": because, "fails": [_rule(pipeline, rule, row) for rule in fails]}
    found["passes"] = len(rules) - len(fails)
    if found["reason"] == "no_channel":
        found["values"] = _values(row, pipeline.spec.channels.values())
    if kept := values["duplicate_of"]:
        found["duplicate_of"] = {"id": _id(pipeline, corpus, kept), "similarity": plain(kept["similarity"])}
    return found


def _rule(pipeline: Pipeline, rule: Rule, row: pa.Table) -> dict[str, Any]:
    """A rule as the spec has it, the values of the columns it reads, and the thresholds for this document."""
    texts = [text for text in (rule.drop, rule.where) if text]
    asked = {f"percentile({column}, {p})": (column, p) for column, p in conditions.asked_of(texts)}
    bound = {text: conditions.bound(text, pipeline.pins) for text in asked}
    numbers = evaluate(bound, row, dict.fromkeys(bound, pa.float64())).to_pylist()[0] if bound else {}
    facts = {"rule": rule.name, "drop": rule.drop, "where": rule.where, "origin": rule.origin}
    return facts | {"values": _values(row, texts), "thresholds": {text: plain(n) for text, n in numbers.items()}}


def _values(row: pa.Table, texts: Iterable[str]) -> dict[str, Any]:
    """The columns that some expressions read, in the row's order, without the text itself."""
    read = frozenset[str]().union(*(parse(text).columns for text in texts))
    return {name: plain(row[name][0].as_py()) for name in row.column_names if name in read and name != "text"}


def _id(pipeline: Pipeline, corpus: View, address: dict[str, int]) -> str | None:
    """The id of the document at an address."""
    uids = pipeline.uids()
    corpus.places = [uids.index(address["shard"])] if address["shard"] in uids else []
    for _, table in corpus.scan(("id",), dataset.field("position") == address["position"]):
        return str(table["id"][0].as_py())
    return None


def by_stage(pipeline: Pipeline, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Stage -> the columns it wrote of a document, without those that the verdict says."""
    stages = {"documents": [*pipeline.documents_schema.names, *ADDRESS.names]}
    stages |= {node.name: list(node.writes) for node in pipeline.nodes if node.writes}
    spec = pipeline.spec
    elsewhere = {"text", spec.text, *spec.augmentations, *(f"{FAILS}{rule.name}" for rule in spec.rules)}
    shown = {
        stage: {n: found[n] for n in names if n in found and n not in elsewhere} for stage, names in stages.items()
    }
    return {stage: columns for stage, columns in shown.items() if columns}


def at(pipeline: Pipeline, rows: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """(token file, position), which `rows` have -> what names the document there: NAMED, the file that it was read from
    (`read_from`), how it begins (`text`); of a text that was made of a document, the document, how the text begins, and
    the stage (`augmented`). Without those whose tokens the spec as it stands lacks."""
    places: dict[str, tuple[int, str]] = {}
    for stage in ("", *pipeline.spec.augmentations):
        output = pipeline.outputs[f"{stage}_tokens" if stage else "tokens"]
        places |= {output.path(place): (place, stage) for place in np.flatnonzero(output.index.done).tolist()}
    wanted: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        wanted[row["file"]].append(row["position"])
    found = {}
    corpus = views(pipeline)["corpus"]
    for file in sorted(wanted.keys() & places.keys()):
        place, stage = places[file]
        corpus.places, column = [place], stage or pipeline.spec.text
        condition = dataset.field("position").isin(pa.array(wanted[file], pa.uint32()))
        for _, table in corpus.scan(("position", "file", *NAMED, column), condition):
            for row in table.to_pylist():
                text = " ".join((row.pop(column) or "")[: 4 * OPENING].split())[:OPENING]
                position, read_from = row.pop("position"), row.pop("file")
                found[file, position] = row | {"read_from": read_from, "text": text}
                found[file, position] |= {"augmented": stage} if stage else {}
    return found
