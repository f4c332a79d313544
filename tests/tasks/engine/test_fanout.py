"""The fan-out on a real Ray: what is tried again, how often, and what it costs a job when its error, its worker or its
node ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from data_specs import stages
from data_specs.base import Settings
from data_specs.cluster import Cluster
from tasks.engine import fanout, ray_session
from tasks.engine.contract import BugError
from tasks.engine.job import Job
from tasks.engine.stage import Stage
from tasks.filters.language import Language
from tasks.storage import columns
from tasks.storage.manifest import Entry
from tasks.storage.store import DeniedError, Store, StoreError


class Settled(Settings):
    """No settings."""


class Odd(Stage):
    """Does what the text of a shard says, and notes each attempt as a file."""

    name, version = "odd", 1
    reads = ("text",)
    writes = pa.schema([("length", pa.int64())])

    def __init__(self, folder: Path) -> None:
        super().__init__(Settled())
        self.folder = folder

    def __call__(self, batch: pa.Table) -> pa.Table:
        [text] = batch["text"].to_pylist()
        tries = len(list(self.folder.glob(f"{text}.*")))
        first = not tries
        (self.folder / f"{text}.{time.time_ns()}").touch()
        match text.split():
            case ["error", "always"]:
                raise RuntimeError("this page is cursed")
            case ["bug"]:
                raise BugError("/own/odd.py:7: NameError: name 'txt' is not defined")
            case ["error", "once"] if first:
                raise RuntimeError("the network blinked")
            case ["storage", failures] if tries < int(failures):
                raise StoreError("s3://bucket cannot be read")
            case ["denied"]:
                raise DeniedError("s3://bucket may not be read")
            case ["dies", when] if first or when == "always":
                os.kill(os.getpid(), signal.SIGKILL)
            case ["waits", *_] if first:
                time.sleep(600)
        return pa.table({"length": [len(text)]}, self.writes)


class Reserving(Odd):
    """Notes what Ray gives each of its jobs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = stages.Language(cores=2, memory=2**27)

    def __call__(self, batch: pa.Table) -> pa.Table:
        (self.folder / "given").write_text(json.dumps(ray.get_runtime_context().get_assigned_resources()))
        return super().__call__(batch)


def jobs(store: Store, texts: list[str]) -> list[Job]:
    result = []
    for text in texts:
        path = f"{text}.parquet"
        columns.write(store, path, pa.table({"text": [text]}), {"ids": "ab" * 16})
        result.append(
            Job(
                "shard",
                f"key of {text}",
                f"out/{text}.parquet",
                text,
                "run",
                "ab" * 16,
                1,
                ((path, (("text", "text"),)),),
            )
        )
    return result


def fan(folder: Path, cluster: Cluster, texts: list[str], stage: type[Odd] = Odd) -> tuple[int, dict[str, Entry]]:
    """Jobs that failed, and the entry of each."""
    store = Store(str(folder / "store"))
    (folder / "attempts").mkdir(parents=True)
    entries: list[Entry] = []
    failed = fanout.run(stage(folder / "attempts"), f"odd@{folder}", jobs(store, texts), store, cluster, entries.extend)
    return failed, {entry["shard"]: entry for entry in entries}


def attempts(folder: Path, text: str) -> int:
    return len([*(folder / "attempts").glob(f"{text}.*")])


@pytest.fixture
def local() -> Iterator[Cluster]:
    cluster = Cluster(cpus=2, shard_memory=2**26, attempts=3, crashes=2)
    with ray_session.running(cluster):
        yield cluster


def test_an_error_and_a_death_are_tried_again_as_often_as_the_spec_says_a_bug_is_not_and_the_rest_goes_on(
    local: Cluster, tmp_path: Path
) -> None:
    good = [f"good {number}" for number in range(9)]
    odd = {"bug": 1, "error always": 3, "error once": 2, "dies always": 2, "dies once": 2}
    failed, taken = fan(tmp_path, local, [*good[:4], *odd, *good[4:]])
    assert failed == 3
    assert {text: attempts(tmp_path, text) for text in odd} == odd
    assert taken.keys() == {*good, *odd}
    assert taken["bug"]["error"] == "/own/odd.py:7: NameError: name 'txt' is not defined"
    assert taken["error always"]["error"] == "RuntimeError: this page is cursed"
    assert taken["error always"]["attempts"] == 3
    assert "died" in taken["dies always"]["error"]
    done = [entry for shard, entry in taken.items() if shard not in ("bug", "error always", "dies always")]
    assert all("error" not in entry and entry["rows"] == 1 for entry in done)
    with pytest.raises(ray_session.ClusterError, match=r"needs 1 cores, 1,073,741,824 MiB and no GPU, but the"):
        fan(tmp_path / "more", Cluster(shard_memory=2**50), ["good"])


