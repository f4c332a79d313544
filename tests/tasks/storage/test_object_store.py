"""A store on an object store: an S3 server in this process, on loopback, that counts what it is asked for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from flows.cli import cli
from flows.run import Run
from tasks.engine import fanout, garbage_collection, worker
from tasks.engine.versions import Versions
from tasks.storage import cache, columns, lease
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.pins import Pins, fetched
from tasks.storage.store import BusyError, DamagedError, Store, StoreError
from tests import small
from tests.commands import told
from tests.whole import content, go, states

ROOT = Path(__file__).parents[3]
SMALL = ["sources.code.groups=1", "stages.duplicates.partitions=1"]


class S3:
    """moto's server behind a counter, which can also be told to be overloaded."""

    def __init__(self) -> None:
        self.application = DomainDispatcherApplication(create_backend_app)
        self.asked: list[tuple[str, str, str]] = []
        self.sent = 0
        self.overloaded: Callable[[int], bool] = lambda number: False

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]))
        if self.overloaded(len(self.asked)):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        body = b"".join(self.application(environ, start))
        self.sent += len(body)
        return [body]

    def since(self) -> list[tuple[str, str, str]]:
        """What was asked for since this was last called: method, path, query."""
        asked, self.asked, self.sent = self.asked, [], 0
        return asked


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = S3()
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    S3FileSystem.clear_instance_cache()
    boto3.client("s3").create_bucket(Bucket="sluice")
    yield application
    S3FileSystem.clear_instance_cache()
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
    server.shutdown()
    thread.join()
    server.server_close()


def together(
    stage: Any, stage_key: str, jobs: Any, store: Store, cluster: Any, commit: Callable[[list[Entry]], None]
) -> int:
    """The fan-out without Ray, entries taken at once as the real one takes those of two seconds."""
    del stage_key, cluster
    entries, failed, damages = [], 0, list[DamagedError]()
    stage = worker.prepare(stage, store)
    for job in jobs:
        try:
            entries.append(worker.run(stage, job, store))
        except DamagedError as error:
            damages.append(error)
        except Exception as error:
            entries.append(fanout.error_entry(job, error, 1))
            failed += 1
    commit(entries)
    fanout.stop_at(damages)
    return failed


@pytest.fixture(scope="module")
def corpus(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Run, Run]:
    """Spec, settings, the run in a folder and the run on the object store."""
    spec = small.corpus(tmp_path_factory.mktemp("corpus"), files=1)
    settings = [*SMALL, "store=s3://sluice/corpus", "mixture.shards=rows"]
    return spec, settings, go(spec, [*SMALL, "mixture.shards=rows"]), go(spec, settings, fan=together)


def test_a_corpus_has_the_content_that_it_has_in_a_folder(corpus: tuple[Path, list[str], Run, Run]) -> None:
    _, _, folder, remote = corpus
    assert set(states(remote).values()) == {"computed"}
    assert remote.store.local("") is None
    assert content(remote) == content(folder)
    plans = [run.store.read(f"{run.record['plan']}/tokens.json") for run in (folder, remote)]
    assert plans[0] == plans[1]


def test_a_second_run_reads_manifests_alone_and_writes_its_record_alone(
    s3: S3, corpus: tuple[Path, list[str], Run, Run]
) -> None:
    spec, settings, *_ = corpus
    s3.since()
    again = go(spec, settings, fan=together)
    asked = s3.since()
    assert set(states(again).values()) == {"cached"}
    assert {path.split("/")[3] for method, path, _ in asked if method == "PUT"} == {"runs"}
    assert not [path for _, path, _ in asked if path.endswith((".parquet", ".arrow")) and "/versions/" not in path]
    listed = [query for method, _, query in asked if "list-type" in query]
    assert len(listed) <= 2 * len(again.pipeline.outputs) + 8  # maps, reductions and missing objects, each once
    got = [path for method, path, _ in asked if method == "GET" and path.endswith(".jsonl")]
    assert len(got) == len(set(got))


