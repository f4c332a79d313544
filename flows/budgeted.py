"""A spec with the thresholds that were chosen by its budget (flows/budget.py), once a run has pinned them.

They are what `sluice plan` says to set, and are set as by `--set`, before what is: so that holds which is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from data_specs.load import load
from data_specs.spec import Spec
from flows import parameters
from tasks.storage.pins import Pin, Pins
from tasks.storage.store import Store

PIN = "budget"
"""The pin: `value` are the settings, `tokens` the budget, `left` what they leave of version `version`."""


def loaded(path: str, settings: Sequence[str], retrain: Collection[str] = ()) -> Spec:
    """The spec of a file, with what is pinned for its budget unless that is to be chosen anew, and with settings.
    Raises SpecError."""
    given = [parameters.whole(each) for each in settings]
    spec = load(path, given)
    if not applies(spec) or PIN in retrain:
        return spec
    pin = pinned(Pins(Store(spec.store), spec.name))
    return load(path, [*pin["value"], *given]) if pin else spec


def applies(spec: Spec) -> bool:
    """Whether runs take the thresholds that are chosen by a budget."""
    return spec.budget is not None and spec.budget.apply


def pinned(pins: Pins) -> Pin | None:
    """What was chosen; None where nothing was yet, or it is to be chosen anew."""
    return pins.get(PIN)
