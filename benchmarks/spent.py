"""CPU seconds of all processes that a command started, told apart by a mark in their environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

MARK = "SLUICE_BENCHMARK"


class Spent:
    """CPU seconds and memory of the processes of a run, also of those that have ended."""

    def __init__(self, mark: str, kind: Callable[[psutil.Process], str]) -> None:
        self.mark, self._kind = mark, kind
        self.seconds: dict[tuple[int, float], float] = {}
        self.kinds: dict[tuple[int, float], str] = {}
        self.memory: dict[str, int] = {}
        """Most bytes, without those of shared files, that a process of a kind held when it was looked at."""

    def look(self) -> None:
        """Take in what has been spent by now."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    key = (process.pid, process.create_time())
                    times = process.cpu_times()
                    self.seconds[key] = times.user + times.system
                    self.kinds[key] = kind = self._kind(process)  # Ray names a process once it has something to do
                    held = process.memory_info()
                    self.memory[kind] = max(self.memory.get(kind, 0), held.rss - held.shared)
            except psutil.Error:
                continue

    def kill(self) -> None:
        """End all of these processes that still run."""
        for pid, started in self.seconds:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == started:
                    process.kill()

    def total(self) -> float:
        return sum(self.seconds.values())

    def by_kind(self) -> Iterator[tuple[str, int, float]]:
        """(kind, processes, CPU seconds), the most first."""
        found: dict[str, list[float]] = {}
        for key, seconds in self.seconds.items():
            found.setdefault(self.kinds[key], []).append(seconds)
        for name, each in sorted(found.items(), key=lambda pair: -sum(pair[1])):
            yield name, len(each), sum(each)
