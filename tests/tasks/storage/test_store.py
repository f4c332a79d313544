"""The store: whole files or none, on a folder and on an object store."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.storage.store import BusyError, Store, StoreError


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
        "import sys, time\nfrom tasks.storage.store import Store\n"
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
        f"import time\nfrom tasks.storage.store import Store\n"
        f"with Store({str(tmp_path)!r}).alone('runs/one'):\n    print('inside', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(StoreError, match="runs/one is being written by process [0-9]+ on"), store.alone("runs/one"):
            pass
        with store.alone("runs/two"):
            child.kill()
    with store.alone("runs/one"):
        pass


def test_a_store_is_shared_by_many_and_had_alone_by_one_when_all_have_ended(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    code = (
        "import sys, time\nfrom tasks.storage.store import Store\nprint('before', flush=True)\n"
        f"with Store({store.url!r}).shared():\n    print('inside', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    with ExitStack() as lock:
        lock.enter_context(store.alone())
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"before\n"
            assert select.select([child.stdout], [], [], 0.5) == ([], [], [])
            lock.close()
            assert child.stdout.readline() == b"inside\n"
            with store.shared(), store.shared(), pytest.raises(BusyError), store.alone():
                pass
            with pytest.raises(BusyError), store.alone():
                pass
            child.kill()
    with store.alone():
        assert store.list("") == {}
