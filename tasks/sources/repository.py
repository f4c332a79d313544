"""Source code from repositories: one document a file, with its programming language and its licence.

A file that the paths name is an archive of a repository (tar, plain or compressed, zip, git bundle), or a file of a
folder. A file's licence is the one it names, else that of the licence file in the nearest folder above it. Dropped are
files that nobody wrote here: `vendored`, `generated`, `minified`, `data_file`; those of no known language
(`unknown_language`), licences themselves (`license_file`), and `empty`, `too_large` and `not_text` ones. An archive
that breaks off is quarantined (`truncated`, `unreadable`, `window`, `bomb`), and so are the documents of a compressed
one that is damaged, as its checksum, at its end, vouches for none. Archives that stand one behind another are all read.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from data_specs.sources import RepositorySource
from tasks.engine.stage import digest
from tasks.extraction import http
from tasks.sources import licenses, programming, tree
from tasks.sources.base import RAW, Found, InputShard, Part, Reader, Records, grouped, ranged
from tasks.sources.files import File, opened
from tasks.sources.folder import kind
from tasks.sources.whole_files import GROUP, is_binary, reread

_ARCHIVES = re.compile(r"\.(?:tar|tgz|tbz2?|txz|zip|bundle|tar\.(?:gz|bz2|xz|zst|zstd))\Z", re.IGNORECASE)
_LICENSE = 2**17
"""Bytes of a licence file that are read."""
_NAME = re.compile(r"\.(?:tar(?:\.\w+)?|tgz|tbz2?|txz|zip|bundle)\Z", re.IGNORECASE)
_VERSION_CONTROL = re.compile(r"(?:\A|/)\.(?:git|hg|svn|bzr)/")


class RepositoryReader(Reader):
    """Reads repositories."""

    version = 6  # MATLAB without a comment is no Objective-C; paths of a zip are in UTF-8 where they are
    libraries: ClassVar[tuple[str, ...]] = ("Resiliparse",)
    knows = ("file", "offset", "length", *RAW)
    settings: RepositorySource

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._licenses: dict[str, list[str]] = {}
        """Folders of keys that hold licences, and their paths."""

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = [file for file in self.listing.files() if not _VERSION_CONTROL.search(file.key)]
        archives = [file for file in files if _ARCHIVES.search(file.key)]
        loose = [file for file in files if not _ARCHIVES.search(file.key)]
        license_files = [file for file in loose if _is_license(file.key)]
        license_files.sort(key=lambda file: file.key, reverse=True)
        self._licenses = {}
        for file in license_files:
            self._licenses.setdefault(_folder(file.key), []).append(file.path)
        number = self.groups(loose, GROUP, groups, self.settings.groups) if loose else 0
        apart = [shard for file in archives for shard in ranged(self.source, file, sys.maxsize)]
        return [*self._grouped(loose, license_files, number), *apart], number

    def _grouped(self, files: list[File], license_files: list[File], number: int) -> list[InputShard]:
        """Groups of files; what a licence file says is part of what is read for the files below it."""
        of_licenses = digest([[file.key, file.digest] for file in license_files])
        shards = grouped(self.source, files, number)
        return [replace(shard, digest=digest([shard.digest, of_licenses])) for shard in shards]

    def read_part(self, part: Part, records: Records) -> None:
        if _ARCHIVES.search(part.key):
            return self._archive(part, records)
        with opened(part.path) as file:
            data = file.read(self.settings.largest + 1)
        entry = tree.Entry(part.key, 0, part.end, data)
        above = (folder for folder in _folders(part.key) if folder in self._licenses)
        self._file(entry, part, records, {folder: self._license_of(folder) for folder in above})

    def _license_of(self, folder: str) -> str | None:
        """The licence of a folder."""
        found = {}
        for path in self._licenses[folder]:
            with opened(path) as file:
                found[_name(path)] = licenses.spdx(http.text(file.read(_LICENSE), meta=False))
        return licenses.of_folder(found)

    def _archive(self, part: Part, records: Records) -> None:
        how = part.path, self.settings.window
        known: dict[str, dict[str, str | None]] = {}
        try:
            for entry in tree.entries(*how, _LICENSE):
                if _is_license(entry.path):
                    spdx = licenses.spdx(http.text(entry.data, meta=False))
                    known.setdefault(_folder(entry.path), {})[_name(entry.path)] = spdx
        except tree.TreeError:
            pass  # the second reading records it
        found = {folder: licenses.of_folder(files) for folder, files in known.items()}
        seen = 0
        try:
            for entry in tree.entries(*how, self.settings.largest):
                self._file(entry, part, records, found)
                seen = entry.place + entry.size
        except tree.TreeError as error:
            if error.since is not None:
                records.take_back(str(error), part, error.since)
            records.quarantine(str(error), part, seen, lost=part.end)

    def _file(self, entry: tree.Entry, part: Part, records: Records, known: Mapping[str, str | None]) -> None:
        archive = _ARCHIVES.search(part.key)
        repository = _NAME.sub("", part.key.rpartition("/")[2]) if archive else part.key.partition("/")[0]
        found = Found(part, entry.place, entry.size, payload=entry.data)
        found.columns = {"repository": repository, "path": entry.path}
        drop = partial(records.drop, part=part, offset=entry.place, length=entry.size, measures=found.columns)
        if not entry.data or entry.data.isspace():
            return drop("empty")
        if entry.size > self.settings.largest:
            return drop("too_large")
        if reason := "license_file" if _is_license(entry.path) else programming.by_path(entry.path):
            return drop(reason)
        if is_binary(entry.data):
            return drop("not_text")
        text = http.text(entry.data, meta=False)
        what = programming.kind(entry.path, text)
        nearest = next((known[folder] for folder in _folders(entry.path) if folder in known), None)
        found.columns |= {"programming_language": what.language, "spdx": licenses.named(text) or nearest}
        if what.reason:
            return drop(what.reason)
        form = kind(entry.path, text, "code" if what.language else "text")
        place, own = (part, entry.place, entry.size), self.columns(found.columns)
        keep = partial(records.keep, *place, entry.data, form, text, own=own)
        records.by_address(found, lambda: records.by_text(found, text, keep))

    def reread(self, row: Mapping[str, Any]) -> bytes:
        if not _ARCHIVES.search(row["file"]):
            return reread(self, row)
        try:
            for entry in tree.entries(self.listing.path(row["file"]), self.settings.window, self.settings.largest):
                if entry.place == row["offset"]:
                    if hashlib.sha256(entry.data).hexdigest() == row["payload"]:
                        return entry.data
                    break
        except tree.TreeError:
            pass  # it no longer holds it
        raise self.changed(row)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _folders(path: str) -> list[str]:
    """The folders that a file is in, the nearest first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:number]) for number in range(len(parts), -1, -1)]


def _is_license(path: str) -> bool:
    return bool(licenses.FILES.fullmatch(_name(path))) and not programming.names_code(path)
