"""What is known of a stage's output, and the jobs that it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.engine.shuffle import Shuffle
from tasks.engine.worker import Job
from tasks.storage.manifest import Index


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
