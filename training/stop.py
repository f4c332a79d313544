"""Asking a training to end: the file `runs/<run>/stop`, written by the driver, or by anyone who wants it to end.

Rank 0 looks for it beside the steps, and writes into it that it has heard: who asked does not wait for one that is
stopped or hangs. All ranks then finish the step they are in, save a checkpoint of it and leave; rank 0 removes the
file, which says that there is nothing more to wait for. A file in the store reaches the ranks
wherever they run and whoever started them, also where they cannot hear the driver.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tasks.storage.store import Store, StoreError

POLL_SECONDS = 0.5
DEAF_SECONDS = 6.0
"""After which a rank that has not heard will not: the store may be slow."""
HEARD = b"heard"


def path(run: str) -> str:
    return f"runs/{run}/stop"


def ask(store: Store, run: str, seconds: float, ended: Callable[[float], bool]) -> None:
    """Ask, and wait until the training has obeyed, `ended(timeout)` is true, or the seconds are over; not for one that
    does not hear."""
    store.commit(path(run), b"")
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds and not ended(POLL_SECONDS / 2):
        try:
            heard = store.read(path(run)) == HEARD
        except FileNotFoundError:
            break
        if waited > DEAF_SECONDS and not heard:
            break
    store.remove(path(run))


class Request:
    """What rank 0 knows of a request. While the training would not save anything before it leaves (`saves`), as before
    its first step, a request is obeyed by doing nothing more."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.run = store, run
        self.saves = self.asked = False
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not (self.asked or self._over.wait(POLL_SECONDS)):
            with suppress(StoreError):  # looked for again
                if self.store.exists(path(self.run)):
                    self.store.commit(path(self.run), HEARD)
                    self.asked = True
        if self.asked and not self.saves:
            self.obeyed()

    def obeyed(self) -> None:
        """Say that what had to be saved is saved; look no more."""
        self._over.set()
        self.store.remove(path(self.run))

    def close(self) -> None:
        """Look no more."""
        self._over.set()
