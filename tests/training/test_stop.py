"""Asking a training to end: who asks waits for one that hears, and not for one that is stopped."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tasks.storage.store import Store
from training import stop


def never(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(stop, "DEAF_SECONDS", 1.0)


def test_a_training_that_does_not_hear_is_not_waited_for(tmp_path: Path) -> None:
    store, began = Store(str(tmp_path)), time.monotonic()
    stop.ask(store, "r", 60, never)
    assert 1 <= time.monotonic() - began < 10
    assert not store.exists(stop.path("r"))


def test_a_training_that_hears_is_waited_for_until_it_has_saved(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    request = stop.Request(store, "r")
    request.saves = True
    began = time.monotonic()
    threading.Timer(3, request.obeyed).start()  # later than one that is deaf is given up
    stop.ask(store, "r", 60, never)
    assert request.asked
    assert 2.5 < time.monotonic() - began < 20
    assert not store.exists(stop.path("r"))


def test_a_training_that_hears_and_takes_too_long_is_given_up_in_the_end(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    request = stop.Request(store, "r")
    request.saves = True
    stop.ask(store, "r", 2, never)
    assert request.asked
    assert not store.exists(stop.path("r"))
    request.close()
