"""What is changed inside Prefect is there to be changed, and is what it starts its temporary server with."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import prefect
import pytest
from prefect import flow_engine, task_engine
from prefect.client import base, orchestration
from prefect.events import clients, worker
from prefect.logging import loggers
from prefect.server.api import server
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import prefect_patches
from flows.prefect_patches import TemporaryServer


def test_the_change_was_made_for_the_version_that_is_installed() -> None:
    assert prefect.__version__ == prefect_patches.VERSION, "read what it changed, then raise this"


def test_the_temporary_server_is_started_as_prefect_does_but_in_a_session_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda args, **options: started.append((args, options)))
    monkeypatch.setattr(TemporaryServer, "_answers", lambda *_: True)
    monkeypatch.setattr(TemporaryServer, "server_process", None)
    monkeypatch.setattr(TemporaryServer, "api_url", "")
    monkeypatch.setattr(atexit, "register", lambda _: None)
    TemporaryServer().start()
    server.SubprocessASGIServer(port=4299)._run_uvicorn_command()
    (ours, options), (theirs, their_options) = started
    assert ours[1:3] == ["-c", prefect_patches.SERVE]
    assert options["start_new_session"]
    assert options["env"] == their_options["env"]
    [port] = {TemporaryServer.api_url.partition("127.0.0.1:")[2].removesuffix("/api")}
    place = theirs.index("--app-dir")
    assert theirs[1:3] == ["-m", "uvicorn"]
    assert ours[3:] == [each.replace("4299", port) for each in theirs[3:place] + theirs[place + 2 :]]


def test_what_prefect_asks_of_its_temporary_server_is_there() -> None:
    asked = "(?<![.\\w])server\\.(\\w+)"
    for module in (orchestration, clients, worker):
        source = inspect.getsource(module)
        assert "from prefect.server.api.server import SubprocessASGIServer" in source
        for lines in source.split("server = SubprocessASGIServer()")[1:]:
            names = re.findall(asked, "\n".join(lines.splitlines()[:8]))
            assert set(names) <= {"start", "server_process", "api_url"} <= set(dir(TemporaryServer))


@pytest.mark.slow
def test_a_run_does_not_import_the_server_that_it_starts(tmp_path: Path) -> None:
    code = """
import sys
from flows import embedded
embedded.prepare()
with embedded.server():
    pass
from flows import pretrain
from prefect.client.orchestration import get_client
assert get_client(sync_client=True).hello().status_code == 200
print(sorted(name for name in sys.modules if name.startswith("prefect.server")))
"""
    home = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ""}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['prefect.server.api.server']\n"


def test_a_server_that_ends_at_once_is_started_again_and_then_told_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = f"open({str(tmp_path / 'starts')!r}, 'a').write('x'); raise SystemExit(3)"
    monkeypatch.setattr(prefect_patches, "SERVE", program)
    monkeypatch.setattr(TemporaryServer, "server_process", None)
    monkeypatch.setattr(atexit, "register", lambda _: None)
    with pytest.raises(RuntimeError, match="it ended with exit code 3, 3 times"):
        TemporaryServer().start()
    assert (tmp_path / "starts").read_text() == "xxx"
    assert TemporaryServer.server_process is None


def test_a_flow_of_the_command_line_leaves_sigterm_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect.getsource(flow_engine).count("with capture_sigterm():") == 2
    monkeypatch.setattr(flow_engine, "capture_sigterm", flow_engine.capture_sigterm)  # so that it is put back
    before = signal.getsignal(signal.SIGTERM)
    prefect_patches.keep_signals()
    with flow_engine.capture_sigterm():
        assert signal.getsignal(signal.SIGTERM) == before


def test_a_failed_state_is_not_logged_with_the_traceback_of_no_exception(caplog: pytest.LogCaptureFixture) -> None:
    prefect_patches.say_failures_once()
    logger = loggers.get_logger("prefect.task_runs")
    source = inspect.getsource(task_engine.SyncTaskRunEngine.handle_retry)
    assert re.search(r'error\(\s+f"Task run failed with \{failure_type\}: \{exc_or_state!r\}",\s+exc_info=True', source)
    with caplog.at_level(logging.ERROR):
        logger.addHandler(caplog.handler)
        try:
            logger.error("Task run failed with state: Failed(message='why')", exc_info=True)
            logger.error("why")
            try:
                raise ValueError("a bug")
            except ValueError:
                logger.error("Task run failed with exception", exc_info=True)
        finally:
            logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"why", "Task run failed with exception"}


def test_a_server_that_is_gone_is_tried_by_one_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for client in (base.PrefectHttpxSyncClient, base.PrefectHttpxAsyncClient):
        monkeypatch.setattr(client, "_send_with_retry", client._send_with_retry)  # so that it is put back
    monkeypatch.setattr(logging, "raiseExceptions", True)
    tried: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        tried.append(request)
        raise httpx.ConnectError("refused")

    prefect_patches.give_up_together.__wrapped__()
    url = "http://127.0.0.1:9/api"
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            for _ in range(2):
                with pytest.raises(httpx.ConnectError, match="refused"):
                    base.PrefectHttpxSyncClient(transport=httpx.MockTransport(refuse)).get(url)
            later = base.PrefectHttpxAsyncClient(transport=httpx.MockTransport(refuse))
            with pytest.raises(httpx.ConnectError, match="refused"):
                asyncio.run(later.get(url))
        assert len(tried) == 1
        assert not logging.getLogger("prefect").isEnabledFor(logging.ERROR)
    finally:
        logging.disable(logging.NOTSET)
