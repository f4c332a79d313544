"""The files of a source: found by glob patterns or by a list of paths, locally or wherever fsspec reads.

Links to files are files under their own names. A link to a folder is followed where a pattern spells it out, not by its
wildcards. A link that leads nowhere, and a local file that cannot be opened, is listed as unreadable.

A file has a key, its path below the folder that all patterns share, or shared when the source was first read
(`tasks.sources.names`). Keys, not paths, enter the values of documents, so data may move with the paths of its spec. A
byte of a local name that is no UTF-8 is written `//` and two hexadecimal
digits in the key: `caf//e9.txt`. No path has an empty part, so no two files have one key, and a key leads to its file.
"""

from __future__ import annotations

import glob
import gzip
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, takewhile
from typing import IO

import fsspec
from fsspec.utils import glob_translate

from data_specs.amounts import plural
from data_specs.redaction import FOREIGN, printable
from data_specs.sources import SourceSettings, WarcSource, WetSource
from tasks.engine.reading import Part, SourceError
from tasks.engine.stage import digest
from tasks.sources import far
from tasks.sources.digests import Digests, content, remembered
from tasks.sources.names import Noted, below, relative
from tasks.sources.patterns import MAGIC, linked, remedy

log = logging.getLogger("sluice")

_VALIDATORS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "crc32c", "content_settings", "checksum"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "uploadTimestamp"),
)
"""What file systems of fsspec tell of a file's version."""
_MORE = (
    *("CRC", "sha", "blob_id", "oid", "lfs", "hash", "md5", "sha256", "version", "generation"),
    *("modify", "modificationTime", "modification_time", "last_write_time", "date_time", "created"),
)
"""What others tell of it, where there is none of those: members of archives, repositories, HDFS, FTP, memory."""
_AT_ONCE = 16
"""Files asked for at once: far away, each costs a request."""
_TASKS = 2000
"""Batches of files at most: a task costs more than a question about a local file."""
_ESCAPED = re.compile("//([89a-f][0-9a-f])")


