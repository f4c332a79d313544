"""Digests of local files' contents, remembered, so that a listing reads only what is new.

A file counts as unchanged while its size, its inode and its times of last change, of content and of status, are what
they were, as in git's index. A file that changed within a few seconds of being hashed may change again unnoticed, so it
is not remembered and is hashed again the next time. `touch` costs a hash and gives the same digest. What is not seen is
a change that keeps all of these: by a clock that was set back, or on a file system whose time of status change can be
set; there, content of the same size under a restored old time of change keeps the digest of what it replaced.

They are kept in the user's cache folder, not in the store: they are facts about this machine's files, a question to the
store must not write to it, and a crawl that several stores read is hashed once. One file for each folder that sources
name, replaced as a whole; when two commands replace it the later one wins, and what is missing, damaged or unwritable
only costs hashing. A file that was not listed for `_DAYS` is forgotten.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from tasks.storage import cache

_RACY = 3 * 10**9
"""Nanoseconds; the coarsest file system in use (FAT) keeps times to two seconds."""
_DAYS = 60
_DAY = 86400

Entry = tuple[str, str, int]
"""What the file was known by, its digest, and the day (since 1970) on which it was last listed."""


class Digests:
    """The digests of files below one folder."""

    def __init__(self, root: str) -> None:
        self._path = (cache.place("digests") or Path(os.devnull)) / f"{_hexadecimal(os.fsencode(root))}.json"
        self._known = _read(self._path)
        self._fresh: dict[str, Entry] = {}

    def of(self, key: str, path: str) -> tuple[int, str]:
        """Size in bytes and content digest (BLAKE2b, 128 bits, hexadecimal) of the file at `path`, remembered under
        `key`. Raises OSError."""
        now = time.time_ns()
        today = now // 10**9 // _DAY
        found = os.stat(path)
        facts = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
        known, digest, day = self._known.get(key, ("", "", 0))
        if known == facts:
            again = day < today - _DAYS // 10
        else:
            again = max(found.st_mtime_ns, found.st_ctime_ns) < now - _RACY
            digest = content(path)
        if again:
            self._fresh[key] = (facts, digest, today)
        return found.st_size, digest

    def save(self) -> None:
        """Remember what was hashed, if anything was."""
        if not self._fresh:
            return
        oldest = time.time() - _DAYS * _DAY
        entries = {key: entry for key, entry in (self._known | self._fresh).items() if entry[2] >= oldest // _DAY}
        body = orjson.dumps(entries)
        part = self._path.with_suffix(f".{secrets.token_hex(4)}")
        with suppress(OSError):
            for folder in (self._path.parent.parent, self._path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                part.write_bytes(_hexadecimal(body).encode() + b"\n" + body)
                os.replace(part, self._path)
            finally:
                part.unlink(missing_ok=True)
            for other in self._path.parent.iterdir():
                if other != self._path and other.stat().st_mtime < oldest:
                    other.unlink(missing_ok=True)


def content(path: str) -> str:
    """The digest of a file's content. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def remembered(root: str) -> Iterator[Digests]:
    """The digests of files below `root`, saved at the end, be it by an error."""
    digests = Digests(root)
    try:
        yield digests
    finally:
        digests.save()


def _read(path: Path) -> dict[str, Entry]:
    """The entries of a file that is whole; none of any other."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    return orjson.loads(body) if checksum.decode(errors="replace") == _hexadecimal(body) else {}


def _hexadecimal(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