def test_entries_that_were_lost_are_rebuilt_from_footers_and_nothing_is_computed(
    s3: S3, corpus: tuple[Path, list[str], Run, Run]
) -> None:
    spec, settings, _, first = corpus
    segments = [path for path in first.store.walk() if "/manifest/" in path and not path.startswith("models/")]
    assert len(segments) >= 15
    first.store.remove(*segments)
    s3.since()
    again = go(spec, settings, fan=together)
    asked = s3.since()
    assert set(states(again).values()) == {"cached"}
    assert {stage["jobs"] for stage in again.record["stages"]} == {0}
    assert content(again) == content(first)
    put = [path for method, path, _ in asked if method == "PUT"]
    assert not [path for path in put if "/versions/" in path]
    assert all("/manifest/" in path or path.startswith("/sluice/corpus/runs/") for path in put)


def test_questions_and_cleaning_work_as_in_a_folder(corpus: tuple[Path, list[str], Run, Run]) -> None:
    spec, settings, folder, _ = corpus
    options = [part for setting in settings for part in ("--set", setting)]
    for command, *rest in (("funnel",), ("query", "select reason, count(*) from corpus group by 1 order by 2, 1")):
        answers = [
            CliRunner().invoke(cli, [command, str(spec), *rest, "--json", *given])
            for given in (options, [*options, "--store", str(folder.store.local(""))])
        ]
        assert [answer.exit_code for answer in answers] == [0, 0]
        assert answers[0].output == answers[1].output
    assert CliRunner().invoke(cli, ["invalidate", str(spec), "exact", *options]).exit_code == 0
    assert CliRunner().invoke(cli, ["gc", str(spec), "--yes", *options]).exit_code == 0
    again = go(spec, settings, fan=together)
    assert {name for name, state in states(again).items() if state == "computed"} == {"exact"}
    assert content(again) == content(folder)


def test_a_file_is_written_by_one_request_and_kept_where_its_path_names_its_values(s3: S3) -> None:
    store = Store("s3://sluice/writes")
    s3.since()
    for data in (b"first", b"second"):
        with store.writer("values", once=True) as file:
            file.write(data)
    assert [method for method, *_ in s3.since()] == ["PUT", "PUT"]
    assert store.read("values") == b"first"
    store.commit("values", b"third")
    assert store.read("values") == b"third"
    with pytest.raises(RuntimeError), store.writer("broken") as file:
        file.write(b"half")
        raise RuntimeError
    assert store.walk() == {"values": 5}
    assert store.list("") == {"values": 5}
    assert not store.exists("broken")
    with pytest.raises(FileNotFoundError):
        store.read("broken")
    store.remove("values", "broken", "values")
    assert store.walk() == {}


def test_of_two_that_write_the_same_values_both_know_the_file_that_is_there(s3: S3) -> None:
    store, table = Store("s3://sluice/twice"), pa.table({"x": [1, 2, 3]})
    entries = []
    for run in ("one", "other"):
        entry = {"key": "k", "ids": None, "rows": 3, "run": run, "columns": columns.digests(table)}
        entries.append(entry | columns.write(store, "c/k.parquet", table, entry))
    assert entries[0] == entries[1]
    assert columns.read(store, "c/k.parquet", (), Recorded(None, entries[1]["checksum"])).equals(table)
    other = pa.table({"x": [4, 5, 6]})
    entry = {"key": "k", "ids": None, "rows": 3, "run": "third", "columns": columns.digests(other)}
    with pytest.raises(DamagedError, match="it is there with other values"):
        columns.write(store, "c/k.parquet", other, entry)


def test_what_another_process_wrote_or_removed_is_seen_at_once(s3: S3) -> None:
    store, other = Store("s3://sluice/seen"), boto3.client("s3")
    assert store.list("folder") == {}
    other.put_object(Bucket="sluice", Key="seen/folder/one", Body=b"1")
    assert store.exists("folder/one")
    assert store.list("folder") == {"one": 1}
    assert store.folders("") == ["folder"]
    other.put_object(Bucket="sluice", Key="seen/folder/one", Body=b"22")
    assert store.list("folder") == {"one": 2}
    assert store.read("folder/one") == b"22"
    other.delete_object(Bucket="sluice", Key="seen/folder/one")
    assert not store.exists("folder/one")
    assert store.list("folder") == {}


