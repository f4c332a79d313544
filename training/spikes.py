"""Spikes: steps whose loss or gradient is far from those before them (Chowdhery et al. 2022, section 5.1, go back to a
checkpoint before one and on without its batch).

A step is held against the median of the steps before it, in median absolute deviations, which a few wild ones do not
move; a spike itself never enters them, nor do steps of another phase of the mixture, as other text or longer rows move
the loss for good. What is judged are values reduced over all ranks, and what is known of earlier steps comes from the
log. So every rank decides alike, and a resumed run as a straight one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from statistics import median
from typing import Any

from data_specs.amounts import plural
from data_specs.training import Spikes
from training import log
from training.rows import Cursor, Plan

ROBUST = 1.4826
"""Median absolute deviations of a normal distribution in its standard deviation."""
LEAST = 0.01
"""Of the median: what is taken for a standard deviation at least, as the losses of a constant batch have none."""


class DivergedError(RuntimeError):
    """A step is not to be taken, or to be taken back, and its rows are not to be read again."""


class NonFiniteError(DivergedError):
    """The loss or the norm of the gradient is not finite."""


class SpikeError(DivergedError):
    """The loss or the norm of the gradient is far from those of the steps before."""


class Watch:
    """What the last steps of a phase were like, oldest first: (loss, norm of the gradient) of each."""

    def __init__(
        self, settings: Spikes, warmup: int, before: Iterable[tuple[float, float]], left_out: int = 0, phase: int = 0
    ) -> None:
        """`before`: of steps of `phase`."""
        self.settings, self.warmup, self.phase = settings, warmup, phase
        self.before: deque[tuple[float, float]] = deque(before, settings.window)
        self.left_out = left_out
        """Steps in a row, the last ones, of which the update was left out."""

    def enter(self, phase: int) -> None:
        """A step of this phase follows."""
        if phase != self.phase:
            self.before.clear()
            self.phase = phase

    def add(self, loss: float, norm: float) -> None:
        """A step that was taken."""
        self.before.append((loss, norm))
        self.left_out = 0

    @property
    def leaves_out(self) -> bool:
        """Whether the update of a step that diverges is left out."""
        return self.settings.action == "skip" and self.left_out < self.settings.at_most

    def of_loss(self, loss: float, step: int) -> str | None:
        """Why the loss of a step of the plan (0-based) is a spike, above or below; None where it is not."""
        before = [each for each, _ in self.before]
        return self._away("loss", loss, before, step, self.settings.threshold, below=True)

    def of_norm(self, norm: float, step: int) -> str | None:
        """The same of the norm of its gradient, which may be small."""
        before, limit = [each for _, each in self.before], self.settings.norm_threshold
        return self._away("norm of the gradient", norm, before, step, limit, below=False)

    def _away(
        self, name: str, value: float, before: Sequence[float], step: int, threshold: float, below: bool
    ) -> str | None:
        if step < self.warmup or 2 * len(before) < self.settings.window:
            return None
        middle = median(before)
        deviation = max(ROBUST * median(abs(each - middle) for each in before), LEAST * abs(middle))
        limit, away = threshold * deviation, value - middle
        if away <= limit and (away >= -limit or not below):
            return None
        return (
            f"the {name} is {value:.4g}, and the median of the {plural(len(before), 'step')} before it {middle:.4g}: "
            f"more than {limit:.3g} away"
        )


def known(steps: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[float, float]], int]:
    """Of the records of steps what a watch that saw them has, and the phase that it is in: nothing of earlier phases,
    nor of steps whose update was left out, as they were spikes, or as gradients in fp16 were too large."""
    phase = steps[-1]["phase"] if steps else 0
    own = (record for record in steps if record["phase"] == phase and log.updated(record))
    return [(record["loss"], record["grad_norm"]) for record in own], phase


def left_out(steps: Sequence[Mapping[str, Any]]) -> int:
    """Of how many of the last steps, one after the other, the update was left out as they were spikes."""
    judged = (record for record in reversed(steps) if log.updated(record) or record.get("left_out"))
    return sum(1 for _ in takewhile(lambda record: record.get("left_out"), judged))


def rate(settings: Spikes | None, plan: Plan, cursor: Cursor) -> float:
    """What the learning rate is multiplied by at a place of the plan: `settings.rate` for so many steps behind rows
    that were skipped, however many lie there."""
    if settings is None or settings.rate == 1:
        return 1.0
    place = cursor.planned(plan)
    for phase, row, _ in cursor.skipped:
        behind = place - Cursor(phase=phase, row=row).planned(plan)
        if 0 < behind <= settings.steps:
            return settings.rate
    return 1.0
