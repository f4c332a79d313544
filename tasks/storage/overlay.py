"""A store as it would be: what is written lies in a temporary folder, before the files of another store, which stays as
it is. For questions that are answered by computing what nobody may have committed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from tasks.storage import locks
from tasks.storage.store import Store


class Overlay(Store):
    """The files of `folder`, and those of `base` that are not there. Nothing of `base` is written or removed."""

    durable = False

    def __init__(self, folder: str, base: Store) -> None:
        super().__init__(folder)
        self.base = base

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"base": self.base}

    def _own(self, path: str) -> bool:
        return super().exists(path)

    def local(self, path: str) -> Path | None:
        return super().local(path) if self._own(path) else self.base.local(path)

    def open(self, path: str, ahead: int | None = None) -> IO[bytes]:
        return super().open(path, ahead) if self._own(path) else self.base.open(path, ahead)

    def read(self, path: str) -> bytes:
        return super().read(path) if self._own(path) else self.base.read(path)

    def exists(self, path: str) -> bool:
        return self._own(path) or self.base.exists(path)

    def folders(self, folder: str) -> list[str]:
        return sorted({*super().folders(folder), *self.base.folders(folder)})

    def list(self, folder: str) -> dict[str, int]:
        return dict(sorted((self.base.list(folder) | super().list(folder)).items()))

    def checksums(self, folder: str, names: Iterable[str]) -> dict[str, str]:
        own = [name for name in names if self._own(f"{folder}/{name}")]
        others = [name for name in names if name not in own]
        return self.base.checksums(folder, others) | super().checksums(folder, own)

    def walk(self, folder: str = "") -> dict[str, int]:
        return dict(sorted((self.base.walk(folder) | super().walk(folder)).items()))


@contextlib.contextmanager
def overlay(base: Store) -> Iterator[Overlay]:
    """A store over `base` while the block runs; what was written is gone then."""
    with TemporaryDirectory(prefix="sluice-overlay-") as folder, locks.shared(base):
        yield Overlay(folder, base)
