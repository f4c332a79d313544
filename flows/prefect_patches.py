"""What is changed inside Prefect 3.8.8: how it starts the temporary server of a run, what it does on SIGTERM, and how
often it tries a server that is gone.

A test fails where Prefect has another version or other insides than this change was made for.
"""

from __future__ import annotations

import logging
import subprocess
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any

VERSION = "3.8.8"

SERVE = """
import ctypes, runpy, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
"""
"""`python -m uvicorn` that ends when the thread which started it does."""


def apply() -> None:
    """Start the temporary server in a session of its own: Ctrl-C in a terminal reaches it through us alone, once the
    flow has said how it ended, and it does not outlive a process that is killed."""
    from prefect.server.api import server

    vars(server)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": _apart})


def _apart(args: list[str], **options: Any) -> subprocess.Popen[Any]:
    if args[1:3] == ["-m", "uvicorn"]:
        args = [args[0], "-c", SERVE, *args[3:]]
    return subprocess.Popen(args, start_new_session=True, **options)


def keep_signals() -> None:
    """Leave SIGTERM to the command line, whose handler raises what every library lets through. Prefect would take it
    for the length of a flow, for a worker's sake; where a worker runs the flow, it still does."""
    from prefect import flow_engine

    vars(flow_engine)["capture_sigterm"] = nullcontext


@cache
def give_up_together() -> None:
    """Once a call of the API found no server at any of its tries, later ones fail at once: each flow inside another
    would try for itself, some ten seconds long. What libraries log of it is not shown, as the command line says it in
    one line."""
    from httpx import TransportError
    from prefect.client import base

    gone: list[TransportError] = []
    send, send_later = base.PrefectHttpxSyncClient._send_with_retry, base.PrefectHttpxAsyncClient._send_with_retry

    def once(*args: Any, **options: Any) -> Any:
        if gone:
            raise gone[0]
        try:
            return send(*args, **options)
        except TransportError as error:
            gone.append(error)
            logging.disable()
            logging.raiseExceptions = False
            raise

    async def once_later(*args: Any, **options: Any) -> Any:
        if gone:
            raise gone[0]
        return await send_later(*args, **options)

    for client, sending in ((base.PrefectHttpxSyncClient, once), (base.PrefectHttpxAsyncClient, once_later)):
        setattr(client, "_send_with_retry", sending)  # noqa: B010 (a method of another's)