def test_of_a_large_file_only_the_columns_asked_for_are_fetched(s3: S3) -> None:
    store, rng = Store("s3://sluice/large"), np.random.default_rng(0)
    table = pa.table({"wide": [rng.bytes(256) for _ in range(32768)], "thin": np.arange(32768)})
    size = columns.write(store, "large.parquet", table, {"ids": "x"})["bytes"]
    assert size > 8 * 2**20
    s3.since()
    assert columns.read(store, "large.parquet", ("thin",), Recorded("x"))["thin"].equals(table["thin"])
    assert s3.sent < size / 4
    assert len(s3.since()) < 12
    with columns.opened(store, "large.parquet", Recorded("x")) as part:
        assert part(("wide", "thin"), 8200, 8300).equals(table.select(["wide", "thin"]).slice(8200, 100))
    assert s3.sent < size / 2
    assert len(s3.since()) < 12
    columns.write_slices(store, "slices.arrow", [table.slice(i * 4096, 4096) for i in range(8)], table.schema, {})
    s3.since()
    [batch] = columns.read_slices(store, "slices.arrow", {5: ""})
    assert batch["thin"].equals(table["thin"].slice(5 * 4096, 4096).combine_chunks())
    assert s3.sent < size / 4


def test_of_two_drivers_that_make_a_version_one_does(s3: S3, corpus: tuple[Path, list[str], Run, Run]) -> None:
    *_, remote = corpus
    versions = Versions(remote.store, remote.spec.name)
    facts = versions.read(1)
    again = Versions(remote.store, remote.spec.name)
    versions.create(facts | {"version": 2, "run": "first"})
    with pytest.raises(StoreError, match="has made version 2 of the corpus meanwhile: run again"):
        again.create(facts | {"version": 2, "run": "second"})
    assert again.read(2)["run"] == "first"
    remote.store.remove(f"{versions.folder}/000002.json", f"{versions.folder}/noted/000002")


def test_an_overloaded_server_is_asked_again(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("s3://sluice/overloaded")
    s3.since()
    monkeypatch.setattr(s3, "overloaded", lambda number: number % 2 == 1)
    for number in range(2):
        store.commit(f"{number}", b"data")
    with store.writer("1", once=True) as file:
        file.write(b"other")
    assert list(store.read_each(["0", "1"])) == [b"data", b"data"]
    assert store.list("") == {"0": 4, "1": 4}
    monkeypatch.undo()
    assert len(s3.since()) >= 10


def test_what_cannot_be_reached_is_told_with_url_and_remedy(s3: S3, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"s3://nobody/x/a cannot be written: .*bucket does not exist; check `store`"):
        Store("s3://nobody/x").commit("a", b"1")
    assert Store("s3://nobody/x").list("a") == Store("s3://nobody/x").walk() == {}
    with pytest.raises(StoreError, match="Protocol not known: nothing"):
        Store("nothing://x").exists("a")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"file/a/b cannot be written: .*; check its access rights"):
        Store(str(tmp_path / "file")).commit("a/b", b"1")


