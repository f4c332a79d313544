"""A training on a Ray cluster that was started elsewhere, by its address."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.run import Run
from tasks.engine import ray_session
from tests import small, whole
from tests.flows.test_ending import marked
from tests.prefect_server import BIN, ROOT, free_port, process
from tests.whole import SHORT_TRAINING
from training import checkpoint, log

SETTINGS = (*SHORT_TRAINING, "training.workers=2", "training.batch.micro=2")


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A cluster of one node on loopback, with a session folder of its own, as `ray start` makes it -> its address, and
    the environment of whoever uses it."""
    port, scratch = free_port(), tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short paths
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_USAGE_STATS_REPORT_URL": "http://localhost",
        "SLUICE_TEST": str(tmp_path),
    }
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += ["--num-cpus=2", "--include-dashboard=false", f"--temp-dir={scratch}", "--object-store-memory=100000000"]
    try:
        with process(command, environment, tmp_path / "ray.log") as started:
            deadline = time.monotonic() + 120
            while "Ray runtime started" not in (tmp_path / "ray.log").read_text():
                assert started.poll() is None, (tmp_path / "ray.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield f"127.0.0.1:{port}", environment
    finally:
        for left in marked(str(tmp_path)):
            left.kill()
        shutil.rmtree(scratch, ignore_errors=True)


def test_a_training_on_a_cluster_by_its_address_has_the_losses_of_one_on_this_machine(
    head: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, environment = head
    specs = [small.corpus(tmp_path / "there", files=1)]
    whole.go(specs[0])
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    specs.append(tmp_path / "here" / "small.yaml")
    specs[1].write_text(small.SPEC.format(folder=tmp_path / "here"))
    command = [sys.executable, "-m", "tests.whole", str(specs[0]), *SETTINGS, f"cluster.address={address}"]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    names = [process.name() for process in marked(str(tmp_path))]
    assert "raylet" in names  # the cluster is not ours to end
    assert not [name for name in names if name.startswith("ray::RayTrainWorker")]
    whole.go(specs[1], SETTINGS, train=True)
    ray_session.stop()
    found = []
    for spec in specs:
        run = Run.of(str(spec), None, SETTINGS)
        run.resolve()
        name = str(run.training_folder()).removeprefix("runs/")
        assert checkpoint.steps(run.store, name) == [6, 4, 2]
        assert [record["workers"] for record in log.records(run.store, name) if record["kind"] == "start"] == [2]
        found.append([record["loss"] for record in log.read(run.store, name)])
    assert found[0] == found[1]
    assert len(found[0]) == 6
