"""A function applied in a child process that may be killed: work on hostile input, under limits per item.

The child is started once with a fresh interpreter (never forked from a process with threads or models in it), and
applies one function to one item after another. The kernel ends it when an item has used its CPU time, also inside C
code; the caller ends it when an item takes too much memory or when it hangs. A killed child is replaced. It dies with
its parent: the kernel kills it (PR_SET_PDEATHSIG), and the closed pipe ends it. What it is given is pickled, a quarter
of the work of JSON; what it answers is JSON, as it may have met a page that makes it say anything. A round trip with a
page of 115 kB takes 0.3 ms of both, so pages go one by one.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

_PR_SET_PDEATHSIG = 1
_START = 120
"""Seconds a child may take to load its function."""
_TOO_LONG = {"reason": "cpu_limit"}
_LOOK = 0.05
"""Seconds between two looks at the memory of a child at work."""


class Child:
    """Applies `function` ("module:name", which returns a JSON object) to items, in a child process."""

    def __init__(self, function: str, cpu_seconds: float, memory: int, wall_seconds: float) -> None:
        """Limits of one item: seconds of CPU time, bytes of resident memory above an idle child's, and seconds after
        which a child that uses neither is taken for hung."""
        self.function = function
        self.cpu_seconds = cpu_seconds
        self.memory = memory
        self.wall_seconds = wall_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, **item: Any) -> dict[str, Any]:
        """What the function returns for the item, or `{"reason": r}` with r one of `cpu_limit`, `memory_limit` and
        `parser_error` (the function raised, or the child crashed or hung). Crashing, hanging and taking long may be
        another's doing once: the item is tried again, as the first of a fresh child."""
        message = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        for _ in range(2):
            answer = self._attempt(message)
            if answer is not None and answer != _TOO_LONG:
                return answer
        return answer or {"reason": "parser_error"}

    def _attempt(self, message: bytes) -> dict[str, Any] | None:
        """None: the child died of something that no limit explains."""
        self.start()
        try:
            self._connection.send_bytes(message)
            verdict = self._watch()
            if verdict is None:
                answer: dict[str, Any] = orjson.loads(self._connection.recv_bytes())
                peak, now = _resident(self._pid)
                if peak > self._baseline + self.memory:
                    verdict = "memory_limit"  # a peak too short to be seen on the way is found all the same
                elif now > self._baseline + self.memory // 4:
                    self.close()  # what one item leaves behind is not charged to the next
        except (EOFError, OSError):
            verdict = "cpu_limit" if self._end() == -signal.SIGPROF else "died"
        if verdict is None:
            return answer
        self.close()
        return None if verdict == "died" else {"reason": verdict}

    def _watch(self) -> str | None:
        """Wait for an answer: None when there is one, otherwise why the child has to go."""
        hung = time.monotonic() + self.wall_seconds
        while not self._connection.poll(_LOOK):
            if _resident(self._pid)[0] > self._baseline + self.memory:
                return "memory_limit"
            if time.monotonic() > hung:
                return "died"
        return None

    def start(self) -> None:
        """Start the child, if none is running, and wait until it is ready."""
        if self._process is not None:
            return
        self._connection, theirs = Pipe()
        root = str(Path(__file__).parents[2])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
            "PYTHONHASHSEED": "0",  # the same order of every set, and the same day everywhere
            "TZ": "UTC",
        }
        numbers = self.cpu_seconds, theirs.fileno(), os.getpid()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tasks.extraction.child", self.function, *map(str, numbers)],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._pid = self._process.pid
        try:
            if not self._connection.poll(_START):
                raise EOFError
            self._connection.recv_bytes()
        except EOFError:
            code = self._end()
            raise RuntimeError(f"the child for {self.function} did not start (exit code {code})") from None
        self._baseline = _resident(self._pid)[1]

    def _end(self) -> int | None:
        """Kill the child, if it is not dead by itself, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        self._connection.close()
        try:
            return process.wait(0.5)  # a dead child's pipe closes before its exit code is there
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def close(self) -> None:
        """End the child; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._end()


def _resident(pid: int) -> tuple[int, int]:
    """Resident memory of a process in bytes, at its peak and now; zeros when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0, 0
    found = dict(re.findall(rb"^(VmHWM|VmRSS):\s+(\d+) kB$", status, re.MULTILINE))
    return int(found.get(b"VmHWM", 0)) * 1024, int(found.get(b"VmRSS", 0)) * 1024


def _serve(function: Callable[..., dict[str, Any]], connection: Connection, cpu_seconds: float) -> None:
    connection.send_bytes(b"ready")
    while True:
        try:
            item = connection.recv_bytes()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            answer = orjson.dumps(function(**pickle.loads(item)))
        except MemoryError:
            answer = b'{"reason": "memory_limit"}'
        except Exception:  # whatever a parser raises on input made to break it
            answer = b'{"reason": "parser_error"}'
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send_bytes(answer)


def main(function: str, cpu_seconds: str, descriptor: str, parent: str) -> None:
    """The child: `python -m tasks.extraction.child MODULE:NAME CPU_SECONDS DESCRIPTOR PARENT`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return  # it died before the request above
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # no handler: the kernel ends the process, wherever it is
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    module, name = function.split(":")
    _serve(getattr(importlib.import_module(module), name), Connection(int(descriptor)), float(cpu_seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
