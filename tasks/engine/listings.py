"""What the last run of a lineage read in its sources: `listings/<lineage>.json`, beside its pins.

It tells a file that was read before and cannot be read now, or is gone, from one that never was there. A run writes it
once the gates of reading have passed, and only where it says something new; a question never does. Files that could not
be read are not in it, nor those of a shard that was quarantined.
"""

from __future__ import annotations

from typing import Any

from data_specs.spec import Spec
from tasks.engine.stage import digest
from tasks.storage.store import Store

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

    def commit(self, files: dict[str, set[str]]) -> None:
        """Note what was read of each source."""
        now = {name: {"chosen": self.chosen[name], "files": sorted(keys)} for name, keys in files.items()}
        if now != self.last:
            self.store.commit_json(self.path, {"sources": now})
            self.last = now
