"""The conditions of a spec in plain SQL: rules, gates of stages, phases and cells of the mixture, with the pinned
thresholds in the place of their percentiles."""

from __future__ import annotations

from collections.abc import Iterable

from data_specs import stages
from data_specs.augmentation import Augmentation
from data_specs.expressions import bind, parse, renamed
from data_specs.scoring import Scorer
from data_specs.spec import Rule, Spec
from tasks.decision.percentiles import PercentilesEstimator, Threshold, pin_of, thresholds
from tasks.storage.pins import Pins, fetched


def rules(spec: Spec, pins: Pins) -> tuple[Rule, ...]:
    """The spec's rules in plain SQL."""
    return tuple(
        rule.model_copy(update={"drop": bound(rule.drop, pins), "where": rule.where and bound(rule.where, pins)})
        for rule in spec.rules
    )


def gates(spec: Spec) -> dict[str, str]:
    """The `where` of each stage that has one, but for those that come after the verdict."""
    found = {}
    behind = Augmentation | stages.RepeatedLines | stages.RepeatedSpans
    for name, stage in spec.stages.items():
        if isinstance(stage, stages.Stage) and stage.where and not isinstance(stage, behind):
            text = stage.text or spec.judged_text
            found[name] = renamed(stage.where, {"text": text, **stage.reads})
    return found


def phase_conditions(spec: Spec, pins: Pins) -> dict[str, str]:
    """`where_<number>` -> the `where` of that phase of the mixture in plain SQL, of the phases that have one;
    `repeat_<number>` of the cells of `mixture.repeat`; and `repetitive`, of `mixture.repetitions`."""
    phases = {f"where_{number}": phase.where for number, phase in enumerate(spec.mixture.phases) if phase.where}
    phases |= {f"repeat_{number}": cell.where for number, cell in enumerate(spec.mixture.repeat)}
    if most := spec.mixture.repetitions:
        phases["repetitive"] = f"repeated_tokens >= {most}"
    return {name: bound(renamed(where, {"text": spec.text}), pins) for name, where in phases.items()}


def percentiles(spec: Spec) -> list[PercentilesEstimator]:
    """What is to be known of every column that rules, channels or phases ask a percentile of."""
    texts = [text for rule in spec.rules for text in (rule.drop, rule.where)]
    texts += [*spec.channels.values(), *(phase.where for phase in spec.mixture.phases)]
    texts += [cell.where for cell in spec.mixture.repeat]
    asked: dict[str, set[float]] = {}
    for column, p in asked_of(texts):
        asked.setdefault(column, set()).add(p)
    known = spec.of_kind(Scorer)
    default = known.get("quality", stages.Quality())
    return [
        PercentilesEstimator(known.get(column, default), spec.seed, column, ps) for column, ps in sorted(asked.items())
    ]


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


def unpinned(texts: Iterable[str], pins: Pins) -> list[str]:
    """The percentiles that expressions ask for and that are learned by nobody yet."""
    asked = sorted(asked_of(texts))
    return [f"percentile({column}, {p:g})" for column, p in asked if pins.get(pin_of(column)) is None]
