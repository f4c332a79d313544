"""The registry: the readers of a spec's sources, and the stages it asks for, in the order that their columns ask for.

Adding a stage is one module and one line here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pyarrow as pa

from data_specs.expressions import bind, parse
from data_specs.load import SpecError, check_columns
from data_specs.spec import Rule, Spec
from tasks.decision.channel import Channel
from tasks.decision.held_out import HeldOut, HeldOutColumn
from tasks.decision.percentiles import PercentilesLearned, Threshold, pin_of, thresholds
from tasks.decision.verdict import Verdict
from tasks.dedup.duplicates import Alike, Candidates, Clusters, Exact
from tasks.engine.sql import mistaken
from tasks.engine.stage import DOCUMENTS, CorpusStage, Learned, Node, Stage, ordered
from tasks.filters.language import Language
from tasks.filters.signals import Signals
from tasks.scoring.domain import Domain, DomainLearned
from tasks.scoring.quality import Quality, QualityLearned
from tasks.sources import Reader, reader
from tasks.storage.pins import Pins, fetched
from tasks.tokenization.tokenizer import TokenizerLearned, provided
from tasks.tokenization.tokens import TokenEstimate, Tokens


def readers(spec: Spec) -> dict[str, Reader]:
    """The reader of each source of a spec, by the source's name."""
    return {name: reader(name, source, spec.stages.extract) for name, source in spec.sources.items()}


def nodes(spec: Spec, pins: Pins) -> list[Node]:
    """The stages of a spec, with what is pinned. Raises SpecError where an expression reads a column that no stage
    writes, or one that comes of what it decides, or is neither true nor false."""
    stages, seed = spec.stages, spec.seed

    def node(stage: Stage | CorpusStage, *needs: str) -> Node:
        return Node(stage.name, stage, needs, all(pins.get(name) for name in needs))

    def learn(learned: Learned, *models: str) -> Node:
        learned.models = {name: pin["sha256"] for name in models if (pin := pins.get(name))}
        return Node(f"learn_{learned.name}", learned)

    found = [
        learn(HeldOut(spec.training.evaluate, seed)),
        node(HeldOutColumn(pins.files("held_out")), "held_out"),
        node(Language(stages.language)),
        node(Signals(stages.signals)),
    ]
    if stages.domain.labels:
        found += [
            learn(DomainLearned(stages.domain, seed), "held_out"),
            node(Domain(stages.domain, pins.files("domain")), "domain"),
        ]
    if stages.quality.reference:
        found += [
            learn(QualityLearned(stages.quality, seed), "held_out"),
            node(Quality(stages.quality, pins.files("quality")), "quality"),
        ]
    found += [node(stage(stages.duplicates)) for stage in (Exact, Candidates, Alike, Clusters)]
    channels = {name: bound(text, pins) for name, text in spec.channels.items()}
    keep = tuple(name for name in stages.duplicates.keep if name != "quality" or stages.quality.reference)
    pinned = pins.get("tokenizer")
    file = provided(spec.tokenizer.path) if spec.tokenizer.path is not None and not pinned else None
    facts = pinned["facts"] if pinned else {}
    found += [
        node(Channel(channels), *thresholds_of(spec.channels.values())),
        node(
            Verdict(rules(spec, pins), keep, stages.duplicates.partitions, gates(spec)),
            *thresholds_of(text for rule in spec.rules for text in (rule.drop, rule.where)),
        ),
        learn(TokenizerLearned(spec.tokenizer, seed, weights(spec), file), "held_out"),
        node(Tokens(spec.tokenizer, pins.files("tokenizer"), facts.get("size")), "tokenizer"),
        node(TokenEstimate(facts.get("compression", {})), "tokenizer"),
    ]
    check_columns(spec, partial(mistaken, columns=columns(found)))
    scorers = {column: each.pins for each in found for column in each.writes}
    found += [learn(each, "held_out", *scorers.get(each.column, ())) for each in percentiles(spec)]
    try:
        return ordered(found)
    except ValueError as error:
        raise SpecError([f"{spec.name}: {error}"]) from None


def columns(found: Iterable[Node]) -> pa.Schema:
    """Every column of documents and stages."""
    written = {field.name: field for node in found if node.writes for field in node.stage.writes}
    return pa.schema([*DOCUMENTS, *written.values()])


def percentiles(spec: Spec) -> list[PercentilesLearned]:
    """What is to be known of every column that rules, channels or phases ask a percentile of."""
    texts = [text for rule in spec.rules for text in (rule.drop, rule.where)]
    texts += [*spec.channels.values(), *(phase.where for phase in spec.mixture.phases)]
    asked: dict[str, set[float]] = {}
    for column, p in asked_of(texts):
        asked.setdefault(column, set()).add(p)
    return [PercentilesLearned(spec.stages.quality, spec.seed, column, ps) for column, ps in sorted(asked.items())]


def asked_of(texts: Iterable[str | None]) -> set[Threshold]:
    """(column, percentile) of every `percentile(...)` in some expressions."""
    return {threshold for text in texts if text for threshold in parse(text).percentiles}


def thresholds_of(texts: Iterable[str | None]) -> list[str]:
    """Names of the pins that some expressions need."""
    return sorted({pin_of(column) for column, _ in asked_of(texts)})


def bound(text: str, pins: Pins) -> str:
    """An expression with the pinned thresholds in the place of its percentiles; NULL where there is no pin yet."""
    asked = asked_of([text])
    known: dict[Threshold, float | dict[str, float]] = {threshold: {} for threshold in asked}
    for column in sorted({column for column, _ in asked}):
        if pin := pins.get(pin_of(column)):
            known |= thresholds(column, fetched(pins.store, pin["path"], pin["sha256"]).read_bytes())
    return bind(text, known) if asked else text


def phase_conditions(spec: Spec, pins: Pins) -> dict[str, str]:
    """`where_<number>` -> the `where` of that phase of the mixture in plain SQL; of the phases that have one."""
    phases = enumerate(spec.mixture.phases)
    return {f"where_{number}": bound(phase.where, pins) for number, phase in phases if phase.where}


def rules(spec: Spec, pins: Pins) -> tuple[Rule, ...]:
    """The spec's rules in plain SQL."""
    return tuple(
        rule.model_copy(update={"drop": bound(rule.drop, pins), "where": rule.where and bound(rule.where, pins)})
        for rule in spec.rules
    )


def gates(spec: Spec) -> dict[str, str]:
    """The `where` of each stage that has one."""
    settings = {name: getattr(spec.stages, name) for name in ("signals", "domain", "quality", "duplicates")}
    return {name: each.where for name, each in settings.items() if each.where}


def weights(spec: Spec) -> dict[str, float]:
    """Weight of each channel over the whole run: its phases' weights by their length; empty without phases."""
    result: dict[str, float] = {}
    begin = 0.0
    for phase in spec.mixture.phases:
        total = sum(phase.weights.values())
        for name, weight in phase.weights.items():
            result[name] = result.get(name, 0.0) + weight / total * (phase.until - begin)
        begin = phase.until
    return result
