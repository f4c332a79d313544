"""Values go by the name of the code and the libraries that a run began with, whatever a node has or a file becomes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from data_specs import stages
from data_specs.base import Settings
from data_specs.load import SpecError, load
from tasks import registry
from tasks.engine import stage, worker
from tasks.engine.custom import custom
from tasks.filters.signals import Signals
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tests import small

MINE = """
import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine.stage import Stage


class Mine(Stage):
    name, version = "mine", 1
    reads = ("text",)
    writes = pa.schema([("mine", pa.int64())])

    def __call__(self, batch):
        return pa.table([pa.array([{number}] * batch.num_rows)], self.writes)
"""
WORKER = """
import pickle, sys
import pyarrow as pa
from tasks.engine import worker
from tasks.storage.store import Store
made = worker.prepare(pickle.load(open(sys.argv[1], "rb")), Store(sys.argv[2]))
print(made(pa.table({"text": ["a"]}))["mine"][0].as_py())
"""


def of_worker(folder: Path) -> subprocess.CompletedProcess[str]:
    """What a worker process that starts now makes of the stage."""
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[3])])
    command = [sys.executable, "-c", WORKER, folder / "stage", folder / "store"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)


def test_a_stage_of_ones_own_that_is_edited_during_a_run_is_not_taken_for_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "edited_during_a_run.py"
    module.write_text(MINE.format(number=1))
    monkeypatch.syspath_prepend(tmp_path)
    settings = stages.Custom(kind="custom", code="edited_during_a_run:Mine")
    (tmp_path / "stage").write_bytes(pickle.dumps(custom("mine", settings)))
    assert of_worker(tmp_path).stdout == "1\n"
    module.write_text(MINE.format(number=12))
    found = of_worker(tmp_path)
    assert found.stdout == ""
    assert "edited_during_a_run.py has changed since this run began, or is another on this node" in found.stderr
    with pytest.raises(SpecError, match="has changed since this run began"):  # this process has what it imported
        custom("mine", settings)


def test_a_node_with_another_library_makes_no_values_in_the_name_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Signals(stages.Signals())
    expected = worker.recipe(made)
    worker.check(made, expected)
    monkeypatch.setattr(stage, "installed", lambda _: "0.1")
    with pytest.raises(worker.OtherValuesError, match=r"other values of signals, as it has libraries \{.*0\.1.*, not"):
        worker.check(made, expected)


def test_every_stage_that_a_worker_is_sent_is_what_it_was(tmp_path: Path) -> None:
    spec = load(small.corpus(tmp_path, files=1, documents=2))
    readers = registry.readers(spec).values()
    for sent in [*readers, *(node.stage for node in registry.nodes(spec, Pins(Store(spec.store), "x")) if node.ready)]:
        worker.check(pickle.loads(pickle.dumps(sent)), worker.recipe(sent))
    worker.check(Settings(), worker.recipe(Settings()))  # what is no stage says nothing of itself
