"""From WARC to verdict, without duplicates, against datatrove's local executor: CPU seconds, wall time, kept sets.

`python -m benchmarks.filters SHARED [PAGES [EXTRACTOR ...]]`: SHARED is the folder of real data; documentation comes
from the demo's packages. Both sides keep English above .65 by the same model, then what the rules of Gopher, C4 and
FineWeb leave, on two cores. Ours runs as `sluice run` in a fresh store, once for each extractor: trafilatura, which
datatrove uses, too, and resiliparse (`trafilatura+types` and `resiliparse+types` judge blocks by the page's type); with
title and date as the markup states them, and with pages refused whose raw text is surely not English. CPU seconds are
those of all processes, looked at every SLICE seconds, from the first record to the verdict's commit; what came before,
and the stages of duplicates, are printed apart, and do not count. Wall time counts the start, too.

datatrove's pool waits for ever where a worker of it dies. So a run of which no process uses a core for STILL seconds is
ended: it counts up to its last work where all its tasks are done, else the benchmark ends and names those that are not.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple

import psutil

import data_specs
from benchmarks import filters_peer
from benchmarks.filters_pages import FILES, LANGUAGE_SCORE, PAGES, write
from benchmarks.spent import MARK, Spent

SLICE = 0.3
STILL = 90.0
RULES = Path(data_specs.__file__).parent / "rules"
CORES = 2
SLUICE = Path(sys.executable).parent / "sluice"
DUPLICATES = ("exact", "candidates", "pairs", "alike", "clusters")
EXTRACTORS = ("trafilatura", "resiliparse")
SPEC = """
name: filters
store: {to}/store
sources:
  crawl:
    kind: warc
    paths: {crawl}/*.warc.gz
    refuse: {{foreign_page: "raw_language <> 'en' and raw_language_score > 0.4"}}
stages:
  extract: {{extractor: {extractor}, by_page_type: {types}, metadata: stated}}
  signals: {{where: "language = 'en' and language_score > {score}"}}
rules:
  - foreign: "language <> 'en' or language_score <= {score}"
  - include: {rules}/gopher.yaml
  - include: {rules}/fineweb.yaml
  - include: {rules}/c4.yaml
channels: {{all: "true"}}
gates: {{quarantined: 5%, skipped: true}}
cluster: {{cpus: {cores}}}
"""
STAGE = re.compile(r"stage \d+ of \d+, (\w+): 0 of")


class Taken(NamedTuple):
    """What a step of a run took."""

    wall: float
    cpu: float


def kind(process: psutil.Process) -> str:
    """What a process of a run is."""
    command = " ".join([process.name(), *process.cmdline()])
    if "tasks.extraction.child" in command:
        return "child that extracts"
    return "worker" if "ray::" in command else "other"


class Watched:
    """A command, and what its steps took; a step begins with a line that the command prints."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.steps: dict[str, Taken] = {}
        self.still = False
        """Whether it was ended as it did nothing more."""
        moved, spent = time.monotonic(), 0.0
        self._step, self._began = "start", (time.monotonic(), 0.0)
        self.spent = Spent(str(os.getpid()) + command[-1], kind)
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        with subprocess.Popen(
            command,
            env=environment | {MARK: self.spent.mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stderr is not None
            reading = threading.Thread(target=self._read, args=(run.stderr, log))
            self._lock = threading.Lock()
            reading.start()
            while run.poll() is None:
                with self._lock:
                    self.spent.look()
                if self.spent.total() > spent + 0.2:
                    moved, spent = time.monotonic(), self.spent.total()
                elif time.monotonic() > moved + STILL:
                    self.still = True
                    self._next("end", moved)
                    self.spent.kill()
                time.sleep(SLICE)
            reading.join(STILL)
            self.spent.kill()  # what outlives the command, and holds its output open
            reading.join()
        if not self.still:
            self._next("end")
        if run.returncode and not self.still:
            sys.exit(f"{' '.join(command)} ended with {run.returncode}:\n" + log.read_text()[-3000:])

    def _read(self, lines: IO[str], log: Path) -> None:
        with log.open("w") as file:
            for line in lines:
                file.write(line)
                found = STAGE.search(line)
                if found and found[1] != self._step:
                    self._next(found[1])
                elif filters_peer.STARTED in line:
                    self._next("documents")
                elif "Task run 'verdict' - Finished" in line:
                    self._next("shutdown")

    def _next(self, step: str, at: float | None = None) -> None:
        with self._lock:
            self.spent.look()
        now = (at or time.monotonic(), self.spent.total())
        before = self.steps.get(self._step, Taken(0, 0))
        self.steps[self._step] = Taken(before.wall + now[0] - self._began[0], before.cpu + now[1] - self._began[1])
        self._step, self._began = step, now

    def counted(self) -> Taken:
        """CPU seconds from the first record to the verdict, and wall seconds of the same with the start."""
        left_out = {"shutdown", "end", *DUPLICATES}
        return Taken(
            sum(taken.wall for name, taken in self.steps.items() if name not in left_out),
            sum(taken.cpu for name, taken in self.steps.items() if name not in left_out | {"start"}),
        )


def ours(extractor: str, crawl: Path, to: Path) -> tuple[Watched, dict[str, str]]:
    """Run the spec; what it took, and of each record why it was dropped, or "kept"."""
    to.mkdir()
    spec = to / "spec.yaml"
    name, _, types = extractor.partition("+")
    more = {"extractor": name, "types": str(bool(types)).lower(), "score": LANGUAGE_SCORE, "rules": RULES}
    spec.write_text(SPEC.format(to=to, crawl=crawl, cores=CORES, **more))
    run = Watched([str(SLUICE), "run", str(spec), "--until", "verdict"], to / "log")
    if run.still:
        sys.exit(f"ours, {extractor}, did nothing for {STILL:.0f} s:\n" + (to / "log").read_text()[-3000:])
    return run, dict(_query(spec, "select url, coalesce(reason, 'kept') from corpus")) | dict(
        _query(spec, "select url, reason from refused")
    )


def _query(spec: Path, sql: str) -> list[Any]:
    command = [str(SLUICE), "query", str(spec), sql, "--json"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found: list[Any] = json.loads(said.splitlines()[-1])["rows"]
    return found


def theirs(crawl: Path, to: Path) -> tuple[Watched, set[str]]:
    """Run datatrove; what it took, and the addresses it kept."""
    to.mkdir()
    command = [sys.executable, "-m", "benchmarks.filters_peer", str(crawl), str(to), str(FILES), str(CORES)]
    run = Watched(command, to / "log")
    done = {int(file.name) for file in (to / "logs" / "completions").glob("*")}
    if lacking := {*range(FILES)} - done:
        sys.exit(f"datatrove did nothing for {STILL:.0f} s, and tasks {sorted(lacking)} of {FILES} are not done:\n")
    kept = set()
    for file in (to / "kept").glob("*.jsonl.gz"):
        with gzip.open(file, "rt") as lines:
            kept |= {json.loads(line)["metadata"]["url"] for line in lines}
    return run, kept


def show(name: str, run: Watched, base: Taken | None) -> Taken:
    """Print what a run took; returns what counts."""
    counted = run.counted()
    told = f": {base.cpu / counted.cpu:.2f} and {base.wall / counted.wall:.2f} times datatrove" if base else ""
    print(f"{name}: {counted.cpu:.1f} CPU s, {counted.wall:.1f} s by the clock with the start{told}")
    for step, taken in run.steps.items():
        print(f"    {step:16}{taken.cpu:8.1f} CPU s{taken.wall:8.1f} s")
    if run.still:
        print(f"    all tasks were done, and the run did not end: ended after {STILL:.0f} s without work")
    for what, processes, seconds in run.spent.by_kind():
        print(f"    {processes} processes of kind {what!r} used {seconds:.1f} CPU s")
    for what, most in sorted(run.spent.memory.items()):
        print(f"    a process of kind {what!r} held {most / 2**20:.0f} MiB at most", flush=True)
    return counted


def compare(name: str, reasons: dict[str, str], kept: set[str]) -> None:
    """Print where the kept sets differ, and why ours dropped what theirs kept."""
    own = {url for url, reason in reasons.items() if reason in ("kept", "duplicate", "held_out", "held_out_copy")}
    print(
        f"{name}: {len(reasons):,} records, ours keeps {len(own):,}, datatrove {len(kept):,}, both {len(own & kept):,}"
    )
    print("    all reasons:", dict(Counter(reasons.values()).most_common()))
    print(
        "    of those datatrove keeps:",
        dict(Counter(reasons.get(url, "unknown") for url in kept - own).most_common()),
        flush=True,
    )


def main(shared: str, pages: str = str(PAGES), *extractors: str) -> None:
    """Run datatrove, and ours with each extractor, in turn."""
    with TemporaryDirectory(prefix="sluice-filters-") as folder:
        place = Path(folder)
        crawl = place / "crawl"
        crawl.mkdir()
        print(f"{write(Path(shared), crawl, int(pages)):,} pages", flush=True)
        run, kept = theirs(crawl, place / "datatrove")
        base = show("datatrove, trafilatura", run, None)
        for extractor in extractors or EXTRACTORS:
            run, reasons = ours(extractor, crawl, place / extractor)
            show(f"ours, {extractor}", run, base)
            compare(extractor, reasons, kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