def test_workers_import_what_they_are_warmed_with(local: Cluster) -> None:
    def has() -> bool:
        time.sleep(0.5)  # so that no worker takes all
        return "sndhdr" in sys.modules

    ray_session.warm(local, 5, "sndhdr")
    assert any(ray.get([ray.remote(num_cpus=1)(has).remote() for _ in range(2)]))  # one may take what was for both


def test_a_stage_reserves_what_its_settings_say() -> None:
    cluster = Cluster(shard_memory=2**30)
    plain, large = (Language(stages.Language(**asked)) for asked in ({}, {"cores": 2, "memory": "4GiB", "gpus": 0.5}))
    assert fanout.reserved(plain, cluster) == {"CPU": 1, "memory": 2**30, "GPU": 0}
    assert fanout.reserved(large, cluster) == {"CPU": 2, "memory": 2**32, "GPU": 0.5}
    assert plain.fingerprint == large.fingerprint


def test_a_job_has_of_ray_what_its_stage_reserves(local: Cluster, tmp_path: Path) -> None:
    assert fan(tmp_path, local, ["good"], Reserving)[0] == 0
    given = json.loads((tmp_path / "attempts" / "given").read_text())
    assert (given["CPU"], given["memory"]) == (2, 2**27)


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([{"CPU": 8, "memory": 2**33, "GPU": 1}], None),
        ([{"CPU": 1, "memory": 2**33, "GPU": 1}, {"CPU": 8, "memory": 2**33}], "needs 2 cores, 4,096 MiB and 0.5 GPUs"),
        ([{"CPU": 8, "memory": 2**31, "GPU": 4}], "but the largest node of Ray has 8 cores, 2,048 MiB and 4 GPUs"),
        ([], "but the largest node of Ray has 0 cores, 0 MiB and no GPU"),
    ],
)
def test_a_stage_that_asks_for_what_no_node_has_stops_with_that_said(
    nodes: list[dict[str, float]], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "_GROWS", 0)
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    for cluster in (Cluster(), Cluster(address="auto")):
        needs = {"CPU": 2, "memory": 2**32, "GPU": 0.5}
        with pytest.raises(ray_session.ClusterError, match=told) if told else nullcontext():
            fanout._fit("edu", needs, cluster, lambda: alive)


def test_a_storage_that_denies_access_stops_the_run_at_the_first_attempt(local: Cluster, tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="s3://bucket may not be read"):
        fan(tmp_path, local, ["denied"])
    assert attempts(tmp_path, "denied") == 1


def test_a_storage_that_fails_costs_no_attempt_and_one_that_keeps_failing_stops_the_run(
    local: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "WAITS", (0.1,) * 4)
    failed, taken = fan(tmp_path / "passing", local, ["storage 4", *(f"good {number}" for number in range(5))])
    assert (failed, taken["storage 4"]["rows"], attempts(tmp_path / "passing", "storage 4")) == (0, 1, 5)
    stopped = tmp_path / "stopped"
    with pytest.raises(StoreError, match="s3://bucket cannot be read"):
        fan(stopped, local, [f"storage {number}" for number in range(90, 99)])
    assert 5 <= sum(attempts(stopped, f"storage {number}") for number in range(90, 99)) < 9 * 5


def test_the_death_of_ray_itself_is_one_plain_error(
    local: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(_: Any) -> None:
        raise ray.exceptions.LocalRayletDiedError

    monkeypatch.setattr(ray, "get", get)  # the raylet's real death may end this process, too
    with pytest.raises(
        ray_session.ClusterError, match=r"Ray failed: LocalRayletDiedError.*; run again to go on from here"
    ):
        fan(tmp_path, local, ["good"])


def test_a_dead_node_costs_a_job_no_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))  # for workers of nodes that Ray did not start here
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
    doomed = nodes.add_node(num_cpus=1)
    cluster = Cluster(address=nodes.address, shard_memory=2**26, attempts=1, crashes=1)
    try:
        with ray_session.running(cluster), ThreadPoolExecutor() as pool:
            done = pool.submit(fan, tmp_path, cluster, ["waits"])
            while not attempts(tmp_path, "waits"):
                assert not done.done()
                time.sleep(0.1)
            nodes.remove_node(doomed, allow_graceful=False)
            nodes.add_node(num_cpus=1)
            failed, taken = done.result(timeout=120)
    finally:
        nodes.shutdown()
    assert (failed, taken["waits"].get("error"), attempts(tmp_path, "waits")) == (0, None, 2)


def test_a_ray_that_does_not_answer_is_told_with_the_key_and_what_starts_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(
        ray_session.ClusterError, match=rf"cluster\.address: no Ray answers at {address}; `ray start --head`"
    ):
        ray_session.start(Cluster(address=address))
