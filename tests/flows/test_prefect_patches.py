"""What is changed inside Prefect is there to be changed, and is what it starts its temporary server with."""

from __future__ import annotations

import inspect
import signal
import subprocess
from typing import Any

import prefect
import pytest
from prefect import flow_engine
from prefect.server.api import server

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
