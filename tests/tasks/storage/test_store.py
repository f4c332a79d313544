"""The store: whole files or none, on a folder and on an object store."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tasks.storage import leftovers, locks
from tasks.storage.store import BusyError, DeniedError, Store, StoreError


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}")


def test_a_committed_file_is_read_back_listed_and_removed(store: Store) -> None:
    store.commit("a/b/one", b"1")
    store.commit("a/b/two", b"22")
    store.commit("a/b/one", b"333")
    assert store.read("a/b/one") == b"333"
    assert store.list("a/b") == {"one": 3, "two": 2}
    assert store.walk() == {"a/b/one": 3, "a/b/two": 2}
    assert store.folders("a") == ["b"]
    store.remove("a/b/one")
    store.remove("a/b/one")
    assert not store.exists("a/b/one")
    assert store.list("nowhere") == {}
    with pytest.raises(FileNotFoundError):
        store.read("a/b/one")


@pytest.mark.parametrize("write", [Store.commit, Store.create])
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Store, str, bytes], object]
) -> None:
    synced: list[tuple[bool, bool, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(found.st_mode), (tmp_path / "a" / "one").exists(), found.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    write(Store(str(tmp_path)), "a/one", b"whole")
    assert synced[0] == (False, False, 5)
    assert [each[:2] for each in synced[1:]] == [(True, True)]


def test_a_writer_that_raises_leaves_nothing(store: Store) -> None:
    store.commit("kept", b"old")
    for path in ("kept", "new"):
        with pytest.raises(RuntimeError), store.writer(path) as file:
            file.write(b"half")
            raise RuntimeError
    assert store.read("kept") == b"old"
    assert store.walk() == {"kept": 3}


def test_a_writer_killed_in_the_middle_leaves_the_old_file_and_nothing_that_is_listed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit("shard", b"old")
    code = (
        "import sys, time\nfrom tasks.storage import locks\nfrom tasks.storage.store import Store\n"
        f"with Store({str(tmp_path)!r}).writer('shard') as file:\n"
        "    file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    assert len(os.listdir(tmp_path)) == 2
    store.sweep("")
    assert os.listdir(tmp_path) == ["shard"]
    assert store.read("shard") == b"old"
    assert store.list("") == {"shard": 3}


def test_readers_see_only_whole_files_while_writers_race(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit("raced", b"a" * 100_000)
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            for byte in b"bcde" * 5:
                store.commit("raced", bytes([byte]) * 100_000)
            os._exit(0)
        children.append(child)
    deadline = time.monotonic() + 30
    while children and time.monotonic() < deadline:
        content = store.read("raced")
        assert len(content) == 100_000
        assert len(set(content)) == 1
        children = [child for child in children if os.waitpid(child, os.WNOHANG) == (0, 0)]
    assert not children


def test_a_folder_is_one_processs_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    code = (
        f"import time\nfrom tasks.storage import locks, store\n"
        f"with locks.alone(store.Store({str(tmp_path)!r}), 'runs/one'):\n"
        "    print('inside', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with (
            pytest.raises(StoreError, match=r"runs/one is being written by process \d+"),
            locks.alone(store, "runs/one"),
        ):
            pass
        with locks.alone(store, "runs/two"):
            child.kill()
    with locks.alone(store, "runs/one"):
        pass


def test_a_store_is_shared_by_many_and_had_alone_by_one_when_all_have_ended(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    code = (
        "import sys, time\nfrom tasks.storage import locks, store\nprint('before', flush=True)\n"
        f"with locks.shared(store.Store({store.url!r})):\n    print('inside', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    with ExitStack() as lock:
        lock.enter_context(locks.alone(store))
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"before\n"
            assert select.select([child.stdout], [], [], 0.5) == ([], [], [])
            lock.close()
            assert child.stdout.readline() == b"inside\n"
            with locks.shared(store), locks.shared(store), pytest.raises(BusyError), locks.alone(store):
                pass
            with pytest.raises(BusyError), locks.alone(store):
                pass
            child.kill()
    with locks.alone(store):
        assert store.list("") == {}


def test_a_run_that_waits_says_for_whom_and_goes_on_when_that_one_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path))
    lock = ExitStack()
    lock.enter_context(locks.alone(store, who="gc"))
    timer = threading.Timer(0.5, lock.close)
    timer.start()
    with locks.shared(store):
        assert not timer.is_alive()
    who = f"gc, process {os.getpid()} on {socket.gethostname()}"
    assert caplog.messages == [f"{tmp_path}: waiting for {who}, which works there alone"]


def test_what_is_private_is_its_owners_alone_and_data_keeps_the_umask(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    old = os.umask(0o022)
    try:
        store.commit("runs/records/one/run.json", b"{}", private=True)
        store.commit("runs/training/run.json", b"{}")
        store.commit("runs/training/run.json", b"{}", private=True)
        store.commit("columns/a", b"1")
    finally:
        os.umask(old)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {
        "runs": 0o755,
        "runs/records": 0o755,
        "runs/records/one": 0o700,
        "runs/records/one/run.json": 0o600,
        "runs/training": 0o755,
        "runs/training/run.json": 0o600,
        "columns": 0o755,
        "columns/a": 0o644,
    }


def test_leftovers_are_those_of_writers_that_are_dead(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    mine = leftovers.temporary(tmp_path / "models" / "a.b.c")
    here = mine.name.rpartition(".")[2].partition("-")[0]
    dead = [f".one.{here}-{2**22 + 7}-0123abcd", f".manifest.jsonl.{here}-{2**22 + 8}-0123abcd"]
    elsewhere = [".two.fedcba98-1-0123abcd", ".three.1-0123abcd"]
    alive = [mine.name, f".four.{here}-{os.getppid()}-0123abcd", ".lock", ".x.lock", "five.fedcba98-1-0123abcd"]
    for folder in ("", "models", "runs/x/log", "plans/p", "pins"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in (*dead, *elsewhere, *alive):
            (tmp_path / folder / name).write_bytes(b"half")
    assert {Path(path).name for path in store.leftovers()} == set(dead)
    assert len(store.leftovers()) == 5 * len(dead)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 2 * 86400,) * 2)
    found = {Path(path).name for path in store.leftovers()}
    assert found == {*dead, *elsewhere, *alive[:2]}  # that processes began long after their last write


def test_a_folder_that_may_not_be_listed_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.commit("runs/records/one/run.json", b"{}")
    real = os.scandir

    def denied(path: os.PathLike[str]) -> Any:
        if str(path).endswith("one"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DeniedError, match="cannot be listed: PermissionError"):
        store.walk()


def test_of_many_that_create_a_file_one_does_and_its_bytes_are_there(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: store.create("versions/a/000001.json", b"%d" % n * 1000), range(8)))
    assert sum(made) == 1
    assert store.read("versions/a/000001.json") == b"%d" % made.index(True) * 1000
    assert [path.name for path in (tmp_path / "versions" / "a").iterdir()] == ["000001.json"]
