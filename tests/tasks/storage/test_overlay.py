"""A store as it would be, over one that stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.storage.overlay import overlay
from tasks.storage.store import Store


def test_what_is_written_is_read_before_what_is_below_and_is_gone_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Store(str(tmp_path))
    base.commit("a/one", b"1")
    base.commit("a/two", b"2")
    before = base.walk()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with overlay(base) as over:
        over.commit("a/two", b"other")
        over.commit("b/three", b"3")
        assert [over.read(path) for path in ("a/one", "a/two", "b/three")] == [b"1", b"other", b"3"]
        assert over.list("a") == {"one": 1, "two": 5}
        assert over.folders("") == ["a", "b"]
    assert not synced  # nobody waits for the disk for what is thrown away
    assert {path: size for path, size in base.walk().items() if path in before} == before
    assert base.read("a/two") == b"2"
    assert not base.exists("b/three")
