"""What each rule of a spec drops: over the columns that a store has, or over a sample of the sources where it has none.

Rules are judged by the verdict's own code, one shard at a time, so memory holds a shard and the counts. Without their
columns, documents of each source are sampled (`flows.commands.rules_sample`); what is not learned yet (scores,
percentiles) is then null, and a rule over it drops nothing, which is said. A domain is what the labels say that it
would be learned from, and a `where` over what is not known judges every document. `text` is the one that the verdict
reads, or the source's where a sample does not have that. What was taken down is no document.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.amounts import plural
from data_specs.expressions import normalised, parse
from data_specs.groups import named
from data_specs.load import SpecError, unmatched
from data_specs.spec import Rule
from flows.commands import rules_sample
from flows.commands.query import plain
from tasks.arrays.addresses import true
from tasks.arrays.numbers import as_float
from tasks.decision import conditions
from tasks.decision.verdict import failing
from tasks.engine import job
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import StageError
from tasks.engine.takedowns import TAKEN_DOWN

ALL = "all"
GROUPS = ("source", "channel", "language")
BYTES_A_TOKEN = 4
"""Of UTF-8, where no tokenizer of the spec says how long a document is in tokens."""
TEXT = 200
"""Characters of an example's text."""
_NUMBER = r"\(?(-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?)\)?"
_COMPARED = re.compile(rf'\(("?)(\w+)\1 [<>]=? {_NUMBER}\)|\({_NUMBER} [<>]=? ("?)(\w+)\5\)')

Flags = NDArray[np.bool_]


@dataclass
class Judged:
    """What one rule did so far."""

    rule: Rule
    column: str | None
    """What the rule compares with a number first, and the number: how near an example is to being judged otherwise.
    None where it compares no column with one, as in `words / lines > 9`."""
    threshold: float
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """dropped, alone or first: group -> documents; and the same with `_tokens`."""
    examples: dict[bool, list[tuple[float, int, dict[str, Any]]]] = field(default_factory=lambda: {True: [], False: []})
    """Of dropped documents, and of others: (minus the distance, minus their order, the document), a heap."""
    met: int = 0
    """Documents that were examples at some time."""

    @classmethod
    def of(cls, rule: Rule) -> Judged:
        """Nothing judged yet."""
        for found in _COMPARED.finditer(normalised(rule.drop)):
            column, number = found[2] or found[6], found[3] or found[4]
            if column in parse(rule.drop).columns:  # and it is not written so in a text
                return cls(rule, column, float(number))
        return cls(rule, None, 0.0)

    def count(self, name: str, chosen: Flags, tokens: NDArray[np.int64], groups: dict[str, NDArray[Any]]) -> None:
        """Count some documents, all together and by group."""
        documents, sizes = (self.counts.setdefault(each, Counter()) for each in (name, f"{name}_tokens"))
        for key in np.unique(groups["key"][chosen]):
            within = chosen & (groups["key"] == key)
            for group in (ALL, *(str(groups[each][within][0]) for each in GROUPS)):
                documents[group] += int(within.sum())
                sizes[group] += int(tokens[within].sum())


@dataclass
class Answer:
    """Every rule, and how many documents and tokens were judged, by group."""

    sample: bool
    missing: list[str]
    """Columns that rules read, and percentiles that they ask for, and that are not known yet."""
    rules: list[Judged]
    shards: list[int]
    """Of how many shards documents are judged, and how many there are."""
    quarantined: int = 0
    """Shards that are quarantined before a verdict: no rule will judge their documents."""
    documents: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    """Of a sample that was read from sources: source -> reason -> records of which reading made no document."""
    unmatched: list[str] = field(default_factory=list)
    """What is said of texts that expressions of the spec compare with columns that are never that."""

    def nothing_of(self) -> list[str]:
        """What is said of sources that were read, and of which nothing is judged."""
        none = {name: found for name, found in self.left_out.items() if not self.documents[f"source {name}"]}
        return [
            f"source {name}: no document was made of {plural(found.total(), 'record that was', 'records that were')} "
            "read: " + ", ".join(f"{reason} {count:,}" for reason, count in found.most_common())
            for name, found in sorted(none.items())
        ]


