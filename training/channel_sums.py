"""Channel losses over many steps: of all steps so far, and of a window of the last ones.

They are sums of what each step's record says, so that a step that is taken back takes its part with it: the sums of all
steps are in the checkpoint, and the window's come from the log.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

Sums = dict[str, dict[str, list[float]]]
"""Column of `training.loss_by`, or "" for the channels -> value -> sum of losses, targets; of those whose bytes are
known these, and the sum of their losses, which a checkpoint by an earlier version lacks."""
Means = dict[str, dict[str, dict[str, float]]]
"""Column -> value -> `loss`, `perplexity`, `bits_per_byte` (where the bytes of targets are known), `tokens`."""
WINDOW = 100
"""Steps."""


class ChannelSums:
    """What steps so far came to."""

    def __init__(self, state: Sums | None = None, recent: Iterable[Mapping[str, Any]] = ()) -> None:
        """`state`: of a checkpoint; `recent`: the records of the steps before it, oldest first, of which the last
        WINDOW are taken. Without a state they are all there were."""
        steps = [_of_step(record) for record in recent]
        self.total: Sums = state if state is not None else _added(steps)
        self.window = deque(steps, WINDOW)

    def add(self, record: Mapping[str, Any]) -> None:
        """A step that was taken, as the log says it."""
        step = _of_step(record)
        _add(self.total, step)
        self.window.append(step)

    def copy(self) -> Sums:
        """Those of all steps, as they are now."""
        return {column: {name: list(each) for name, each in of.items()} for column, of in self.total.items()}

    def record(self) -> dict[str, Any]:
        """What the log says of them: `window` of the last steps, `total` of all."""
        return {"window": means(_added(self.window)), "total": means(self.total), "steps": len(self.window)}


def means(sums: Sums) -> Means:
    """Mean losses of what has targets."""
    return {column: {name: _mean(*each) for name, each in values.items() if each[1]} for column, values in sums.items()}


def _mean(total: float, targets: float, spelled: float, nats: float = 0.0) -> dict[str, float]:
    loss = total / targets
    found = {"loss": loss, "perplexity": perplexity(loss), "tokens": targets}
    return found | ({"bits_per_byte": bits_per_byte(nats, spelled)} if spelled else {})


def bits_per_byte(nats: float, spelled: float) -> float:
    """Of a sum of losses, and the bytes of their targets."""
    return nats / spelled / math.log(2)


def perplexity(loss: float) -> float:
    """Of a loss in nats per token; that of a loss beyond the range of a float is infinite."""
    return math.exp(loss) if loss < 700 else math.inf


def _of_step(record: Mapping[str, Any]) -> Sums:
    spelled = record.get("bytes", {})
    found: Sums = {}
    for column, values in {"": record["channels"], **record.get("by", {})}.items():
        known = spelled.get(column, {})
        nats = {name: loss * tokens for name, (loss, tokens) in values.items() if loss is not None}
        found[column] = {
            name: [nats[name], tokens, known.get(name, 0), nats[name] if name in known else 0.0]
            if name in nats
            else [0.0, 0, 0, 0.0]  # no targets, or a loss that is not finite
            for name, (_, tokens) in values.items()
        }
    return found


def _added(steps: Iterable[Sums]) -> Sums:
    total: Sums = {}
    for step in steps:
        _add(total, step)
    return total


def _add(total: Sums, step: Sums) -> None:
    for column, values in step.items():
        into = total.setdefault(column, {})
        for name, each in values.items():
            into[name] = [a + b for a, b in zip_longest(into.get(name, ()), each, fillvalue=0)]
