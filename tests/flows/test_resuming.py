"""What a run says of its training: where it goes on from, whom it waits for, what it leaves behind."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from data_specs.load import load
from flows import resuming
from flows.run import Run
from tasks.storage import locks
from tasks.storage.store import Store
from tests import small
from tests.commands import files, told
from tests.whole import go
from training import checkpoint, launch, log
from training.rows import Cursor

ROOT = Path(__file__).parents[2]


def begun(spec: Path, *settings: str) -> Run:
    """A run whose corpus and plan are made."""
    run = Run.of(str(spec), settings=settings)
    run.resolve()
    assert run.planned()
    return run


def stopped(run: Run, step: int) -> None:
    """Leave what a training that was killed after a checkpoint leaves."""
    spec, name = run.spec, run.training_name
    written = log.Log(run.store, name, -1)
    for number in range(1, step + 1):
        written.write("step", number, loss=5.0)
    written.flush()
    record = {"spec": spec.model_dump(mode="json"), "plan": run.record["plan"], "plan_digest": run.plan_facts["digest"]}
    run.store.commit(f"runs/{name}/run.json", json.dumps(record).encode())
    checkpoint.write_shard(run.store, name, step, 0, [])
    model = spec.model.model_dump(mode="json")
    checkpoint.commit(run.store, name, Cursor(step=step), record["plan_digest"], model, 1, 2)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that do not train: they begin where they would, and are done."""

    def fit(spec: Any, store: Store, work: dict[str, Any]) -> None:
        run = work["run"]
        step = checkpoint.steps(store, run)[0] if work["resume"] else -1
        written = log.Log(store, run, step)
        written.write("warning", max(0, step), message="checkpoint left out: \x1b[2J")
        written.flush()
        finish(store, run)

    monkeypatch.setattr(launch, "_fit", fit)


def finish(store: Store, run: str) -> None:
    summary = {"steps": 8, "tokens": 8000, "held_out": {}, "channels": {}, "checkpoint": "c", "export": f"runs/{run}/e"}
    store.commit(f"runs/{run}/summary.json", json.dumps(summary | {"exported": {}}).encode())


def trained(run: Run) -> dict[str, Any]:
    run.train(lambda *_: None)
    run.save(ended=True)
    return run.record["stages"][-1]


def test_a_training_that_goes_on_says_from_which_step(copied: Path, workers: None) -> None:
    run = begun(copied)
    stopped(run, 4)
    told_of: list[tuple[str, int, int]] = []
    result = run.train(lambda *progress: told_of.append(progress))
    where = f"continues from step 4 of 8 (checkpoint runs/{run.training_name}/checkpoints/00000004.json)"
    assert result.note == where
    loading = "train: loading torch and DeepSpeed, workers: 1, to go on from step 4"
    assert told_of == [(loading, 4, 8), (f"train: {where}", 4, 8)]


def test_a_new_training_says_what_changed_since_the_one_it_leaves_and_gc_removes_that(
    copied: Path, workers: None, caplog: pytest.LogCaptureFixture
) -> None:
    old = begun(copied)
    stopped(old, 4)
    peak, other = "training.learning_rate.peak=2e-3", "mixture.epochs.default=3"
    left = [path for path in files(copied) if path.startswith(f"runs/{old.training_name}/")]
    assert len(left) >= 5
    assert not set(told("gc", copied)["files"]) & set(left)
    note = trained(begun(copied, peak))["note"]
    rest = (
        f"changed since runs/{old.training_name}, which stopped at step 4 of 8 and is left there; `sluice gc` removes"
    )
    assert note.startswith("a new training: ")
    assert rest in note
    assert "training.learning_rate.peak: 0.001 -> 0.002" in note
    assert f"train: {note}" in caplog.messages
    assert "checkpoint left out: \\x1b[2J" in caplog.text or "checkpoint left out: \x1b[2J" in caplog.text
    assert not set(told("gc", copied, "--set", other)["files"]) & set(left)  # its plan is not made: it may be this one
    listed = told("gc", copied, "--set", peak, "--yes")["files"]
    assert set(left) <= set(listed)
    kept = [path for path in files(copied) if path.startswith("runs/small-")]
    assert kept
    assert not set(left) & set(kept)
    assert trained(begun(copied, peak))["state"] == "cached"


def test_settings_that_there_were_not_yet_are_no_change() -> None:
    spec = load(ROOT / "data_specs" / "demo.yaml")
    before = spec.model_dump(mode="json")
    del before["sources"]["manuals"]["refuse"], before["training"]["grace"]
    assert resuming._with_defaults(before) == spec.model_dump(mode="json")
    before["sources"]["manuals"]["gone"] = 1
    assert resuming._with_defaults(before) == before


def test_a_new_training_after_changed_data_says_so(copied: Path, workers: None) -> None:
    stopped(begun(copied), 4)
    small.web(copied.parent / "web", 1, 60, seed=9)
    note = trained(go(copied))["note"]
    assert note.startswith("a new training: the corpus changed since runs/small-")


def test_a_run_waits_for_the_one_that_trains_and_finds_the_training_done(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, other = begun(copied), begun(copied)
    waiting = threading.Event()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            waiting.set()

    handler = Seen()
    logging.getLogger("sluice").addHandler(handler)
    try:
        with locks.alone(run.store, f"runs/{other.training_name}", f"run {other.name}"):
            thread = threading.Thread(target=lambda: results.append(run.train(lambda *_: None)))
            results: list[Any] = []
            thread.start()
            assert waiting.wait(60)
            finish(run.store, run.training_name)
            assert not results
        thread.join(60)
    finally:
        logging.getLogger("sluice").removeHandler(handler)
    assert results[0].state == "cached"
    [message] = caplog.messages
    assert message.startswith(f"runs/{run.training_name}: waiting for run {other.name}, process ")


def test_a_run_that_waits_is_stopped_by_ctrl_c(copied: Path) -> None:
    run = begun(copied)
    code = (
        "import signal, sys\nfrom flows.cli import command\nfrom tests.flows.test_resuming import begun\n"
        "signal.signal(signal.SIGINT, command.stop)\n"
        f"waits = lambda as_json: begun({str(copied)!r}).train(lambda *_: None)\n"
        "command.plain_errors(waits)(as_json=True)\n"
    )
    with locks.alone(run.store, f"runs/{run.training_name}"):
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stderr is not None
            assert "waiting for process" in child.stderr.readline()
            child.send_signal(2)
            out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err == "sluice: interrupted\n"
    assert json.loads(out)["error"] == "interrupted"
