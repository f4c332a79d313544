"""A rank that is silent holds up all others without a word: each rank watches itself, and together they name it.

While steps are taken this costs nothing but a note of where the rank is. A rank whose note has been the same for
`training.watchdog` seconds writes it down with its stack, in `runs/<run>/hang/<rank>.json`. As every exchange couples
all ranks, all of them soon do; those that came least far are the silent ones, but for those that wait for others, and
so is one that writes nothing, as its process is stopped or gone. Then all ranks end, and the next run, or the launcher,
goes on from the newest checkpoint.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.storage.store import Store, StoreError

ANSWER = 10.0
"""Seconds that ranks have to write down where they are, once one has."""
FIRST = 4
"""How much longer the first step may take, in which kernels are chosen and models compiled."""
ENDED = 70
"""The exit code of a rank that the watchdog ends (sysexits' EX_SOFTWARE)."""
WAITING = ("torch/distributed/", "deepspeed/comm/")
"""Parts of the paths of what waits for other ranks."""
INNER = 6
"""Innermost frames of a stack that are looked at for it."""


def folder(run: str) -> str:
    return f"runs/{run}/hang"


def conclusion(run: str) -> str:
    """Where it stands which rank was silent."""
    return f"{folder(run)}/conclusion.json"


def last_word(store: Store, run: str) -> str | None:
    """Which rank of the last attempt was silent, if one was."""
    return str(store.json(conclusion(run))["message"]) if store.exists(conclusion(run)) else None


def forget(store: Store, run: str) -> None:
    """Remove what an earlier attempt left."""
    store.remove(*(f"{folder(run)}/{name}" for name in store.list(folder(run))))


class Watchdog:
    """One rank's. The thread that makes it is the one that is watched."""

    def __init__(self, store: Store, run: str, rank: int, world: int, seconds: float) -> None:
        """`seconds`: 0, and it does nothing."""
        self.store, self.run, self.rank, self.world, self.seconds = store, run, rank, world, seconds
        self.watched = threading.get_ident()
        self.count, self.place, self.at, self.steps = 0, "the beginning", time.monotonic(), 0
        self._over = threading.Event()
        if seconds:
            threading.Thread(target=self._watch, daemon=True).start()

    def at_place(self, place: str) -> None:
        """The rank has come to a place of its step."""
        self.count, self.place, self.at = self.count + 1, place, time.monotonic()

    def step_taken(self) -> None:
        self.steps += 1

    def close(self) -> None:
        """Watch no more."""
        self._over.set()

    def _watch(self) -> None:
        tick = min(1.0, self.seconds / 8)
        before = time.monotonic()
        while not self._over.wait(tick):
            now = time.monotonic()
            if now - before > self.seconds / 2:  # the process, and so this thread, was stopped meanwhile
                self.at += now - before
            before = now
            if now - self.at > self.seconds * (1 if self.steps else FIRST):
                self._end()

    def _end(self) -> None:
        """Say where this rank is, and end it where nothing has moved until the others said so, too."""
        seen = self.count
        path = f"{folder(self.run)}/{self.rank:05d}.json"
        self.store.commit_json(path, self._report())
        deadline = time.monotonic() + min(ANSWER, self.seconds)
        reports = self._reports()
        while len(reports) < self.world and time.monotonic() < deadline:
            time.sleep(0.1)
            reports = self._reports()
        if self.count != seen or self._over.is_set():
            self.store.remove(path)
            return
        if self.rank == min(reports, default=self.rank):
            message = silent(reports, self.world, self.seconds)
            self.store.commit_json(conclusion(self.run), {"message": message})
            print(f"sluice: {message}", file=sys.stderr, flush=True)
        else:
            time.sleep(1)  # until it is said
        os._exit(ENDED)

    def _report(self) -> dict[str, Any]:
        frame = sys._current_frames().get(self.watched)
        stack = [f"{each.filename}:{each.lineno} in {each.name}" for each in traceback.extract_stack(frame)]
        return {
            "rank": self.rank,
            "count": self.count,
            "place": self.place,
            "seconds": time.monotonic() - self.at,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "stack": stack,
        }

    def _reports(self) -> dict[int, dict[str, Any]]:
        names = [name for name in self.store.list(folder(self.run)) if name[:-5].isdigit()]
        try:
            found = list(self.store.json_each([f"{folder(self.run)}/{name}" for name in names]))
        except (StoreError, FileNotFoundError):  # one goes on after all
            return {}
        return {each["rank"]: each for each in found}


def silent(reports: Mapping[int, Mapping[str, Any]], world: int, seconds: float) -> str:
    """Which ranks are silent, as all ranks that answer see it, in one line."""
    absent = sorted(set(range(world)) - reports.keys())
    then = "the training ends; run it again to go on from its newest checkpoint"
    if absent:
        names = ", ".join(map(str, absent))
        return (
            f"no rank has moved for {seconds:.0f} s, and rank {names} of {world} does not answer: its process is "
            f"stopped or gone; {then}"
        )
    least = min(report["count"] for report in reports.values())
    behind = [report for report in reports.values() if report["count"] == least]
    chosen = [report for report in behind if not waits(report["stack"])] or behind
    each = chosen[0]
    others = f" (as rank {', '.join(str(other['rank']) for other in chosen[1:])} is)" if chosen[1:] else ""
    return (
        f"rank {each['rank']} of {world} (process {each['pid']} on {each['host']}) is silent for {each['seconds']:.0f} "
        f"s at {each['place']}{others}, in {each['stack'][-1] if each['stack'] else 'no frame'}; {then}"
    )


def waits(stack: Sequence[str]) -> bool:
    """Whether what a rank does is to wait for others."""
    return any(part in frame for frame in stack[-INNER:] for part in WAITING)
