"""Numbered files: pins, takedowns and versions, of which the newest may be lost like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.takedowns import Takedowns
from tasks.engine.versions import Versions
from tasks.storage.numbered import Numbered
from tasks.storage.pins import Pins
from tasks.storage.store import DamagedError, Store


def test_every_number_that_was_written_is_missed_where_its_file_is_lost(tmp_path: Path) -> None:
    files = Numbered(Store(str(tmp_path)), "some")
    assert files.numbers() == ([], [])
    for number in range(1, 4):
        assert files.create(number, {"number": number})
    assert not files.create(3, {"number": "another"})
    assert files.numbers() == ([1, 2, 3], [])
    for number in range(3, 0, -1):
        (tmp_path / files.path(number)).unlink()
        assert files.numbers() == ([*range(1, number)], [*range(number, 4)])


def test_without_notes_as_earlier_versions_wrote_files_a_gap_is_missed(tmp_path: Path) -> None:
    files = Numbered(Store(str(tmp_path)), "some")
    for number in range(1, 4):
        files.store.commit_json(files.path(number), {})
    (tmp_path / files.path(2)).unlink()
    assert files.numbers() == ([1, 3], [2])


def test_the_newest_pin_and_the_newest_version_are_missed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    pins = Pins(store, "mine")
    for value in range(2):
        pins.set("groups_web", {"value": value})
    assert [pin["value"] for pin in Pins(store, "mine").history["groups_web"]] == [0, 1]
    (tmp_path / "pins/mine/000002.json").unlink()
    with pytest.raises(DamagedError, match=r"pins/mine/000002\.json is gone"):
        Pins(store, "mine")

    versions = Versions(store, "mine")
    for number in range(1, 3):
        versions.create({"version": number, "state": "accepted"})
    (tmp_path / "versions/mine/000002.json").unlink()
    with pytest.raises(DamagedError, match=r"000002\.json is gone: .* or remove versions/") as lost:
        versions.newest()
    (tmp_path / str(lost.value).partition("remove ")[2].partition(",")[0]).unlink()
    assert versions.numbers() == [1]
    assert not Takedowns(store)
