"""What is changed inside Ray 2.60.0: what it does on SIGTERM, where a local one listens, and warnings that say nothing.

A test fails where Ray has another version or other insides than these changes were made for.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType

VERSION = "2.60.0"


def apply(ray: ModuleType) -> None:
    """Change Ray for this process, before it is started. Its own handler of SIGTERM would exit at once; ours and
    Prefect's end a run in order. That it has made itself a token is no warning."""
    ray._private.utils.set_sigterm_handler = lambda _: None
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def take_back_sigterm() -> None:
    """After Ray was started: its C++ part has put a handler of its own in the place of Python's, which dies of it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


@contextmanager
def local(ray: ModuleType) -> Iterator[None]:
    """While the block starts a Ray on this machine alone: its address is loopback, as it is elsewhere than on Linux,
    and its processes have sessions of their own, so that what ends a terminal's or a container's processes reaches
    them through us alone. That a thread starts it is no warning."""
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    constants, services = vars(ray._private.ray_constants), vars(ray._private.services)
    before = constants["ENABLE_RAY_CLUSTER"], services["ConsolePopen"]
    constants["ENABLE_RAY_CLUSTER"] = False
    services["ConsolePopen"] = partial(services["ConsolePopen"], start_new_session=True)
    try:
        yield
    finally:
        constants["ENABLE_RAY_CLUSTER"], services["ConsolePopen"] = before
