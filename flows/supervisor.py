"""`sluice run` in two processes: a child does the work, and its parent, which does nothing else, keeps the promises of
how a run ends, whatever a library does with a signal and whatever becomes of the child.

The parent waits for signals and for the child. A first signal is passed on, and the child, interrupted, ends in order:
states and record are written, a training saves a checkpoint. A second one, or a child that takes too long, ends it at
once. A child that died without saying how (killed when memory ran out, or ended by Ray's own code when a process of Ray
is gone) is spoken for, in JSON where JSON was asked for. Then every process that the run started is ended: they are
children of the parent, as orphans become its own (PR_SET_CHILD_SUBREAPER). The child ends if its parent is killed.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a run to end."""
IN_ORDER = 10.0
"""Seconds that an ordered end may take, beside the checkpoint of a training."""
_SAME = 1.0
"""Seconds in which signals are one: a group gets it, and make, a shell or an init process pass it on again."""
_pipe: int | None = None
"""Where a child tells its parent, line by line, how it ends and how long that may take."""


def obeyed() -> list[signal.Signals]:
    """The signals that are not ignored, as `nohup` has one of them."""
    return [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def supervised() -> bool:
    """Whether this process is the child of a supervisor."""
    return _pipe is not None


def start(as_json: bool) -> None:
    """Go on in a child process; the parent never returns. Handlers of signals stand already."""
    global _pipe
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    waited = {*obeyed(), signal.SIGCHLD}
    reading, writing = os.pipe()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child:
        os.close(writing)
        os.set_blocking(reading, False)
        _Parent(child, reading, waited, as_json).watch()
    os.close(reading)
    _pipe = writing
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)
    if os.getppid() != parent:
        raise KeyboardInterrupt  # it died before the request above


def ending(code: int, interrupted: bool) -> None:
    """The child's last word is said, and it ends with this exit code; from here on signals change nothing. One that was
    interrupted ends here: libraries would only end processes that the parent ends anyway, in the middle of their work.
    """
    if _pipe is None:
        return
    for number in obeyed():
        signal.signal(number, signal.SIG_IGN)
    _tell(f"end {code}")
    if interrupted:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """An ordered end may take so much longer while the block runs."""
    _tell(f"limit {IN_ORDER + seconds}")
    try:
        yield
    finally:
        _tell(f"limit {IN_ORDER}")


def _tell(line: str) -> None:
    if _pipe is not None:
        os.write(_pipe, f"{line}\n".encode())


class _Parent:
    def __init__(self, child: int, pipe: int, waited: set[signal.Signals], as_json: bool) -> None:
        self.child, self.pipe, self.waited, self.as_json = child, pipe, waited, as_json
        self.limit = IN_ORDER
        self.code: int | None = None
        """The exit code that the child told, once it did."""
        self.signalled: float | None = None
        """When the first signal came."""

    def watch(self) -> NoReturn:
        """Wait for the child's end, or bring it about."""
        asked = time.monotonic()  # since when the child is to end
        while (status := self._status()) is None:
            found = signal.sigtimedwait(self.waited, 0.5)
            before, now = self.code, time.monotonic()
            self._listen()
            if self.code is not None and before is None:
                asked = now
            if found and found.si_signo != signal.SIGCHLD:
                if self.signalled is None:
                    self.signalled = asked = now
                    with suppress(ProcessLookupError):
                        os.kill(self.child, found.si_signo)
                elif now - self.signalled > _SAME:
                    break
            if (self.signalled is not None or self.code is not None) and now - asked > self.limit:
                break
        self._listen()
        self._sweep()
        if self.code is None:
            self._speak(status)
        os._exit(self.code or 0)

    def _status(self) -> int | None:
        """The child's exit code, minus a signal's number where one ended it; None while it lives."""
        pid, status = os.waitpid(self.child, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self.pipe, 4096):
                for line in data.decode().splitlines():
                    word, _, value = line.partition(" ")
                    if word == "end":
                        self.code = int(value)
                    else:
                        self.limit = float(value)

    def _speak(self, status: int | None) -> None:
        """Say what became of a child that did not say it."""
        if self.signalled is not None:
            self.code, message = 130, "interrupted"
        else:
            how = "was killed" if status == -signal.SIGKILL else f"ended unsaid ({status})"
            why = "as when memory runs out or a process of Ray dies"
            self.code, message = 1, f"the process of the run {how}, {why}; run again to go on from here"
        if self.as_json:
            _write(1, json.dumps({"exit": self.code, "status": "failed", "error": message}))
        _write(2, f"sluice: {message}")

    def _sweep(self) -> None:
        """End every process that the run started."""
        import psutil

        while children := psutil.Process().children(recursive=True):
            for process in children:
                with suppress(psutil.Error):
                    process.kill()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)


def _write(descriptor: int, line: str) -> None:
    with suppress(OSError):
        os.write(descriptor, f"{line}\n".encode())
