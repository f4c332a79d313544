"""Leases: locks for stores that have none, made of conditional PUTs.

Whoever wants a folder alone creates `leases/<folder>/alone-000001.json`, or the next number; of any number of processes
one does. It renews what it wrote until it lets go; a lease that was let go, or not renewed for `TTL` seconds, is free,
and the next one that wants it takes the number after it. Whoever shares a folder with others creates a file of its own,
and waits while one has it alone. Both write first and look then, so one of two sees the other. A process that was
killed is forgotten after `TTL` seconds. How long ago one was renewed is told by the store's clock, so that machines'
clocks may be wrong; of a store that does not tell when a file was written, by these, which may differ by half as much.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tasks.storage.checksums import sealed
from tasks.storage.store import Store

TTL = 60.0
"""Seconds after which a lease that is not renewed is free."""
_POLL_SECONDS = 1.0
_CLOCK = "clock.json"
"""File of a folder that is written to ask for the store's time."""

log = logging.getLogger("sluice")


class TakenError(Exception):
    """Another process has the lease; the message says which."""


@contextmanager
def held(store: Store, folder: str, who: str, alone: bool, wait: bool) -> Iterator[None]:
    """A lease of a folder while the block runs, `alone` or with others that share it. Raises TakenError where another
    has it, unless its end is to be waited for."""
    lease = _Lease(store, f"leases/{folder or 'store'}", who, alone)
    warned = False
    while other := lease.taken_by():
        if not wait:
            raise TakenError(other)
        if not warned:
            log.warning("%s: waiting for %s", folder or store.url, other)
            warned = True
        time.sleep(_POLL_SECONDS)
    renewing = threading.Thread(target=lease.renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        lease.ended.set()
        renewing.join()
        try:
            lease.release()
        except Exception as error:  # what was done stays done
            log.warning("the lease %s could not be let go, and is free in %.0f s: %s", lease.path, TTL, error)


class _Lease:
    """One process's claim on a folder."""

    def __init__(self, store: Store, folder: str, who: str, alone: bool) -> None:
        self.store, self.folder, self.alone = store, folder, alone
        self.who = f"{who}, process {os.getpid()} on {socket.gethostname()}".lstrip(", ")
        self.path = ""
        self.ended = threading.Event()
        self._ahead: float | None = None
        """Seconds by which the store's clock is ahead of this process's `time.monotonic`, once it was asked."""

    def taken_by(self) -> str:
        """Claim the folder; who else has it, and then it is not claimed, or "" """
        if self.alone:
            newest, living = self._newest()
            if living:
                return living
            path = f"{self.folder}/alone-{newest + 1:06d}.json"
            if not self.store.create(path, self._content(path)):
                return "another process"
            self.path = path
            self.store.remove(*(f"{self.folder}/{name}" for name in self._names("alone-") if _number(name) <= newest))
            sharing = {name: self._living(name) for name in self._names("shared-")}
            self.store.remove(*(f"{self.folder}/{name}" for name, who in sharing.items() if not who))
            other = next(filter(None, sharing.values()), "")
        else:
            self.path = f"{self.folder}/shared-{secrets.token_hex(8)}.json"
            self.store.create(self.path, self._content(self.path))
            _, other = self._newest()
        if other:
            self.release()
        return other

    def renew(self) -> None:
        """Until the lease is let go, write that it is held."""
        while not self.ended.wait(TTL / 4):
            try:
                if self.alone and self._newest()[0] > _number(self.path.rpartition("/")[2]):
                    return log.error("%s was taken over, as it was not renewed for %.0f s", self.path, TTL)
                self.store.commit(self.path, self._content(self.path))
            except Exception as error:  # the next time it may be written again
                log.warning("the lease %s could not be renewed: %s", self.path, error)

    def release(self) -> None:
        """Let go. Of those that had it alone a file stays, so that numbers grow."""
        if not self.alone:
            self.store.remove(self.path)
        elif self._newest()[0] == _number(self.path.rpartition("/")[2]):
            self.store.commit(self.path, self._content(self.path, ended=True))

    def _content(self, path: str, ended: bool = False) -> bytes:
        return sealed({"who": self.who, "time": time.time(), "ended": ended}, path)

    def _names(self, kind: str) -> list[str]:
        return [name for name in self.store.list(self.folder) if name.startswith(kind)]

    def _newest(self) -> tuple[int, str]:
        """The number of the newest lease of one process alone, and who it is of, where that one has it."""
        names = self._names("alone-")
        return (_number(names[-1]), self._living(names[-1])) if names else (0, "")

    def _living(self, name: str) -> str:
        """Who a lease is of; "" where it was let go, or its process is taken for dead."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = self.store.json(f"{self.folder}/{name}")
            if not found["ended"] and self._age(name, found) < TTL:
                return str(found["who"])
        return ""

    def _age(self, name: str, found: dict[str, Any]) -> float:
        """Seconds since a lease was written. Raises FileNotFoundError."""
        written = self.store.written_at(f"{self.folder}/{name}")
        if written is None:
            return time.time() - float(found["time"])
        if self._ahead is None:
            self.store.commit(f"{self.folder}/{_CLOCK}", sealed({}, f"{self.folder}/{_CLOCK}"))
            now = self.store.written_at(f"{self.folder}/{_CLOCK}")
            assert now is not None  # it told of the other file
            self._ahead = now - time.monotonic()
        return time.monotonic() + self._ahead - written


def _number(name: str) -> int:
    return int(name.removeprefix("alone-").removesuffix(".json"))
