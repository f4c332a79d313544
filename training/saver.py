"""Checkpoints written while training goes on: the loop waits for a copy of its state, a thread does the rest.

Each rank's thread writes its shard; that of rank 0 commits the list once the manifests of all are in the store. One
checkpoint is written at a time: where the next is due before it is done, the loop waits. What goes wrong in a thread
ends the training at the next save. What `checkpoint` guarantees does not change: without its list there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tasks.storage.store import Store
from training import checkpoint

State = Iterable[tuple[str, int, dict[str, np.ndarray]]]
"""What `engine.state` gives."""
POLLS = 0.02, 1.0
"""Seconds between two looks for the manifests of other ranks: at first, and after a while."""


class Saver:
    """One rank's."""

    def __init__(self, store: Store, run: str, rank: int, world: int) -> None:
        self.store, self.run, self.rank, self.world = store, run, rank, world
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.done: list[dict[str, Any]] = []

    def save(self, step: int, state: State, commit: Callable[[int], Any]) -> None:
        """Copy the state and begin to write it; rank 0 calls `commit(step)` once all have written. Raises what went
        wrong with the checkpoint before."""
        began = time.perf_counter()
        self.wait()
        copied = [(name, start, {kind: array.copy() for kind, array in parts.items()}) for name, start, parts in state]
        stall = time.perf_counter() - began
        self.thread = threading.Thread(target=self._write, args=(step, copied, commit, stall), daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Until what was begun is written. Raises what went wrong with it."""
        if self.thread:
            self.thread.join()
            self.thread = None
        if self.error:
            error, self.error = self.error, None
            raise error

    def written(self) -> list[dict[str, Any]]:
        """What is to be logged of checkpoints that were written since this was asked last: `step`, `stall` (seconds
        that the loop waited), `written` (seconds until it was committed), `bytes` (of this rank)."""
        found, self.done = self.done, []
        return found

    def _write(self, step: int, state: State, commit: Callable[[int], Any], stall: float) -> None:
        began = time.perf_counter()
        try:
            size = checkpoint.write_shard(self.store, self.run, step, self.rank, state)
            if self.rank == 0:
                self._await_others(step)
                commit(step)
            seconds = time.perf_counter() - began
            self.done = [*self.done, {"step": step, "stall": stall, "written": seconds, "bytes": size}]
        except Exception as error:  # raised in the loop
            self.error = error

    def _await_others(self, step: int) -> None:
        """Until the manifests of all ranks are there; where a rank ends instead, all end."""
        wanted = {f"{step:08d}.{rank:05d}.json" for rank in range(self.world)}
        first, last = POLLS
        began = time.monotonic()
        while wanted - self.store.list(checkpoint.folder(self.run)).keys():
            time.sleep(min(last, max(first, (time.monotonic() - began) / 10)))