def judge(pipeline: Pipeline, number: int, size: int, asked: str | None) -> Answer:
    """Judge by every rule; of the rule `asked`, or of all, `number` examples on each side. A sample is of `size`
    documents a source. Raises SpecError for a spec without rules or of none such, StageError where nothing can be
    read."""
    rules = conditions.rules(pipeline.spec, pipeline.pins)
    if not rules:
        raise SpecError(["rules: the spec has no rules"])
    if asked is not None and asked not in {rule.name for rule in rules}:
        raise SpecError([f"rules: {asked} is no rule; there are {', '.join(rule.name for rule in rules)}"])
    texts = [text for rule in rules for text in (rule.drop, rule.where) if text]
    read = sorted(frozenset[str]().union(*(parse(text).columns for text in texts)))
    judged_text = pipeline.spec.judged_text
    shown = ("id", "url", "file", "kind", "text", judged_text, "source", "language", "channel")
    emptied = pipeline.node("verdict").stage.emptied
    wanted = list(dict.fromkeys([*read, *shown, *emptied]))
    domains = {name for name, stage in pipeline.spec.stages.items() if getattr(stage, "labels", None)}
    known = all(
        pipeline.outputs[pipeline.provider[name]].index.done.any() for name in wanted if name in pipeline.provider
    )
    answer = Answer(not known, _unpinned(pipeline), [Judged.of(rule) for rule in rules], [0, len(pipeline.shards)])
    answer.unmatched = unmatched(pipeline.spec)
    lost = pipeline.unavailable(pipeline.node("verdict").writes)
    answer.quarantined = int(lost.sum())
    sampled = rules_sample.sampled(pipeline, wanted, size, answer.missing, answer.left_out)
    for found in _computed(pipeline, wanted, lost) if known else sampled:
        table = found.filter(pc.not_equal(found["kind"], TAKEN_DOWN))
        if judged_text not in answer.missing:  # else the text of the source stands for it
            table = table.set_column(table.column_names.index("text"), "text", table[judged_text])
        for judged in answer.rules:
            if _blind(judged.rule.where, {*answer.missing} - domains):
                judged.rule = judged.rule.model_copy(update={"where": None})
        textless = np.logical_or.reduce([np.zeros(len(table), bool), *(true(table[name]) for name in emptied)])
        _take(answer, table, read, number, asked, textless)
        answer.shards[0] += 1
    if not answer.documents[ALL]:
        why = "; ".join(answer.nothing_of()) or "`sluice run` reads the sources"
        raise StageError(f"rules: there is no document to judge; {why}")
    return answer


def _unpinned(pipeline: Pipeline) -> list[str]:
    """Percentiles that rules ask for and that are not known yet."""
    texts = [text for rule in pipeline.spec.rules for text in (rule.drop, rule.where) if text]
    return conditions.unpinned(texts, pipeline.pins)


def _blind(where: str | None, missing: set[str]) -> bool:
    """Whether an expression reads what is not known."""
    return where is not None and bool(parse(where).columns & missing)


def _computed(pipeline: Pipeline, wanted: list[str], lost: Flags) -> Iterator[pa.Table]:
    """The shards whose columns exist, without those that are lost."""
    size = [name for name in ("token_estimate",) if pipeline.outputs[name].index.done.any()]
    for place, files in pipeline.files([*wanted, *size]):
        if lost[place]:
            continue
        rows = int(pipeline.outputs["documents"].index.rows[place])
        recorded = pipeline.recorded(place, [*wanted, *size])
        ids = pipeline.outputs["documents"].index.digests["id"][place].tobytes().hex()
        yield job.read(pipeline.store, files, ids, rows, recorded)


