"""Thousands of mutated records: whatever a stranger writes, reading it ends, adds up, and costs no more than it may.

A case is made by its seed (`mutations`, `packings`), and read in a process that reads some hundred of them (`mutated`).
A failure names the command that reads its case alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.sources.mutated import DUMPS

ROOT = Path(__file__).parents[3]
SECONDS = 2
"""Of CPU time for a record, outside of the extraction, which has a process of its own."""
UNPACKED = 5e6
"""Bytes of a file that bzip2, the slowest, unpacks in a second at least: a file of 571 MB that holds four records, of
which one has 3,000 headers of 190 kB, takes no 2 s for each, but 54."""
MEMORY = 600 * 10**6
"""Bytes of a process that reads, at its peak, with all that it has imported."""
BATCH, EACH = 250, 5000
"""Cases of one process, and of records built by the tests, or real."""


def faults(origin: str, first: int, end: int) -> list[str]:
    """What is wrong with the cases, each with the command that reads it alone."""
    module = "tests.tasks.sources.mutated"
    command = [sys.executable, "-m", module, origin, str(first), str(end)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found, cases = [], 0
    told: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    died = {"fault": f"exit code {done.returncode}\n{done.stderr[-2000:]}"}
    for case, outcome in zip_longest(told[::2], told[1::2], fillvalue=died):
        fault = outcome["fault"]
        if not fault and outcome["cpu"] > SECONDS * max(1, outcome["in"]) + case["size"] / UNPACKED:
            fault = f"{outcome['cpu']:.1f} s of CPU time for {outcome['in']} records"
        if not fault and outcome["peak"] > MEMORY:
            fault = f"{outcome['peak']:,} bytes of memory"
        if fault:
            seed = case["seed"]
            found.append(f"python -m {module} {origin} {seed} {seed + 1}  # {case['done']}\n{fault}")
        cases += 1
    assert cases == end - first or found, done.stderr
    return found


def test_mutated_records_cost_themselves_alone() -> None:
    assert not faults("built", 0, 200)


def test_mutated_real_records_cost_themselves_alone(shared: Path) -> None:
    assert not faults(str(shared), 0, 100)


@pytest.mark.parametrize("kind", DUMPS)
def test_mutated_dumps_cost_themselves_alone(kind: str) -> None:
    assert not faults(kind, 0, 100)


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(0, EACH, BATCH))
@pytest.mark.parametrize("kind", DUMPS)
def test_thousands_of_mutated_dumps_cost_themselves_alone(kind: str, first: int) -> None:
    assert not faults(kind, first, first + BATCH)


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(0, EACH, BATCH))
def test_thousands_of_mutated_records_cost_themselves_alone(first: int) -> None:
    assert not faults("built", first, first + BATCH)


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(0, EACH, BATCH))
def test_thousands_of_mutated_real_records_cost_themselves_alone(first: int, shared: Path) -> None:
    assert not faults(str(shared), first, first + BATCH)
