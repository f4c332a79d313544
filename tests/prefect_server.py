"""A real Prefect server on loopback with SQLite, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A background process in a session of its own, ended with all its children."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield child
        finally:
            for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                if child.poll() is None:
                    os.killpg(child.pid, sign)
                    try:
                        child.wait(10)
                    except subprocess.TimeoutExpired:
                        continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prefect(environment: dict[str, str], *arguments: str, seconds: int = 120) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "prefect"), *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, text=True, capture_output=True, timeout=seconds, check=False
    )


def get(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_for(url: str, log: Path) -> None:
    """Until the server answers; its log is shown where it does not."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            get(url)
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no answer from {url}: {log.read_text()[-2000:]}")


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server with the deployments -> its API, and the environment of whoever uses it."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "SLUICE_HOME": str(ROOT),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    with process([str(BIN / "prefect"), "server", "start", "--port", str(port)], environment, folder / "server.log"):
        wait_for(f"{api}/health", folder / "server.log")
        assert prefect(environment, "work-pool", "create", "sluice", "--type", "process").returncode == 0
        deployed = prefect(environment, "--no-prompt", "deploy", "--prefect-file", "deployment.yaml", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        yield api, environment
