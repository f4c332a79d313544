"""The store: a folder, or an object store that fsspec writes.

Guarantees: a path holds either nothing or a whole file. On a file system a commit is write, fsync, rename, fsync of the
folder; on an object store it is one PUT (above 100 MB the end of one multipart upload). Names that begin with a dot are
locks and writes in progress, and are never listed. Whatever a file system or a server raises, beside that a file is not
there, is a StoreError; requests that are worth it were then tried five times.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, ClassVar

import fsspec

from tasks.storage import leftovers
from tasks.storage.checksums import of_file, sealed, unsealed

_AT_ONCE = 32
"""Requests to an object store at a time."""


class StoreError(RuntimeError):
    """The store cannot be read or written; the message says where and why."""


class DamagedError(StoreError):
    """A file of the store is not what was written; the message says which, and what to do. `paths` are those files."""

    def __init__(self, message: str, *paths: str) -> None:
        super().__init__(message)
        self.paths = paths


class DeniedError(StoreError):
    """The store, or this file of it, may not be read or written by who asks."""


class BusyError(StoreError):
    """Another process has what was to be used alone."""


class Buffer(io.BytesIO):
    """What is written to an object store; `kept`: in its end the store kept another file that was there."""

    kept = False


class Temporary(io.BufferedWriter):
    """The same of a folder."""

    kept = False


class Store:
    """Files under one root. Paths are relative to it, with `/`. Safe to pickle and to use from many processes."""

    durable: ClassVar[bool] = True
    """Whether what is written is to outlive a loss of power."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.folder = None if "://" in url and not url.startswith("file://") else Path(url.removeprefix("file://"))
        if self.folder is not None:
            self.folder = self.folder.expanduser().absolute()
        self._remote: tuple[Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": str(self.folder) if self.folder else self.url, "folder": self.folder, "_remote": None}

    def _object_store(self) -> tuple[Any, str]:
        """The file system, which never answers from an old listing, and the root's path in it."""
        if self._remote is None:
            fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            self._remote = fs, root.rstrip("/")
        return self._remote

    @contextlib.contextmanager
    def explained(self, path: str, verb: str, missing: bool = True) -> Iterator[None]:
        """What a file system or server raises becomes a StoreError; but FileNotFoundError stays, if `missing`."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if missing and isinstance(error, FileNotFoundError):
                raise
            if self.folder and not isinstance(error, OSError):
                raise
            where = f"{str(self.folder or self.url).rstrip('/')}/{path}".rstrip("/")
            remedy = "check its access rights"
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = "free some space, or move the store"
            elif isinstance(error, NotADirectoryError):
                remedy = f"{self.folder} is, or is in, a file: name a folder"
            elif not self.folder:
                remedy = "check `store`, the bucket, the endpoint and its credentials"
            denied = isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS)
            kind = DeniedError if denied else StoreError
            raise kind(f"{where} cannot be {verb}: {type(error).__name__}: {error}; {remedy}") from error

    def local(self, path: str) -> Path | None:
        """The file's path where the store is a folder, for memory maps; None on an object store."""
        return self.folder / path if self.folder else None

    def open(self, path: str, ahead: int | None = None) -> IO[bytes]:
        """Open for reading; of an object store, `ahead` bytes are fetched beyond what is read, megabytes by default.
        Raises FileNotFoundError."""
        with self.explained(path, "read"):
            if self.folder:
                return open(self.folder / path, "rb")
            fs, root = self._object_store()
            return fs.open(f"{root}/{path}", "rb", block_size=ahead)

    def read(self, path: str) -> bytes:
        """The whole file, by one request. Raises FileNotFoundError."""
        with self.explained(path, "read"):
            if self.folder:
                return (self.folder / path).read_bytes()
            fs, root = self._object_store()
            return fs.cat_file(f"{root}/{path}")

    def json(self, path: str) -> Any:
        """A file of JSON. Raises FileNotFoundError, and DamagedError where it is not what was written."""
        return _parsed(path, self.read(path))

    def json_each(self, paths: Sequence[str]) -> Iterator[Any]:
        """Files of JSON in order, as `read_each` reads them. Raises FileNotFoundError and DamagedError."""
        yield from map(_parsed, paths, self.read_each(paths))

    def commit_json(self, path: str, document: dict[str, Any], private: bool = False) -> None:
        """Write a file of JSON, with its checksum, atomically; `private`: for its owner alone."""
        self.commit(path, sealed(document, path), private)

    def read_each(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Whole files in order, one after the other; of an object store several at a time. Raises FileNotFoundError."""
        if self.folder or len(paths) < 2:
            yield from map(self.read, paths)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(paths), _AT_ONCE):
                yield from pool.map(self.read, paths[start : start + _AT_ONCE])

    def exists(self, path: str) -> bool:
        with self.explained(path, "read"):
            if self.folder:
                return (self.folder / path).exists()
            fs, root = self._object_store()
            return fs.exists(f"{root}/{path}")

    def written_at(self, path: str) -> float | None:
        """When a file was written, in seconds by the store's own clock, which is one for all who write; None where that
        is not told. Raises FileNotFoundError."""
        with self.explained(path, "read"):
            if self.folder:
                return (self.folder / path).stat().st_mtime
            fs, root = self._object_store()
            try:
                return float(fs.modified(f"{root}/{path}").timestamp())
            except NotImplementedError:
                return None

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in `folder`, sorted; empty where it does not exist."""
        if self.folder:
            top = self.folder / folder
            return sorted(found.name for found in top.iterdir() if found.is_dir()) if top.is_dir() else []
        return sorted(name for name, entry in self._entries(folder) if entry["type"] == "directory")

    def list(self, folder: str) -> dict[str, int]:
        """Name -> size in bytes of the files directly in `folder`, sorted; empty where it does not exist."""
        if self.folder:
            try:
                with self.explained(folder, "listed"), os.scandir(self.folder / folder) as found:
                    return dict(
                        sorted((f.name, f.stat().st_size) for f in found if f.is_file() and not f.name.startswith("."))
                    )
            except FileNotFoundError:
                return {}
        return dict(sorted((name, entry["size"]) for name, entry in self._entries(folder) if entry["type"] == "file"))

    def checksums(self, folder: str, names: Iterable[str]) -> dict[str, str]:
        """The checksums of files of a folder; none of an object store, which sees to its own. Raises
        FileNotFoundError."""
        paths = {name: self.local(f"{folder}/{name}") for name in names}
        with self.explained(folder, "read"):
            return {name: of_file(path) for name, path in paths.items() if path}

    def _entries(self, folder: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """Name and facts of what is directly in a folder of an object store."""
        try:
            with self.explained(folder, "listed"):
                fs, root = self._object_store()
                found = fs.ls(f"{root}/{folder}" if folder else root, detail=True)
        except FileNotFoundError:
            return []
        return [(entry["name"].rstrip("/").rsplit("/", 1)[-1], entry) for entry in found]

    def walk(self, folder: str = "") -> dict[str, int]:
        """Path -> size in bytes of every file below `folder`, writes in progress included, sorted."""
        with contextlib.suppress(FileNotFoundError), self.explained(folder, "listed"):
            if self.folder:
                return {path: found.st_size for path, found in _walk(self.folder, folder)}
            fs, root = self._object_store()
            found = fs.find(f"{root}/{folder}" if folder else root, detail=True)
            return dict(sorted((name[len(root) + 1 :], info["size"]) for name, info in found.items()))
        return {}

    def leftovers(self) -> dict[str, int]:
        """Path -> size in bytes of what writers that were killed left anywhere in a folder's store; never a file of a
        writer that lives. An object store has none."""
        if not self.folder:
            return {}
        with self.explained("", "listed"):
            return {
                path: found.st_size
                for path, found in _walk(self.folder)
                if leftovers.left(path.rpartition("/")[2], found.st_mtime)
            }

    @contextlib.contextmanager
    def writer(self, path: str, once: bool = False, private: bool = False) -> Iterator[IO[bytes]]:
        """A binary file, committed when the block ends well and gone when it raises.

        `once`: the path names what makes its values, so the store keeps the file that it has already (on an object
        store by a conditional PUT); a worker that was taken for dead then changes nothing that others read. `private`:
        its owner alone may read it; so a folder that is made for it."""
        if not self.folder:
            buffer = Buffer()
            yield buffer
            with self.explained(path, "written", missing=False):
                fs, root = self._object_store()
                try:
                    fs.pipe_file(f"{root}/{path}", buffer.getvalue(), mode="create" if once else "overwrite")
                except FileExistsError:
                    buffer.kept = True
            return
        target = self.folder / path
        temporary = leftovers.temporary(target)
        with self.explained(path, "written", missing=False):
            target.parent.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(mode=0o700 if private else 0o777, exist_ok=True)
            try:
                opened = io.FileIO(temporary, "wb", opener=_private if private else None)
                with Temporary(opened) as file:
                    yield file
                    file.flush()
                    if self.durable:
                        os.fsync(file.fileno())
                if once:
                    try:
                        os.link(temporary, target)
                    except FileExistsError:
                        file.kept = True
                else:
                    os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            if self.durable:
                _sync_folder(target.parent)

    def commit(self, path: str, data: bytes, private: bool = False) -> None:
        """Write a whole file atomically; `private`: for its owner alone."""
        with self.writer(path, private=private) as file:
            file.write(data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a whole file where there is none, atomically: of any number of processes one does. Whether it was this
        one."""
        with self.explained(path, "written", missing=False):
            try:
                if not self.folder:
                    fs, root = self._object_store()
                    fs.pipe_file(f"{root}/{path}", data, mode="create")
                    return True
                target = self.folder / path
                temporary = leftovers.temporary(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with open(temporary, "wb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    os.link(temporary, target)
                finally:
                    temporary.unlink(missing_ok=True)
                _sync_folder(target.parent)
            except FileExistsError:
                return False
        return True

    def remove(self, *paths: str) -> None:
        """Remove files; they need not exist."""
        if self.folder or len(paths) < 2:
            for path in paths:
                self._remove(path)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._remove, paths))

    def sweep(self, folder: str) -> None:
        """Remove what writers that were killed left directly in a folder; nobody may be writing there."""
        if self.folder:
            for left in (self.folder / folder).glob(".*.*-*"):
                left.unlink(missing_ok=True)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), self.explained(path, "removed"):
            if self.folder:
                (self.folder / path).unlink()
            else:
                fs, root = self._object_store()
                fs.rm_file(f"{root}/{path}")

    def free(self) -> int | None:
        """Free bytes on the store's file system; None on an object store."""
        if not self.folder:
            return None
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def _walk(root: Path, folder: str = "") -> Sequence[tuple[str, os.stat_result]]:
    """Path below `root` and facts of every file below a folder of it, sorted. Raises OSError where one of its folders
    may not be listed: what is not seen there could be taken for not there."""

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    found = []
    for top, _, names in os.walk(root / folder, onerror=failed):
        for path in (Path(top, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    found.append((str(path.relative_to(root)), path.stat()))
    return sorted(found, key=lambda each: each[0])


def _parsed(path: str, data: bytes) -> Any:
    try:
        return unsealed(data, path)
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); bring it back, or remove it", path) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