@dataclass(frozen=True)
class File:
    key: str
    path: str
    size: int
    digest: str
    """Hexadecimal: of the content where the file is local, of size and validators (etag, ...) where it is remote."""
    written: str = ""
    """What tells that it is the same file: size and times of change, of content and of status, of a local one, else its
    digest."""


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A file open for reading. Of remote files, blocks are read as they are asked for. Raises OSError where it cannot
    be read, which names a remote file."""
    if path.startswith("/"):
        with open(path, "rb") as file:
            yield file
        return
    try:
        with fsspec.open(path, "rb", **far.options(path)) as file:
            yield file
    except Exception as error:
        if isinstance(error, SourceError):
            raise
        raise OSError(f"{path}: {far.reason(error)}") from error


@contextmanager
def steady(path: str) -> Iterator[IO[bytes]]:
    """A file as `opened`. Raises SourceError where one far away is another at the end than it was at the beginning:
    blocks of both may have been read."""
    before = "" if path.startswith("/") else state(path)
    with opened(path) as file:
        yield file
    if before and state(path) != before:
        raise SourceError(f"{path} changed while it was read; run again once it is written")


def unchanged(parts: Sequence[Part]) -> None:
    """Raises SourceError where a file is another than was listed, OSError where it cannot be asked for."""
    far_away = [part for part in parts if not part.path.startswith("/")]
    for part in parts:
        if part.path.startswith("/"):
            _unchanged(part)
    if far_away:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(_unchanged, far_away))


def _unchanged(part: Part) -> None:
    if part.written and (now := _noted_by(part.path)) != part.written and not _same_content(part, now):
        raise SourceError(
            f"{part.path} was written to since it was listed, and what was read of it may be of both versions; the "
            "next run reads what it holds then"
        )


def _noted_by(path: str) -> str:
    """What a file is noted by when it is listed: its `state`, and of a local one the time of change of its status, too,
    which no program sets: files that are copied with their times may be of the same size. Raises OSError."""
    return f"{state(path)} {os.stat(path).st_ctime_ns}" if path.startswith("/") else state(path)


def _same_content(part: Part, now: str) -> bool:
    """Whether a local file of the same size and time holds what was listed, as after a change of rights or links."""
    alike = now.rpartition(" ")[0] == part.written.rpartition(" ")[0]
    return part.path.startswith("/") and alike and content(part.path) == part.digest


def state(path: str) -> str:
    """What tells that a file was written to: of a local one its size in bytes and its time of change in nanoseconds, as
    the file system keeps it, so that all nodes of a shared folder see it alike; of others what `_far` gives, asked
    anew. Raises OSError."""
    if path.startswith("/"):
        found = os.stat(path)
        return f"{found.st_size} {found.st_mtime_ns}"
    try:
        fs, _ = fsspec.core.url_to_fs(path, **far.options(path))
        fs.invalidate_cache()
        return _far(path)[1]
    except Exception as error:
        raise OSError(f"{path}: {far.reason(error)}") from error


def _far(path: str) -> tuple[int, str, bool]:
    """Size and digest of a file far away, and whether anything beside its size tells its version. Raises whatever its
    file system does."""
    fs, plain = fsspec.core.url_to_fs(path, **far.options(path))
    info = fs.info(plain)
    if info["size"] is None:
        raise OSError("the server does not tell its size")
    version = {name: str(info[name]) for name in _VALIDATORS if name in info}
    if not any(info[name] for name in version):
        version |= {name: str(info[name]) for name in _MORE if info.get(name)}
    return int(info["size"]), digest([info["size"], version]), any(info[name] for name in version)


class Listing:
    """The files that a source's settings name."""

    def __init__(self, source: str, settings: SourceSettings) -> None:
        self.source = source
        self.settings = settings
        self.index = settings.listing if isinstance(settings, WarcSource | WetSource) else None
        self.unreadable: dict[str, str] = {}
        """Files that `files` found and that cannot be read, by key, and why."""
        self.digests: dict[str, str] = {}
        """The digests of the files that `files` found, by key."""
        self.noted: Noted | None = None
        """What the last run noted of the files' names."""
        self._unversioned: list[str] = []
        """Files far away that `files` found, and of whose versions nothing is told."""
        self._folder: str | None = None
        """The folder that keys are relative to, once it is known."""

    @cached_property
    def root(self) -> str:
        """The folder or URL that the patterns share: what `match` is relative to."""
        if self.index:
            return absolute(self.settings.patterns[0]).rstrip("/") + "/"
        parts = map(_parts, self.settings.patterns)
        plain = [folder + MAGIC.split(rest, maxsplit=1)[0] for folder, rest in parts]
        folders = zip(*(path.split("/")[:-1] for path in plain), strict=False)
        return "".join(names[0] + "/" for names in takewhile(lambda names: len(set(names)) == 1, folders))

    def path(self, key: str) -> str:
        """Where the file of a key lies."""
        if self._folder is None:
            self._folder = self._keeps(self._found()) if self.noted else self.root
        path = below(self._folder, key)
        return _unescaped(path)

    def files(self) -> list[File]:
        """The files, sorted by key, `match` and then `count` applied, but for those that are `unreadable`. Raises
        SourceError where a pattern matches nothing, nothing is left, or a file far away cannot be read."""
        self.unreadable, self._unversioned = {}, []
        names = sorted(self._listed(self.index) if self.index else self._found())
        self._tell_links()
        if self.settings.match is not None:
            try:
                matching = re.compile(self.settings.match)
            except re.error as error:
                raise SourceError(f"source {self.source}: match: {self.settings.match!r}: {error}") from None
            every, names = len(names), [name for name in names if matching.search(name)]
            if not names:
                raise SourceError(
                    f"source {self.source}: none of the {plural(every, 'file')} of {self._patterns} matches "
                    f"{self.settings.match!r}; correct `match`, or leave it out"
                )
        chosen = names[: self.settings.count]
        self._folder = self._keeps(chosen)
        keys = self._keys(chosen, self._folder) or []
        step = -(-len(keys) // _TASKS)
        batches = [keys[start : start + step] for start in range(0, len(keys), step)]
        with remembered(self.root) as digests, ThreadPoolExecutor(_AT_ONCE) as pool:
            files = list(chain.from_iterable(pool.map(partial(self._files, digests), batches)))
        if self._unversioned:
            first = printable(min(self._unversioned))
            more = f" and {len(self._unversioned) - 1:,} more" if self._unversioned[1:] else ""
            log.warning(
                "source %s: nothing tells the versions of %s%s: a change that keeps a file's size goes unseen",
                self.source,
                first,
                more,
            )
        self.digests = {file.key: file.digest for file in files}
        return files

    def names(self) -> dict[str, str]:
        """What a later run has to know of how the files are named (`Noted`), once they are listed."""
        folder = self._folder or self.root
        root = "" if "@" in folder else folder  # a password is not noted
        return {"patterns": self._written, "root": root, "offset": relative(folder, self.root) or ""}

    @property
    def _written(self) -> str:
        return digest(list(self.settings.patterns))

    def _keeps(self, names: Collection[str]) -> str:
        """The folder that keys are relative to, of files named below `root`."""
        if not self.noted or self.index:
            return self.root
        return self.noted.folder(self.root, self._written, partial(self._keys, names))

    def _keys(self, names: Collection[str], folder: str) -> list[str] | None:
        """The keys below a folder, sorted, of files named below `root`; None where one cannot be said so."""
        keys = [relative(self.root + name, folder) for name in names]
        return None if None in keys else [_escaped(key) for key in sorted(key for key in keys if key is not None)]

    def chooses(self, key: str) -> bool:
        """Whether a file of this key would be listed, were it there; with `count`, none is that is not."""
        if self.settings.count is not None:
            return False
        path = below(self._folder or self.root, key)
        if self.settings.match is not None and not re.search(self.settings.match, path.removeprefix(self.root)):
            return False
        return self.index is not None or any(
            re.fullmatch(glob_translate(escaping(pattern)), path) for pattern in self.settings.patterns
        )

    @property
    def _patterns(self) -> str:
        return self.index or ", ".join(self.settings.patterns)

    def _found(self) -> set[str]:
        names: set[str] = set()
        for pattern in self.settings.patterns:
            with self._explained(pattern):
                fs, plain = fsspec.core.url_to_fs(escaping(pattern), **far.options(pattern))
                fs.invalidate_cache()
                found = fs.glob(plain, detail=True)
            files = [
                name
                for name, info in found.items()
                if info["type"] == "file" or (info.get("islink") and not fs.isdir(name))
            ]
            paths = [absolute(fs.unstrip_protocol(name)) for name in files]
            if not paths:
                where = "" if "://" in pattern else f" in {os.getcwd()}"
                folder = any(info["type"] == "directory" for info in found.values())
                what = f"it is a folder: write {pattern.rstrip('/')}/**" if folder else remedy(pattern)
                raise SourceError(f"source {self.source}: {pattern} matches no file{where}; {what}")
            names.update(path.removeprefix(self.root) for path in paths)
        return names

    def _tell_links(self) -> None:
        """Warn of links to folders that the wildcards of the patterns do not follow, and no pattern spells out."""
        parts = [each for each in map(_parts, self.settings.patterns) if each[0]] if not self.index else []
        spelt = [folder for folder, _ in parts]
        links = {link for each in parts for link in linked(*each)}
        if passed := sorted(link for link in links if not any(folder.startswith(f"{link}/") for folder in spelt)):
            more = f" and {len(passed) - 1:,} more" if passed[1:] else ""
            log.warning(
                "source %s: wildcards do not follow links to folders, so nothing is read below %s%s; where it should "
                "be, name it in `paths`",
                self.source,
                printable(passed[0]),
                more,
            )

    def _listed(self, index: str) -> set[str]:
        with self._explained(index), steady(absolute(index)) as file:
            data = file.read()
            lines = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode().split()
        if not lines:
            raise SourceError(f"source {self.source}: {index} lists no file; correct `listing`")
        return {line.lstrip("/") for line in lines}

    def _files(self, digests: Digests, keys: list[str]) -> list[File]:
        return [file for key in keys if (file := self._file(digests, key))]

    def _file(self, digests: Digests, key: str) -> File | None:
        """The file of a key; None where it is local and unreadable."""
        path = self.path(key)
        if path.startswith("/"):
            try:
                before = _noted_by(path)
                return File(key, path, *digests.of(key, path), before)
            except OSError as error:
                nowhere = os.path.islink(path) and not os.path.exists(path)
                self.unreadable[key] = "a link that leads nowhere" if nowhere else f"{error.strerror or error}".lower()
                return None
        with self._explained(path):
            size, found, versioned = _far(path)
            if not versioned:
                self._unversioned.append(path)
            return File(key, path, size, found, found)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Whatever a file system raises becomes a SourceError."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:
            reason = far.reason(error).removeprefix(f"{what}: ")
            key = "listing" if what == self.index else "paths"
            raise SourceError(
                f"source {self.source}: {what} cannot be read: {reason}; correct `{key}` or the rights, or try later"
            ) from error


def _escaped(name: str) -> str:
    """A name as it stands in keys."""
    return FOREIGN.sub(lambda byte: f"//{ord(byte[0]) - 0xDC00:x}", name)


def _unescaped(path: str) -> str:
    """A local path with the bytes that are no UTF-8; a URL as it is."""
    return _ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), path) if path.startswith("/") else path


def absolute(pattern: str) -> str:
    """A local pattern as an absolute path; a URL as it is."""
    if pattern.startswith("file://"):
        pattern = pattern.removeprefix("file://")
    return pattern if "://" in pattern or "::" in pattern else os.path.abspath(os.path.expanduser(pattern))


def _parts(pattern: str) -> tuple[str, str]:
    """The folder that a local pattern spells out, as an absolute path, and what comes below it; a URL is all below."""
    pattern = pattern.removeprefix("file://")
    if "://" in pattern or "::" in pattern:
        return "", pattern
    pattern = pattern.rstrip("/") or "/"
    at = MAGIC.split(pattern, maxsplit=1)[0].rfind("/") + 1
    return absolute(pattern[:at] or ".").rstrip("/") + "/", pattern[at:]


def escaping(pattern: str) -> str:
    """A pattern as an absolute one, in which the names of folders above stand for themselves: the working directory may
    be called `[1]`."""
    folder, rest = _parts(pattern)
    return glob.escape(folder) + rest
