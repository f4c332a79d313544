"""Which tokens each channel gives to each phase, and what is said where a channel has too few.

What is said are numbers for the spec as they stand: with all epochs raised as told, or else weights or budget lowered
as told, the mixture is possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data_specs.spec import Spec
from tasks.planning.mixture import MixtureError, PhaseRows, Stream, Usage, largest_remainder, schedule, shares
from tasks.planning.packing import Documents

DIGITS = range(3, 16)
"""Significant digits of a weight that is told: as few as keep to what the channels have."""


def allot(
    spec: Spec, phases: Sequence[PhaseRows], train: Mapping[str, Documents]
) -> tuple[dict[str, Usage], list[dict[str, Stream]]]:
    """Every channel's usage counts after the run, and its stream per phase. Raises MixtureError, with a line for each
    channel that has too few tokens."""
    demand = Demand(spec, tuple(phases), train)
    usages = demand.unused()
    streams: list[dict[str, Stream]] = [{} for _ in phases]
    lacking = {}
    for name, usage in usages.items():
        for number, needed in demand.needs(name):
            mask = demand.passing(name, number)
            if usage.available(mask) < needed:
                lacking[name] = number, usage
                break
            streams[number][name] = usage.take(mask, needed)
    if lacking:
        raise MixtureError(demand.told(lacking))
    return usages, streams


@dataclass(frozen=True)
class Demand:
    """What the phases ask of the documents there are to train on."""

    spec: Spec
    phases: tuple[PhaseRows, ...]
    train: Mapping[str, Documents]

    def unused(self) -> dict[str, Usage]:
        cap, seed = self.spec.mixture.cap, self.spec.seed
        return {name: Usage(found.length, found.hash, cap(name), seed) for name, found in self.train.items()}

    def passing(self, name: str, number: int) -> np.ndarray:
        return self.train[name].passing(number, self.phases[number])

    def needs(self, name: str, first: int = 0) -> list[tuple[int, int]]:
        """(phase, tokens that the channel's rows are cut from) for each phase, from `first` on, that has such rows."""
        rows = [(number, phase.rows.get(name, 0)) for number, phase in enumerate(self.phases)]
        return [(number, count * self.spec.training.sequence + 1) for number, count in rows[first:] if count]

    def told(self, lacking: Mapping[str, tuple[int, Usage]]) -> str:
        """What is lacking, and what would help. `lacking`: channel -> the first phase for which it has too few tokens,
        and its usage until then."""
        lines = [self._lack(name, number, usage) for name, (number, usage) in lacking.items()]
        epochs = [self._epochs(name, number, usage) for name, (number, usage) in lacking.items()]
        less = self._less([(name, number) for name, (number, _) in lacking.items()])
        more = [f"raise mixture.epochs.{n} to {math.ceil(e)}" for n, e in zip(lacking, epochs, strict=True) if e]
        if len(more) < len(lines):  # epochs alone cannot help
            more, less = [], less or "find more documents, or leave the channel out"
        if len(lines) == 1:
            return f"{lines[0]}; {', or '.join([*more, *([less] if less else [])])}"
        if more:
            lines = [f"{line}; {raised}" for line, raised in zip(lines, more, strict=True)]
        if less:
            lines.append(f"mixture: {'or, without more epochs, ' if more else ''}{less}")
        return "\n".join(lines)

    def _lack(self, name: str, number: int, usage: Usage) -> str:
        phase, needed = self.phases[number], self.needs(name, number)[0][1]
        weight = float(f"{phase.written.get(name, phase.weights[name]):.3g}")
        has = max(usage.available(self.passing(name, number)), 0)
        place = f" in phase {number + 1}" if len(self.phases) > 1 else ""
        place += f" where {phase.where}" if phase.where else ""
        return (
            f"mixture: {name} needs {needed:,} tokens at weight {_decimal(weight)} but has {has:,} under "
            f"{usage.cap:g} epochs{place}"
        )

    def _epochs(self, name: str, first: int, usage: Usage) -> Fraction | None:
        """The fewest epochs that are enough from phase `first` on; None where a phase has no document of the channel.
        The usage is then that after the last phase."""
        most = Fraction(0)
        for number, needed in self.needs(name, first):
            mask = self.passing(name, number)
            once = usage.tokens(mask)
            if not once:
                return None
            most = max(most, Fraction(usage.taken(mask) + needed, once))
            usage.skip(mask, needed)
        return most

    def _less(self, lacking: Sequence[tuple[str, int]]) -> str | None:
        """The weights to lower or, where that cannot help, the budget; None where neither does."""
        changes = self._lowered()
        if changes is None:
            steps = self._budget()
            if steps is None:
                return None
            tokens = f"mixture.tokens to {steps * self.spec.training.batch.tokens:,} ({steps:,} steps)"
            return f"lower {f'training.steps to {steps}' if self.spec.training.steps else tokens}"
        if [(name, number) for number, found in enumerate(changes) for name in found] == lacking[:1] == lacking:
            [weight] = changes[lacking[0][1]].values()
            return f"lower the weight to {_decimal(weight)}" if weight else "leave it out of the weights"
        told = [", ".join(f"{name} {_decimal(weight)}" for name, weight in found.items()) for found in changes]
        if len(told) > 1:
            told = [f"{found} in phase {number}" for number, found in enumerate(told, 1) if found]
        return f"lower the weights to {' and '.join(told)}"

    def _lowered(self) -> list[dict[str, float]] | None:
        """Per phase the weights that have to be lowered, so that in order each phase has enough; None where that cannot
        be, as no other channel could take the place."""
        usages, changes = self.unused(), []
        for number, phase in enumerate(self.phases):
            masks = {name: self.passing(name, number) for name in phase.rows}
            sequence = self.spec.training.sequence
            fits = {name: max(usages[name].available(mask) - 1, 0) // sequence for name, mask in masks.items()}
            weights = lowered(phase.written, fits, sum(phase.rows.values()), list(self.spec.channels))
            if weights is None:
                return None
            changes.append({name: weight for name, weight in weights.items() if weight != phase.written[name]})
            rows = largest_remainder(shares(weights, self.spec.channels), sum(phase.rows.values()))
            for name, count in rows.items():
                if count:
                    usages[name].skip(masks[name], count * sequence + 1)
        return changes

    def _budget(self) -> int | None:
        """The most steps, to 1 %, for which every channel has enough; None where there are none."""
        sizes = {name: int(found.length.sum(dtype=np.int64)) for name, found in self.train.items()}
        found, low, high = None, 0, sum(phase.steps for phase in self.phases)
        while high - low > max(1, low // 100):
            steps = (low + high) // 2
            training = self.spec.training.model_copy(update={"steps": steps})
            try:
                phases = schedule(self.spec.model_copy(update={"training": training}), sizes)
            except MixtureError:  # too few for every phase to have one
                low = steps
                continue
            if Demand(self.spec, phases, self.train).met():
                found = low = steps
            else:
                high = steps
        return found

    def met(self) -> bool:
        """Whether every channel has enough."""
        for name, usage in self.unused().items():
            epochs = self._epochs(name, 0, usage)
            if epochs is None or epochs > usage.cap:
                return False
        return True


def lowered(
    written: Mapping[str, float], fits: Mapping[str, int], rows: int, channels: Sequence[str]
) -> dict[str, float] | None:
    """Weights of a phase of `rows` rows under which no channel has more than `fits`: those that would are lowered, as
    little as may be, the others are as `written`. None where no channel is left to take more."""
    for digits in DIGITS if written else ():
        weights, low = dict(written), set[str]()
        while lacking := {
            n for n, count in largest_remainder(shares(weights, channels), rows).items() if count > fits[n]
        }:
            left = rows - sum(fits[name] for name in low | lacking)
            if lacking <= low or left <= 0:
                break
            low |= lacking
            rest = sum(weight for name, weight in written.items() if name not in low)
            if not rest:
                return None
            weights |= {name: _floor(fits[name] * rest / left, digits) for name in low}
        else:
            return weights
    return None


def _floor(value: float, digits: int) -> float:
    """A number cut to so many significant digits."""
    if not value:
        return 0.0
    place = digits - 1 - math.floor(math.log10(value))
    return math.floor(value * 10.0**place) / 10.0**place


def _decimal(value: float) -> str:
    """Every digit, without an exponent: .10, .035, 1.00, .000000001, 0."""
    whole, _, digits = np.format_float_positional(value, trim="-").partition(".")
    return f"{whole.lstrip('0')}.{digits:0<2}" if value else "0"
