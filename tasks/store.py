"""The store: a folder, or an object store that fsspec writes.

Guarantees: a path holds either nothing or a whole file. On a file system a commit is write, fsync, rename, fsync of the
folder; on an object store it is one PUT. Names that begin with a dot are writes in progress and are never listed.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec


class StoreError(RuntimeError):
    """The store cannot be read or written; the message says where and why."""


class Store:
    """Files under one root. Paths are relative to it, with `/`. Safe to pickle and to use from many processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.folder = None if "://" in url and not url.startswith("file://") else Path(url.removeprefix("file://"))
        if self.folder is not None:
            self.folder = self.folder.absolute()
        self._remote: tuple[Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": str(self.folder) if self.folder else self.url, "folder": self.folder, "_remote": None}

    def _object_store(self) -> tuple[Any, str]:
        if self._remote is None:
            fs, root = fsspec.core.url_to_fs(self.url)
            self._remote = fs, root.rstrip("/")
        return self._remote

    def local(self, path: str) -> Path | None:
        """The file's path where the store is a folder, for memory maps; None on an object store."""
        return self.folder / path if self.folder else None

    def open(self, path: str) -> IO[bytes]:
        """Open for reading. Raises FileNotFoundError."""
        if self.folder:
            return open(self.folder / path, "rb")
        fs, root = self._object_store()
        fs.invalidate_cache()
        return fs.open(f"{root}/{path}", "rb")

    def read(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""
        with self.open(path) as file:
            return file.read()

    def exists(self, path: str) -> bool:
        if self.folder:
            return (self.folder / path).exists()
        fs, root = self._object_store()
        fs.invalidate_cache()
        return fs.exists(f"{root}/{path}")

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in `folder`, sorted; empty where it does not exist."""
        if self.folder:
            top = self.folder / folder
            return sorted(found.name for found in top.iterdir() if found.is_dir()) if top.is_dir() else []
        fs, root = self._object_store()
        fs.invalidate_cache()
        try:
            found = fs.ls(f"{root}/{folder}", detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in found if entry["type"] == "directory")

    def list(self, folder: str) -> dict[str, int]:
        """Name -> size in bytes of the files directly in `folder`, sorted; empty where it does not exist."""
        if self.folder:
            try:
                with os.scandir(self.folder / folder) as found:
                    return dict(
                        sorted((f.name, f.stat().st_size) for f in found if f.is_file() and not f.name.startswith("."))
                    )
            except FileNotFoundError:
                return {}
        fs, root = self._object_store()
        fs.invalidate_cache()
        try:
            found = fs.ls(f"{root}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
        return dict(sorted((f["name"].rsplit("/", 1)[-1], f["size"]) for f in found if f["type"] == "file"))

    def walk(self, folder: str = "") -> dict[str, int]:
        """Path -> size in bytes of every file below `folder`, writes in progress included, sorted."""
        if self.folder:
            top = self.folder / folder
            return dict(
                sorted((str(f.relative_to(self.folder)), f.stat().st_size) for f in top.rglob("*") if f.is_file())
            )
        fs, root = self._object_store()
        fs.invalidate_cache()
        found = fs.find(f"{root}/{folder}" if folder else root, detail=True)
        return dict(sorted((name[len(root) + 1 :], info["size"]) for name, info in found.items()))

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[IO[bytes]]:
        """A binary file, committed when the block ends well and gone when it raises."""
        if not self.folder:
            buffer = io.BytesIO()
            yield buffer
            fs, root = self._object_store()
            fs.pipe_file(f"{root}/{path}", buffer.getvalue())
            return
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    def commit(self, path: str, data: bytes) -> None:
        """Write a whole file atomically."""
        with self.writer(path) as file:
            file.write(data)

    def remove(self, path: str) -> None:
        """Remove a file; it need not exist."""
        if self.folder:
            (self.folder / path).unlink(missing_ok=True)
            return
        fs, root = self._object_store()
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{path}")

    def free(self) -> int | None:
        """Free bytes on the store's file system; None on an object store."""
        if not self.folder:
            return None
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