def test_a_pinned_file_is_fetched_once_and_again_when_its_copy_is_damaged(
    s3: S3, corpus: tuple[Path, list[str], Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = corpus[3]
    [(path, sha256)] = remote.pipeline.pins.files("domain").items()
    local = fetched(remote.store, path, sha256)
    s3.since()
    assert fetched(remote.store, path, sha256) == local
    assert s3.since() == []
    local.write_bytes(b"damaged")
    assert fetched(remote.store, path, sha256).read_bytes() == remote.store.read(path)
    assert list((tmp_path / "sluice" / "models").iterdir()) == [local]
    with pytest.raises(StoreError, match="pinned was 0000"):
        fetched(remote.store, path, "0" * 64)
    with pytest.raises(StoreError, match="is pinned but gone from the store; bring it back, or learn it anew with"):
        fetched(remote.store, "models/nothing.bin", "0" * 64)


def test_what_two_runs_pin_stays_and_each_goes_on_with_its_own(s3: S3) -> None:
    store = Store("s3://sluice/pinned")
    one, other = Pins(store, "small"), Pins(store, "small")
    one.set("quality", {"value": 1, "run": "one"})
    other.set("tokenizer", {"value": 2, "run": "other"})
    other.set("quality", {"value": 3, "run": "other"})
    one.set("tokenizer", {"value": 4, "run": "one"})
    assert [pin and pin["value"] for pin in map(one.get, ("quality", "tokenizer"))] == [1, 4]
    history = Pins(store, "small").history
    assert {name: [pin["value"] for pin in pins] for name, pins in history.items()} == {
        "quality": [1, 3],
        "tokenizer": [2, 4],
    }


def test_entries_are_read_whole_while_a_run_makes_one_segment_of_many(s3: S3) -> None:
    manifest = Manifest(Store("s3://sluice/segments"), "stage")
    for number in range(64):
        manifest.append([{"key": str(number % 9), "rows": number}])
    reader = manifest.entries()
    first = next(reader)
    manifest.append([{"key": "last", "rows": 64}])
    assert len(manifest.store.list("stage/manifest")) == 1
    rows = {entry["key"]: entry["rows"] for entry in [first, *reader]}
    assert rows == {**{str(key): 54 + key if key else 63 for key in range(9)}, "last": 64}


def test_two_drivers_work_at_once_and_one_is_killed(
    s3: S3, corpus: tuple[Path, list[str], Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _, folder, _ = corpus
    settings = [*SMALL, "store=s3://sluice/drivers", "mixture.shards=rows"]
    store = Store("s3://sluice/drivers")
    command = [sys.executable, "-m", "tests.drivers", str(spec), *settings]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    first, second = drivers
    try:
        assert first.stdout is not None
        while (line := first.stdout.readline().strip()) != "learn_quality":
            assert line
        with pytest.raises(BusyError), garbage_collection.alone(store):
            pass
        first.kill()
        said, _ = second.communicate(timeout=240)
    finally:
        for each in drivers:
            each.kill()
            each.wait()
    assert second.returncode == 0
    assert said.split()[-1] == "token_estimate"
    monkeypatch.setattr(lease, "TTL", 600.0)  # the other may have taken more than a minute since
    with pytest.raises(BusyError), garbage_collection.alone(store):
        pass  # the one that was killed is forgotten after that time
    monkeypatch.setattr(lease, "TTL", 0.0)
    with garbage_collection.alone(store):
        pass
    third = go(spec, settings, fan=together)
    assert set(states(third).values()) == {"cached"}
    found = content(third)
    assert {name: value for name, value in found.items() if not name.startswith("pin ")} == {
        name: value for name, value in content(folder).items() if not name.startswith("pin ")
    }
    for name in (name for name in found if name.startswith("pin ")):
        assert found[name][-1] == content(folder)[name][-1]  # each driver may have pinned it, and each the same


def test_a_takedown_purges_an_object_store(s3: S3, corpus: tuple[Path, list[str], Run, Run]) -> None:
    spec, settings, _, remote = corpus
    given = [spec, *(f"--set={each}" for each in settings)]
    asked = "select id, url, text from corpus where kept and url is not null and cluster is null limit 1"
    [[name, url, text]] = told("query", *given, asked)["rows"]
    line = max(text.split("\n"), key=len)
    [[held_out, its_text]] = told("query", *given, "select id, text from corpus where evaluated limit 1")["rows"]
    its_line = max(its_text.split("\n"), key=len)
    assert holding(Store("s3://sluice/corpus"), line)
    copy = cache.folder("models") / f"{remote.pipeline.pins.get('held_out')['sha256']}.arrow"
    assert copy.exists()
    found = told("takedown", *given, "--url", url, "--id", held_out, "--only", "--yes")
    assert (found["state"], found["count"]) == ("ended", 2)
    assert holding(Store("s3://sluice/corpus"), line) == holding(Store("s3://sluice/corpus"), its_line) == []
    assert not copy.exists()
    after = go(spec, settings, fan=together)
    assert after.record["funnel"]["dropped"]["takedown"] == 2
    assert told("inspect", *given, name)["taken_down"]["takedown"] == 1
    assert set(states(go(spec, settings, fan=together)).values()) == {"cached"}
    assert holding(Store("s3://sluice/corpus"), line) == []


def holding(store: Store, line: str) -> list[str]:
    """Column files in which a line stands."""
    found = []
    for path in store.walk():
        if path.endswith((".parquet", ".arrow")) and line in str(_values(store, path)):
            found.append(path)
    return found


def _values(store: Store, path: str) -> list[Any]:
    source = pa.BufferReader(store.read(path))
    table = pq.read_table(source) if path.endswith(".parquet") else pa.ipc.open_file(source).read_all()
    return table.to_pylist()
