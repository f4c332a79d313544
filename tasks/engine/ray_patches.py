"""What is changed inside Ray 2.60.0: what it does on SIGTERM, what a local one starts and where it listens, and which
warnings say nothing.

A test fails where Ray has another version or other insides than these changes were made for.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any

VERSION = "2.60.0"
SPARED = ("start_api_server", "start_monitor", "start_log_monitor")
"""What starts processes that a Ray of one machine does without: the dashboard, which asks a cloud's metadata service
(169.254.169.254) though it is to show nothing, the autoscaler and the collector of logs. They are half of what starting
Ray costs."""


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
    its processes have sessions of their own, so that what ends a terminal's or a container's processes reaches them
    through us alone, and there are no more of them than it needs. That a thread starts it is no warning."""
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    node, services = ray._private.node.Node, ray._private.services
    with ExitStack() as changes:
        changes.enter_context(_changed(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False))
        apart = partial(services.ConsolePopen, start_new_session=True)
        changes.enter_context(_changed(services, "ConsolePopen", apart))
        for name in SPARED:
            changes.enter_context(_changed(node, name, lambda *_, **__: None))
        yield


@contextmanager
def _changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Something of Ray's is another while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
