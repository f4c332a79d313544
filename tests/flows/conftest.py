"""A corpus of one generation, and the same after some nights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import generations
from tests.commands import told
from tests.flows.nights import FILES, FIRST, TOGETHER, add, elsewhere
from tests.generations import night


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of a corpus of one generation, which is not to be changed."""
    path = generations.corpus(tmp_path_factory.mktemp("first"), FILES[:FIRST])
    night(path)
    return path


@pytest.fixture(scope="module")
def twice(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That corpus after two nights."""
    path = elsewhere(first, tmp_path_factory.mktemp("twice"))
    for number in (FIRST, FIRST + 1):
        add(path, [number])
        assert {each["state"] for each in told("plan", path)["stages"] if each["name"] in TOGETHER} <= {
            "stale",
            "waiting",
        }
        night(path)
    assert {each["state"] for each in told("plan", path)["stages"] if each["name"] in TOGETHER} == {"cached"}
    return path


@pytest.fixture
def grown(first: Path, tmp_path: Path) -> Path:
    """That corpus and its store again, elsewhere."""
    return elsewhere(first, tmp_path)
