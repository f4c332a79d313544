"""What is changed inside Prefect is there to be changed, and is what it starts its temporary server with."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import subprocess
from typing import Any

import httpx
import prefect
import pytest
from prefect import flow_engine
from prefect.client import base
from prefect.server.api import server
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import prefect_patches


def test_the_change_was_made_for_the_version_that_is_installed() -> None:
    assert prefect.__version__ == prefect_patches.VERSION, "read what it changed, then raise this"


def test_the_temporary_server_is_started_in_a_session_of_its_own_and_ends_with_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(server, "subprocess", subprocess)  # so that it is put back
    monkeypatch.setattr(subprocess, "Popen", lambda args, **options: started.append((args, options)))
    prefect_patches.apply()
    server.SubprocessASGIServer(port=4299)._run_uvicorn_command()
    [(args, options)] = started
    assert args[1:3] == ["-c", prefect_patches.SERVE]
    assert "prefect.server.api.server:create_app" in args
    assert options["start_new_session"]


def test_a_flow_of_the_command_line_leaves_sigterm_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect.getsource(flow_engine).count("with capture_sigterm():") == 2
    monkeypatch.setattr(flow_engine, "capture_sigterm", flow_engine.capture_sigterm)  # so that it is put back
    before = signal.getsignal(signal.SIGTERM)
    prefect_patches.keep_signals()
    with flow_engine.capture_sigterm():
        assert signal.getsignal(signal.SIGTERM) == before


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