def _take(answer: Answer, table: pa.Table, read: list[str], number: int, asked: str | None, textless: Flags) -> None:
    """Judge the documents of a table. `textless`: of whose text rewriting left nothing, for which that is the reason,
    and no rule the first."""
    if "token_estimate" in table.column_names:
        tokens = table["token_estimate"].to_numpy().astype(np.int64)
    else:
        tokens = pc.binary_length(table["text"].cast(pa.binary())).to_numpy().astype(np.int64) // BYTES_A_TOKEN
    groups = {
        each: np.array([f"{each} {named(value)}" for value in table[each].to_pylist()], object) for each in GROUPS
    }
    groups["key"] = np.array(["\0".join(row) for row in zip(*groups.values(), strict=True)], object)
    for key in np.unique(groups["key"]):
        within = groups["key"] == key
        for group in (ALL, *key.split("\0")):
            answer.documents[group] += int(within.sum())
            answer.tokens[group] += int(tokens[within].sum())
    fails = failing([each.rule for each in answer.rules], table)
    matrix = np.array(list(fails.values()))
    total, before = matrix.sum(axis=0), textless.copy()
    for judged, drops in zip(answer.rules, matrix, strict=True):
        judged.count("dropped", drops, tokens, groups)
        judged.count("alone", drops & (total == 1), tokens, groups)
        judged.count("first", drops & ~before, tokens, groups)
        before |= drops
        if asked in (None, judged.rule.name) and number:
            _examples(judged, drops, table, read, number)
    for key in np.unique(groups["key"][total > 0]):
        for group in (ALL, *key.split("\0")):
            answer.dropped[group] += int(((total > 0) & (groups["key"] == key)).sum())


def _examples(judged: Judged, drops: Flags, table: pa.Table, read: list[str], number: int) -> None:
    """Keep the documents nearest to the rule's threshold on each side, of those that it judges; where it has none, the
    first."""
    whole = judged.rule.model_copy(update={"drop": "true"})
    judges = failing([whole], table)[whole.name]
    if judged.column is not None and not pa.types.is_primitive(table[judged.column].type):
        judged.column = None
    if judged.column is None:
        distance = np.zeros(table.num_rows)
    else:
        distance = np.abs(as_float(table[judged.column]).to_numpy() - judged.threshold)
    named = parse(judged.rule.drop).columns
    for side, heap in judged.examples.items():
        near = np.flatnonzero((drops == side) & judges & ~np.isnan(distance))
        for row in near[np.argsort(distance[near], kind="stable")[:number]].tolist():
            if len(heap) == number and -distance[row] <= heap[0][0]:
                break
            values = {name: plain(table[name][row].as_py()) for name in read if name in named}
            shown = {name: plain(table[name][row].as_py()) for name in ("id", "url", "file")}
            judged.met += 1
            entry = (
                -float(distance[row]),
                -judged.met,
                shown | {"values": values, "text": _beginning(table["text"][row].as_py())},
            )
            (heapq.heappushpop if len(heap) == number else heapq.heappush)(heap, entry)


def _beginning(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]} ..."


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as JSON."""
    return {
        "sample": answer.sample,
        "shards": answer.shards,
        "quarantined": answer.quarantined,
        "unknown_columns": answer.missing,
        "unmatched": answer.unmatched,
        "left_out": {name: dict(found) for name, found in answer.left_out.items()},
        "documents": dict(answer.documents),
        "tokens": dict(answer.tokens),
        "dropped": dict(answer.dropped),
        "rules": [
            {
                "rule": judged.rule.name,
                "drop": judged.rule.drop,
                "where": judged.rule.where,
                "nearest_by": judged.column,
                **{name: dict(counts) for name, counts in judged.counts.items()},
                "dropped_examples": nearest(judged, True),
                "other_examples": nearest(judged, False),
            }
            for judged in answer.rules
        ],
    }


def nearest(judged: Judged, side: bool) -> list[dict[str, Any]]:
    """The examples of one side, the nearest first, where it is known how near they are."""
    return [document for _, _, document in sorted(judged.examples[side], key=lambda each: (-each[0], -each[1]))]
