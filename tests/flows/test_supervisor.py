"""The parent of a run ends it as promised, whatever the child does: on children that do the worst they could."""

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

SCRIPT = """
import os, signal, subprocess, sys, time
from flows import supervisor
from flows.cli.command import stop

supervisor.IN_ORDER = 4.0
for number in supervisor.obeyed():
    signal.signal(number, stop)
supervisor.start("--json" in sys.argv)
sleeping = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
apart = subprocess.Popen(sleeping, start_new_session=True, stdout=subprocess.PIPE)
apart.stdout.readline()
try:
    match sys.argv[1]:
        case "deaf":
            for number in supervisor.SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        case "patient":
            for number in supervisor.SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            supervisor._tell("limit 600")
        case "silent":
            os._exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "ends":
            supervisor.ending(3, False)
            sys.exit(3)
        case "hangs":
            supervisor.ending(3, False)
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(0.5)
    supervisor.ending(130, True)
"""


class Child:
    def __init__(self, what: str, folder: Path) -> None:
        self.mark = str(folder)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, what, "--json"],
            env=os.environ | {"SLUICE_TEST": self.mark},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()

    def ends(self, code: int) -> tuple[str, str]:
        """It ends with an exit code and leaves no process -> what it said."""
        began = time.monotonic()
        out, err = self.process.communicate(timeout=60)
        assert (self.process.returncode, time.monotonic() - began < 30) == (code, True)
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLUICE_TEST") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
            except psutil.Error:
                continue
        assert left == []
        return self.first + out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_a_signal_reaches_the_child_once_and_its_own_end_is_the_end(
    tmp_path: Path, number: int, send: Callable[[int, int], None]
) -> None:
    child = Child("sleeps", tmp_path)
    send(child.process.pid, number)
    if send is os.killpg:
        child.process.send_signal(number)  # as make passes on what the whole group got
    assert child.ends(130) == ("ready\n", "")


def test_a_child_that_does_not_end_in_time_is_ended_and_spoken_for(tmp_path: Path) -> None:
    child = Child("deaf", tmp_path)
    child.process.terminate()
    out, err = child.ends(130)
    assert json.loads(out.splitlines()[-1]) == {"exit": 130, "status": "failed", "error": "interrupted"}
    assert err == "sluice: interrupted\n"


def test_a_second_signal_ends_a_child_that_may_take_longer(tmp_path: Path) -> None:
    child = Child("patient", tmp_path)
    child.process.terminate()
    time.sleep(5)
    assert child.process.poll() is None
    child.process.terminate()
    child.ends(130)


@pytest.mark.parametrize(("what", "why"), [("silent", "ended unsaid (7)"), ("killed", "was killed")])
def test_a_child_that_dies_unsaid_is_spoken_for(tmp_path: Path, what: str, why: str) -> None:
    out, err = Child(what, tmp_path).ends(1)
    record = json.loads(out.splitlines()[-1])
    assert (record["status"], record["exit"]) == ("failed", 1)
    assert record["error"].startswith(f"the process of the run {why}, as when memory runs out")
    assert err == f"sluice: {record['error']}\n"


@pytest.mark.parametrize("what", ["ends", "hangs"])
def test_what_the_child_said_last_is_the_exit_code_even_if_it_then_hangs(tmp_path: Path, what: str) -> None:
    assert Child(what, tmp_path).ends(3)[1] == ""


def test_a_child_whose_parent_is_killed_ends_in_order(tmp_path: Path) -> None:
    child = Child("sleeps", tmp_path)
    [working] = psutil.Process(child.process.pid).children()
    child.process.kill()
    assert working.wait(30) in (130, None)
