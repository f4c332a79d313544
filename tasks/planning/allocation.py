"""Which tokens each channel gives to each phase, and the advice where a channel has too few.

The advice are numbers for the spec as they stand: with all epochs raised as it says, or else weights or budget lowered
as it says, the mixture is possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data_specs.amounts import plural
from data_specs.spec import Spec
from tasks.planning.mixture import MixtureError, PhaseRows, Stream, Usage, largest_remainder, schedule, shares
from tasks.planning.packing import Documents

DIGITS = range(3, 16)
"""Significant digits of a weight in the advice: as few as keep to what the channels have."""


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
            stream, curriculum = usage.read(mask, needed), phases[number].shape.order
            streams[number][name] = stream.ordered(train[name].order[number], curriculum) if curriculum else stream
    if lacking:
        raise MixtureError(demand.advice(lacking))
    return usages, streams


@dataclass(frozen=True)
class Demand:
    """What the phases ask of the documents there are to train on."""

    spec: Spec
    phases: tuple[PhaseRows, ...]
    train: Mapping[str, Documents]

    def unused(self) -> dict[str, Usage]:
        cap, seed = self.spec.mixture.cap, self.spec.seed
        return {
            name: Usage(found.length, found.hash, cap(name), seed, found.seen) for name, found in self.train.items()
        }

    def passing(self, name: str, number: int) -> np.ndarray:
        return self.train[name].passing(number, self.phases[number])

    def needs(self, name: str, first: int = 0) -> list[tuple[int, int]]:
        """(phase, tokens that the channel's rows are cut from) for each phase, from `first` on, that has such rows."""
        rows = [(number, phase.rows.get(name, 0)) for number, phase in enumerate(self.phases)]
        return [(number, self.phases[number].row.tokens(count)) for number, count in rows[first:] if count]

    def advice(self, lacking: Mapping[str, tuple[int, Usage]]) -> str:
        """What is lacking, and what would help. `lacking`: channel -> the first phase for which it has too few tokens,
        and its usage until then."""
        lines = [self._lack(name, number, usage) for name, (number, usage) in lacking.items()]
        epochs = [self._epochs(name, number, usage) for name, (number, usage) in lacking.items()]
        less = self._lower([(name, number) for name, (number, _) in lacking.items()])
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
            f"mixture: {name} needs {plural(needed, 'token')} at weight {_decimal(weight)} but has {has:,} under "
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

    def _lower(self, lacking: list[tuple[str, int]]) -> str | None:
        """The weights to lower or, where that cannot help, the budget; None where neither does."""
        weights = self._lowered()
        if weights is None:
            return self._lower_budget()
        changed = [(name, number) for number, found in enumerate(weights) for name in found]
        if len(lacking) == 1 and changed == lacking:
            [(name, number)] = lacking
            weight = weights[number][name]
            return f"lower the weight to {_decimal(weight)}" if weight else "leave it out of the weights"
        lines = [", ".join(f"{name} {_decimal(weight)}" for name, weight in found.items()) for found in weights]
        if len(lines) > 1:
            lines = [f"{line} in phase {number}" for number, line in enumerate(lines, 1) if line]
        return f"lower the weights to {' and '.join(lines)}"

    def _lower_budget(self) -> str | None:
        """The budget to lower, as the spec gives it: in steps or in tokens."""
        steps = self._budget()
        if steps is None:
            return None
        if self.spec.training.steps:
            return f"lower training.steps to {steps}"
        return f"lower mixture.tokens to {steps * self.spec.training.batch.tokens:,} ({plural(steps, 'step')})"

    def _lowered(self) -> list[dict[str, float]] | None:
        """Per phase the weights that have to be lowered, so that in order each phase has enough; None where that cannot
        be, as no other channel could take the place."""
        usages, changes = self.unused(), []
        for number, phase in enumerate(self.phases):
            masks = {name: self.passing(name, number) for name in phase.rows}
            fits = {name: phase.row.rows(usages[name].available(mask)) for name, mask in masks.items()}
            weights = lowered(phase.written, fits, sum(phase.rows.values()), list(self.spec.mixed))
            if weights is None:
                return None
            changes.append({name: weight for name, weight in weights.items() if weight != phase.written[name]})
            rows = largest_remainder(shares(weights, self.spec.mixed), sum(phase.rows.values()))
            for name, count in rows.items():
                if count:
                    usages[name].skip(masks[name], phase.row.tokens(count))
        return changes

    def _budget(self) -> int | None:
        """The most steps, to 1 %, for which every channel has enough; None where there are none."""
        sizes = {name: int(found.length.sum(dtype=np.int64)) for name, found in self.train.items()}
        found, low, high = None, 0, self.spec.base_steps
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
        weights = _lowered_to(digits, written, fits, rows, channels)
        if weights is not None:
            return weights
    return None


def _lowered_to(
    digits: int, written: Mapping[str, float], fits: Mapping[str, int], rows: int, channels: Sequence[str]
) -> dict[str, float] | None:
    """The same, with weights of so many digits; None where they are too few.

    Of 100 rows at zh .5, en .4, code .1, where zh fits into 20: the other two share 80 rows at a weight of .5 together,
    so zh is lowered to 20/80 of that, .125, and has 20 of the rows. Then en has 64: where it fits into 60, both are
    lowered, to 20/20 and 60/20 of code's .1, and so on until every channel fits."""
    weights, low = dict(written), set[str]()
    while True:
        given = largest_remainder(shares(weights, channels), rows)
        over = {name for name, count in given.items() if count > fits[name]}
        if not over:
            return weights
        if over <= low:  # by a cut-off digit
            return None
        low |= over
        left = rows - sum(fits[name] for name in low)
        rest = sum(weight for name, weight in written.items() if name not in low)
        if left <= 0 or not rest:
            return None
        weights |= {name: _floor(fits[name] * rest / left, digits) for name in low}


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
