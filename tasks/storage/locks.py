"""Locks of a store: one process alone in a folder, or any number of them together in the whole store.

On a file system a lock is of the kernel, so it is free when its process ends, however it ends. On an object store,
which has no locks, it is a lease (tasks/storage/lease.py), free a minute after its process was killed.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tasks.storage import lease
from tasks.storage.store import BusyError, DeniedError, Store

_POLL_SECONDS = 0.2
"""Seconds between two looks at a lock that another process has."""

log = logging.getLogger("sluice")


def alone(store: Store, folder: str = "", who: str = "", wait: bool = False) -> AbstractContextManager[None]:
    """One process at a time in a folder of the store. Where another is in it, raises BusyError, or says so and waits.
    `who` tells the others who is in it."""
    return _locked(store, folder, fcntl.LOCK_EX, who, wait)


def shared(store: Store) -> AbstractContextManager[None]:
    """Any number of processes in the store, but none that has it `alone`: its end is waited for, which is said. A store
    that may not be written needs no lock: nobody takes anything from it."""
    return _locked(store, "", fcntl.LOCK_SH, "", wait=True)


def _locked(store: Store, folder: str, kind: int, who: str, wait: bool) -> AbstractContextManager[None]:
    return (_file_locked if store.folder else _leased)(store, folder, kind, who, wait)


@contextmanager
def _leased(store: Store, folder: str, kind: int, who: str, wait: bool) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(lease.held(store, folder, who, kind == fcntl.LOCK_EX, wait))
        except DeniedError:
            if kind != fcntl.LOCK_SH:
                raise
        except lease.TakenError as other:
            raise BusyError(_busy(folder, other)) from None
        yield


@contextmanager
def _file_locked(store: Store, folder: str, kind: int, who: str, wait: bool) -> Iterator[None]:
    """The file `.lock` of a folder, locked."""
    path = f"{folder}/.lock".lstrip("/")
    target, file = Path(store.folder or "", path), None
    with ExitStack() as stack:
        with store.explained(path, "locked", missing=False):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(target, "a+"))
            except OSError as error:
                if kind != fcntl.LOCK_SH or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
            if file:
                _lock(file, folder or store.url, folder, kind, wait)
            if file and kind == fcntl.LOCK_EX:
                file.truncate(0)
                file.write(f"{who}, process {os.getpid()} on {socket.gethostname()}".lstrip(", "))
                file.flush()
        yield


def _lock(file: IO[str], shown: str, folder: str, kind: int, wait: bool) -> None:
    """Lock an open file. Raises BusyError where another has it, unless its end is to be waited for."""
    warned = False
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            file.seek(0)
            other = file.read(200) or "another process"
            if not wait:
                raise BusyError(_busy(folder, other)) from None
        if not warned:
            log.warning("%s: waiting for %s, which works there alone", shown, other)
            warned = True
        time.sleep(_POLL_SECONDS)


def _busy(folder: str, other: object) -> str:
    return f"{folder} is being written by {other}; wait for it, or stop it"
