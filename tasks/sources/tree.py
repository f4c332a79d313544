"""The files of a repository: of a tar archive, plain or compressed, of a zip, or of the commit in a git bundle."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple

from tasks.engine.reading import SourceError
from tasks.sources import tar
from tasks.sources.compression import DamageError, Packing, Unpacked, compression_of
from tasks.sources.files import opened

_ZIP = b"PK\x03\x04"
_BUNDLE = b"# v"
_AHEAD = 2**16
_GIT = 600
"""Seconds that git may take for a bundle."""
_REFS = ("HEAD", "refs/heads/main", "refs/heads/master")
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError)


class TreeError(ValueError):
    """An archive that goes no further: `truncated`, `unreadable`, `bomb` or `window`. Of a damaged one `since` is the
    byte, unpacked, from which on nothing vouches for what was read."""

    def __init__(self, reason: str, since: int | None = None) -> None:
        super().__init__(reason)
        self.since = since


class Entry(NamedTuple):
    """A file of a repository."""

    path: str
    place: int
    """What tells it from the others: where it begins in the unpacked archive; in a bundle its number."""
    size: int
    data: bytes
    """Its first bytes, one more than asked for of a longer one."""


def entries(path: str, window: int, most: int) -> Iterator[Entry]:
    """The plain files of an archive, of each at most `most` bytes and one. Raises TreeError, and OSError or SourceError
    where that is no fault of the archive."""
    with opened(path) as file:
        head = file.read(512)
        file.seek(0)
        if head.startswith(_ZIP):
            yield from _zip(file, most)
        elif head.startswith(_BUNDLE):
            yield from _bundle(file, most)
        else:
            yield from _tar(file, compression_of(head), window, most)


class _Blocks:
    """A tar archive's bytes, of which tarfile asks for no more than it needs."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._ahead = b""

    def read(self, size: int) -> bytes:
        if not self._ahead:
            found: bytes = self._stream.read(size)
            return found
        found, self._ahead = self._ahead[:size], self._ahead[size:]
        return found

    def pass_zeros(self) -> int | None:
        """Go past blocks of zeros; how many bytes that were, None where nothing follows. To the end, so that a
        compression's checksum there is requests."""
        passed = 0
        while block := self.read(_AHEAD):
            if block.strip(b"\0"):
                zeros = (len(block) - len(block.lstrip(b"\0"))) // tar.BLOCK * tar.BLOCK
                self._ahead = block[zeros:] + self._ahead
                return passed + zeros
            passed += len(block)
        return None


class _Ended(tarfile.TarInfo):
    """A file of an archive that has to end as one does: tarfile takes what breaks off between two files for whole."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(archive)
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            if archive.offset:
                raise tarfile.ReadError("unexpected end of data") from None
            raise


def _tar(file: IO[bytes], compression: str | None, window: int, most: int) -> Iterator[Entry]:
    """The files of an archive, and of those that were put behind it."""
    raw: Any = Unpacked(file, Packing(compression, window)) if compression else file
    blocks, begins = _Blocks(io.BufferedReader(raw) if compression else raw), 0
    more: int | None = 0
    try:
        while more is not None:
            begins += more
            how: Any = {"fileobj": blocks, "mode": "r|", "bufsize": tar.BLOCK, "tarinfo": _Ended}
            with tarfile.open(**how) as archive:
                for member in archive:
                    if member.isreg() and (stream := archive.extractfile(member)):
                        place = begins + member.offset_data
                        yield Entry(_inside(member.name), place, member.size, stream.read(most + 1))
                    archive.members = []  # type: ignore[attr-defined]  # or it would keep all that were read
                begins += archive.fileobj.tell()
            more = blocks.pass_zeros()
    except DamageError as error:
        raise TreeError(error.reason, error.since if error.reason == "unreadable" else None) from error
    except EOFError as error:
        raise TreeError("truncated") from error
    except tarfile.ReadError as error:
        raise TreeError("truncated" if "unexpected end" in str(error) else "unreadable") from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise TreeError("unreadable") from error


def _zip(file: IO[bytes], most: int) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16):
                    with archive.open(member) as stream:
                        data = stream.read(most + 1)
                    yield Entry(_inside(zip_name(member)), member.header_offset, member.file_size, data)
    except _ZIP_DAMAGE as error:
        raise TreeError("unreadable") from error


def _bundle(file: IO[bytes], most: int) -> Iterator[Entry]:
    if not shutil.which("git"):
        raise SourceError("a git bundle is read by git, which is not installed: `sudo apt-get install git`")
    with TemporaryDirectory(prefix="sluice-") as folder, open(f"{folder}/bundle", "w+b") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        listed = _git(folder, "bundle", "list-heads", "bundle").decode(errors="replace").splitlines()
        refs = [line.split(" ", 1)[1] for line in listed if " " in line]
        ref = next((each for each in (*_REFS, *refs) if each in refs), None)
        if ref is None:
            raise TreeError("unreadable")
        _git(folder, "init", "-q", "--bare", "repository")
        _git(folder, "-C", "repository", "fetch", "-q", "--no-tags", "../bundle", f"+{ref}:refs/heads/read")
        tree = _git(folder, "-C", "repository", "ls-tree", "-r", "-z", "-l", "refs/heads/read").split(b"\0")
        files = [line.split(b"\t", 1) for line in tree if line.startswith(b"100")]
        with _blobs(folder) as (requests, replies):
            for number, (about, path) in enumerate(files):
                requests.write(about.split()[2] + b"\n")
                requests.flush()
                size = int(replies.readline().split()[-1])
                data = replies.read(min(size, most + 1))
                left = size - len(data) + 1
                while left > 0 and (passed := replies.read(min(left, 2**20))):
                    left -= len(passed)
                yield Entry(path.decode(errors="replace"), number, size, data)


def _environment(folder: str) -> dict[str, str]:
    quiet = {"HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return {"PATH": os.environ.get("PATH", ""), **quiet}


def _git(folder: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TreeError("unreadable") from error
    if done.returncode:
        raise TreeError("unreadable")
    return done.stdout


@contextmanager
def _blobs(folder: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Where objects are asked for by their names, and where they come."""
    command = ["git", "-C", "repository", "cat-file", "--batch"]
    with subprocess.Popen(
        command, cwd=folder, env=_environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as git:
        assert git.stdin is not None
        assert git.stdout is not None
        try:
            yield git.stdin, git.stdout
        finally:
            git.kill()


def zip_name(member: zipfile.ZipInfo) -> str:
    """The name of a file in a zip, which may be in UTF-8 without saying so."""
    if not member.flag_bits & 0x800 and not member.filename.isascii():
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode()
    return member.filename


def _inside(path: str) -> str:
    """A path as it is below its archive, without a byte that no text can hold."""
    return path.removeprefix("./").lstrip("/").encode(errors="replace").decode()
