"""What is changed inside Prefect 3.8.8: how it starts the temporary server of a run, what it does on SIGTERM, how
often it tries a server that is gone, and what it logs of a failure.

A test fails where Prefect has another version or other insides than this change was made for.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from functools import cache
from threading import Lock
from types import ModuleType
from typing import Any, ClassVar

VERSION = "3.8.8"

SERVE = """
import ctypes, runpy, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
"""
"""`python -m uvicorn` that ends when the thread which started it does."""
MODULE = "prefect.server.api.server"
TRIES = 3
"""How often a server is started that ends before it answers: another may have taken its port, or be making the tables
of the same database at the same moment."""


def apply() -> None:
    """Put `TemporaryServer` in the place of Prefect's class that starts the temporary server of a run. The module that
    holds that one imports all of the server, which takes as many seconds of a core as the server then takes itself."""
    stand_in = ModuleType(MODULE)
    vars(stand_in)["SubprocessASGIServer"] = TemporaryServer
    sys.modules.setdefault(MODULE, stand_in)


class TemporaryServer:
    """The temporary server of this process, of which all instances speak. It has a session of its own: Ctrl-C in a
    terminal reaches it through us alone, once the flow has said how it ended, and it does not outlive a process that is
    killed."""

    server_process: ClassVar[subprocess.Popen[bytes] | None] = None
    api_url: ClassVar[str] = ""
    _starting: ClassVar[Lock] = Lock()

    def start(self, timeout: float | None = None) -> None:
        """Start it, unless it runs, and wait until it answers. Raises RuntimeError where it does not."""
        with self._starting:
            if self.server_process is not None:
                return
            from prefect.settings import get_current_settings

            settings = get_current_settings()
            within = timeout or settings.server.ephemeral.startup_timeout_seconds
            atexit.register(self.stop)
            for left in reversed(range(TRIES)):
                process, url = self._begin(settings)
                if self._answers(process, url, within):
                    TemporaryServer.server_process, TemporaryServer.api_url = process, url
                    return
                ended = process.poll()
                process.kill()
                if ended is None:
                    raise RuntimeError(f"no answer within {within:g} s")
                if not left:
                    raise RuntimeError(f"it ended with exit code {ended}, {TRIES} times")

    @staticmethod
    def _begin(settings: Any) -> tuple[subprocess.Popen[bytes], str]:
        """The process of a server, and where it will answer."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        environment = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", SERVE, "--factory", f"{MODULE}:create_app"),
                *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"),
            ],
            env=os.environ | environment | settings.to_environment_variables(exclude_unset=True),
            start_new_session=True,
        )
        return process, f"http://127.0.0.1:{port}/api"

    @staticmethod
    def _answers(process: subprocess.Popen[bytes], url: str, seconds: float) -> bool:
        """Whether a server answers, before it ends or the seconds are over."""
        import httpx

        until = time.monotonic() + seconds
        with httpx.Client() as client:
            while process.poll() is None and time.monotonic() < until:
                with suppress(httpx.HTTPError):
                    client.get(f"{url}/health").raise_for_status()
                    return True
                time.sleep(0.1)
        return False

    @classmethod
    def stop(cls) -> None:
        """End it."""
        process, cls.server_process = cls.server_process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def keep_signals() -> None:
    """Leave SIGTERM to the command line, whose handler raises what every library lets through. Prefect would take it
    for the length of a flow, for a worker's sake; where a worker runs the flow, it still does."""
    from prefect import flow_engine

    vars(flow_engine)["capture_sigterm"] = nullcontext


@cache
def say_failures_once() -> None:
    """A task that returns a failed state has said why, and Prefect says it again when the task ends. Leave out what it
    logs between the two: the state as code, and the traceback of no exception (`NoneType: None`)."""
    logging.getLogger("prefect.task_runs").addFilter(lambda record: record.exc_info != (None, None, None))


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
