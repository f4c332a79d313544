"""A spec with the thresholds that were chosen by its budget (flows/commands/budget.py), once a run has pinned them.

They are what `sluice plan` says to set, and are set as by `--set`, before what is: so that holds which is given. Of a
rule its percentile alone is: what else it says is as the spec has it now. Another budget, or a percentile of another
column, is one for which nothing was chosen yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence

from data_specs.expressions import parse
from data_specs.load import load
from data_specs.spec import Spec
from flows import parameters
from tasks.storage.pins import Pin, Pins
from tasks.storage.store import Store

PIN = "budget"
"""The pin: `value` are the settings, `tokens` the budget, `left` what they leave of version `version`."""
_PERCENTILE = re.compile(r"(percentile\s*\([^,()]+,)[^,()]+(\))", re.IGNORECASE)


def loaded(path: str, settings: Sequence[str], retrain: Collection[str] = ()) -> Spec:
    """The spec of a file, with what is pinned for its budget unless that is to be chosen anew, and with settings.
    Raises SpecError."""
    given = [parameters.whole(each) for each in settings]
    spec = load(path, given)
    if not applies(spec) or PIN in retrain:
        return spec
    pin = pinned(Pins(Store(spec.store), spec.name), spec)
    return load(path, [*_settings(pin, spec), *given]) if pin else spec


def applies(spec: Spec) -> bool:
    """Whether runs take the thresholds that are chosen by a budget."""
    return spec.budget is not None and spec.budget.apply


def pinned(pins: Pins, spec: Spec) -> Pin | None:
    """What was chosen by a spec's budget; None where nothing was yet, or it is to be chosen anew."""
    pin, budget = pins.get(PIN), spec.budget
    if pin is None or budget is None or pin["tokens"] != budget.tokens:
        return None
    asked = {} if budget.rule is None else {budget.rule: _column(_drop(spec, budget.rule))}
    return pin if {name: _column(text) for name, text in _rules(pin)} == asked else None


def with_percentile(drop: str, percentile: float) -> str:
    """An expression with another percentile."""
    return _PERCENTILE.sub(rf"\g<1> {percentile}\2", drop)


def _settings(pin: Pin, spec: Spec) -> Iterator[str]:
    """What a pin says to set in the spec that it holds for."""
    yield from (each for each in pin["value"] if not each.startswith("rules."))
    for name, text in _rules(pin):
        [(_, percentile)] = parse(text).percentiles
        yield f"rules.{name}={json.dumps(with_percentile(_drop(spec, name), percentile), ensure_ascii=False)}"


def _rules(pin: Pin) -> Iterator[tuple[str, str]]:
    """The rules that a pin says to set, by name."""
    for each in pin["value"]:
        name, _, text = each.partition("=")
        if name.startswith("rules."):
            yield name.removeprefix("rules."), text


def _drop(spec: Spec, name: str) -> str:
    [rule] = [each for each in spec.rules if each.name == name]
    return rule.drop


def _column(text: str) -> str:
    """The column whose percentile a rule asks for."""
    [(column, _)] = parse(text).percentiles
    return column
