"""What the last run of a lineage read in its sources: `listings/<lineage>.json`, beside its pins.

It tells a file that was read before and cannot be read now, or is gone, from one that never was there. A run writes it
once the gates of reading have passed, and only where it says something new; a question never does. Files that could not
be read are not in it, nor those of a shard that was quarantined.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from data_specs.spec import Spec
from tasks.engine.reading import Reader
from tasks.engine.stage import digest
from tasks.storage.store import DeniedError, Store

_CHOOSING = {"paths", "match", "count", "listing"}
"""Settings of a source that choose its files: where they change, none has gone."""


class Listings:
    """The files of every source, by key, as the last run read them."""

    def __init__(self, spec: Spec, store: Store) -> None:
        self.store, self.path = store, f"listings/{spec.name}.json"
        self.chosen = {
            name: digest(source.model_dump(mode="json", include=_CHOOSING)) for name, source in spec.sources.items()
        }
        try:
            self.last: dict[str, Any] = store.json(self.path)["sources"]
        except FileNotFoundError:
            self.last = {}

    def read(self, source: str) -> set[str]:
        """Files that were read, whatever settings chose them."""
        return set(self.last.get(source, {}).get("files", ()))

    def expected(self, source: str) -> set[str]:
        """Files that were read and that the settings still choose, if they are there."""
        return self.read(source) if self.last.get(source, {}).get("chosen") == self.chosen[source] else set()

    def digests(self, source: str) -> dict[str, str]:
        """The digests of the files that were read; none where an earlier version noted them."""
        entry = self.last.get(source, {})
        return dict(zip(entry["files"], entry["digests"], strict=True)) if "digests" in entry else {}

    def payload_settings(self, source: str) -> dict[str, Any]:
        """The settings that payloads hung on; none where an earlier version noted them."""
        return dict(self.last.get(source, {}).get("payload_settings", {}))

    def commit(self, files: Mapping[str, Collection[str]], readers: Mapping[str, Reader]) -> None:
        """Note what was read of each source, and what its reader has to know of it. A store that may not be written
        holds all that is read of it."""
        now = {name: {"chosen": self.chosen[name], "files": sorted(keys)} for name, keys in files.items()}
        noted = {name: entry | readers[name].noted(entry["files"]) for name, entry in now.items()}
        if noted == self.last:
            return
        same = all(self.last.get(name, {}) | entry == self.last.get(name) for name, entry in now.items())
        with suppress(*((DeniedError,) if same else ())):
            self.store.commit_json(self.path, {"sources": noted})
            self.last = noted
