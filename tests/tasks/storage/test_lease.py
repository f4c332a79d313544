"""Leases: who has a folder of an object store, alone or with others, and until when."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.storage import lease, locks
from tasks.storage.store import BusyError, DeniedError, Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.02)
    return Store(f"memory://{tmp_path.name}")


def abandoned(store: Store, alone: bool, folder: str = "") -> None:
    """What a process that was killed leaves."""
    left = lease._Lease(store, f"leases/{folder or 'store'}", "killed", alone)
    assert left.taken_by() == ""


def aged(store: Store, name: str, seconds: float) -> None:
    """Have the store say that a lease was written so long ago."""
    fs, root = store._object_store()
    found = next(file for path, file in fs.store.items() if path.endswith(f"{root}/leases/store/{name}".lstrip("/")))
    found.modified -= timedelta(seconds=seconds)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("off", [-86400.0, 86400.0])
def test_a_clock_that_is_wrong_neither_takes_a_lease_that_is_held_nor_waits_for_one_that_was_left(
    store: Store, monkeypatch: pytest.MonkeyPatch, alone: bool, off: float
) -> None:
    right = time.time
    held = locks.alone(store, who="a run") if alone else locks.shared(store)
    with held:
        monkeypatch.setattr(time, "time", lambda: right() + off)  # of another machine
        with pytest.raises(BusyError), locks.alone(store):
            pass
        monkeypatch.setattr(time, "time", right)
    monkeypatch.setattr(time, "time", lambda: right() + off)  # of one that was killed
    abandoned(store, alone)
    monkeypatch.setattr(time, "time", right)
    for name in store.list("leases/store"):
        aged(store, name, lease.TTL + 1)
    with locks.alone(store):
        pass


def test_a_store_that_does_not_tell_when_a_file_was_written_is_asked_by_the_machines_clock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "written_at", lambda *_: None)
    abandoned(store, True)
    with pytest.raises(BusyError), locks.alone(store):
        pass
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + lease.TTL + 1)
    with locks.alone(store):
        pass


def test_a_folder_is_one_processs_and_another_folder_is_anothers(store: Store) -> None:
    with locks.alone(store, "runs/one", "run one"):
        with (
            pytest.raises(BusyError, match="runs/one is being written by run one, process"),
            locks.alone(store, "runs/one"),
        ):
            pass
        with locks.alone(store, "runs/two"):
            pass
    with locks.alone(store, "runs/one"):
        pass


def test_a_store_is_shared_by_many_and_had_alone_by_one_when_all_have_ended(store: Store) -> None:
    with locks.shared(store), locks.shared(store), pytest.raises(BusyError), locks.alone(store):
        pass
    with locks.shared(store):
        pass
    with locks.alone(store), pytest.raises(BusyError), locks.alone(store):
        pass
    with locks.alone(store):
        pass


def test_a_run_waits_for_who_has_the_store_alone(store: Store) -> None:
    order: list[str] = []
    entered = threading.Event()

    def wait() -> None:
        with locks.shared(store):
            order.append("shared")
            entered.set()

    with locks.alone(store, who="gc"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        order.append("alone")
    assert entered.wait(20)
    waiting.join()
    assert order == ["alone", "shared"]


@pytest.mark.parametrize("alone", [True, False])
def test_a_process_that_was_killed_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    abandoned(store, alone)
    with pytest.raises(BusyError, match="killed"), locks.alone(store):
        pass
    monkeypatch.setattr(lease, "TTL", 0.0)
    with locks.alone(store):
        pass
    with locks.shared(store):
        pass


def test_a_lease_that_is_held_is_renewed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TTL", 1.0)
    with locks.alone(store):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            with pytest.raises(BusyError), locks.alone(store):
                pass
            time.sleep(0.1)


def test_of_many_that_want_what_was_left_one_gets_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned(store, True)
    monkeypatch.setattr(lease, "TTL", 30.0)
    [name] = store.list("leases/store")
    aged(store, name, 60)
    ready, inside = threading.Barrier(8), list[int]()

    def want(number: int) -> None:
        ready.wait()
        with ExitStack() as stack:
            try:
                stack.enter_context(locks.alone(store))
            except BusyError:
                return
            inside.append(number)
            ready.wait(20)

    def rest() -> None:
        while not inside:
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(want, number) for number in range(8)]
        rest()
        deadline = time.monotonic() + 20
        while sum(each.done() for each in work) < 7 and time.monotonic() < deadline:
            time.sleep(0.01)
        ready.abort()
    assert len(inside) == 1


def test_a_store_that_may_not_be_written_is_read_without_a_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bool:
        raise DeniedError("no")

    monkeypatch.setattr(Store, "create", denied)
    with locks.shared(store):
        pass
    with pytest.raises(DeniedError), locks.alone(store):
        pass
