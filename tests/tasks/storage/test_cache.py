"""The cache folder: one's own, and nobody else's links are followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tasks.storage import cache
from tasks.storage.store import StoreError


def test_the_folder_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "caches" / "sluice").mkdir(parents=True, mode=0o777)
    (tmp_path / "caches" / "sluice").chmod(0o777)
    found = cache.folder("models")
    assert found == cache.folder("models") == tmp_path / "caches" / "sluice" / "models"
    assert [stat.S_IMODE(part.stat().st_mode) for part in (found, found.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("name", ["sluice", "sluice/models"])
def test_a_link_in_its_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    link, other = tmp_path / "caches" / name, tmp_path / "another's"
    (other / "models").mkdir(parents=True)
    link.parent.mkdir(parents=True)
    link.symlink_to(other)
    with pytest.raises(StoreError, match=f"{link} is a link, or not yours; remove it"):
        cache.folder("models")


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.folder("models")
    mine = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: mine + 1)
    with pytest.raises(StoreError, match="sluice is a link, or not yours"):
        cache.folder("models")


def test_without_a_place_there_is_a_temporary_folder_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = cache.folder("models")
    assert found == cache.folder("models")
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
