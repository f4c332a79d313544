"""Opening ahead what a training reads: where a store is far away, no step waits for a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tasks.storage.store import StoreError
from training.rows import Cursor, Plan, PlanError, Rows

AHEAD = 32
"""Steps for which the files that they read are opened ahead."""


@contextmanager
def opening(
    phases: Sequence[Rows],
    plan: Plan,
    cursor: Callable[[], Cursor],
    rank: int,
    world: int,
    micro_rows: Callable[[int], int],
) -> Iterator[None]:
    """While the block runs, a thread opens, and so verifies, what this rank's next steps read, from where `cursor`
    stands. What is damaged, the step that needs it raises. `micro_rows`: of a micro-batch of rows of so many
    positions."""
    ended = threading.Event()

    def open_ahead() -> None:
        place = cursor().seek(plan)
        with suppress(StoreError, PlanError):
            while place:
                while place.step > cursor().step + AHEAD:
                    if ended.wait(0.1):
                        return
                phase = plan.phases[place.phase]
                end, micro = place.row + phase.rows_per_step, micro_rows(phase.sequence)
                for first in range(place.row + rank * micro, end, micro * world):
                    phases[place.phase].open(first, micro)
                place = place.after(plan).seek(plan)

    threading.Thread(target=open_ahead, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
