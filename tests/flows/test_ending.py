"""`sluice run` that a signal ends in the middle of a stage: its exit code, its last word, and what is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import small

PATIENCE = 120


def marked(mark: str) -> list[psutil.Process]:
    """Processes that run with a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLUICE_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def waited(condition: Callable[[], object]) -> bool:
    """Whether a condition came true in time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 130), (os.kill, signal.SIGKILL, -signal.SIGKILL)],
    ids=["Ctrl-C in a terminal", "SIGTERM to the run", "kill -9"],
)
def test_a_run_that_a_signal_ends_says_so_and_leaves_nothing_running(
    tmp_path: Path, send: Callable[[int, int], None], number: int, code: int
) -> None:
    spec = small.corpus(tmp_path, files=2)
    mark = str(tmp_path)
    environment = os.environ | {"SLUICE_TEST": mark, "PREFECT_HOME": str(tmp_path / "prefect")}
    environment.pop("PREFECT_API_URL", None)
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        command = [str(Path(sys.executable).with_name("sluice")), "run", str(spec), "--json"]
        run = subprocess.Popen(command, env=environment, stdout=out, stderr=err, start_new_session=True)
    try:
        assert waited(lambda: b"signals: 0 of" in (tmp_path / "err").read_bytes())
        send(run.pid, number)
        assert run.wait(PATIENCE) == code
        assert waited(lambda: not marked(mark)), [process.cmdline() for process in marked(mark)]
    finally:
        for process in marked(mark):
            process.kill()
    if code == 130:
        assert "Traceback" not in (tmp_path / "err").read_text()
        assert json.loads((tmp_path / "out").read_text().splitlines()[-1])["error"] == "interrupted"
        [record] = (tmp_path / "store" / "runs" / "records").glob("*/run.json")
        assert json.loads(record.read_bytes())["error"] == "run: interrupted"
