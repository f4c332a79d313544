"""What is known of a stage's output, and the jobs that it lacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tasks.engine.job import Job
from tasks.engine.shuffle import Shuffle
from tasks.storage.manifest import Index, Manifest
from tasks.storage.store import Store


@dataclass
class JobBatch:
    """Jobs of one kind for one stage object, and where their entries go."""

    stage: Any
    stage_key: str
    folders: list[str]
    index: Index
    jobs: list[Job] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    """Of a fit: the shards whose samples are missing, as they are quarantined."""


@dataclass
class Output:
    """A node's output over all document shards: where it lies, what is known of it, what can be computed next."""

    folders: list[str]
    suffix: str
    index: Index
    batches: list[JobBatch] = field(default_factory=list)
    intermediates: list[str] = field(default_factory=list)
    """Paths of the maps, rounds and reductions that a corpus stage's output comes from."""
    reductions: list[Shuffle] = field(default_factory=list)
    """What a corpus stage reduced, by generation, as far as that is known."""

    def path(self, place: int) -> str:
        """Where the file of a shard lies; shards are known by their place in `Pipeline.shards`."""
        return f"{self.folders[place]}/{self.index.keys[place]}{self.suffix}"


def token_files(store: Store, shards: Collection[str]) -> dict[str, list[str]]:
    """The token files of shards, by the digest of their ids: those of every tokenizer and verdict."""
    found: dict[str, list[str]] = {ids: [] for ids in shards}
    for path, ids in shards_of_tokens(store).items():
        if ids in found:
            found[ids].append(path)
    return found


def shards_of_tokens(store: Store) -> dict[str, str]:
    """Path of a token file, as manifests have them -> the digest of its shard's ids."""
    found: dict[str, str] = {}
    for name in store.folders("tokens"):
        latest = {entry["key"]: entry for entry in Manifest(store, f"tokens/{name}").entries()}
        known = {key: entry["ids"] for key, entry in latest.items() if "columns" in entry}
        found |= {f"tokens/{name}/{key}.arrow": ids for key, ids in known.items()}
    return found
