"""The cluster: where the work of a spec runs, and what a shard may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_specs.base import Bytes, Settings


class Cluster(Settings):
    """Where the work runs."""

    address: str | None = None
    """Ray's address; null: a local Ray of its own."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Cores of a local Ray; null: all."""
    shard_memory: Bytes = 2**30
    """Bytes reserved for one shard's task."""
    attempts: Annotated[int, Field(ge=1)] = 3
    """Attempts of a shard that fails by its own error, before it is quarantined."""
    crashes: Annotated[int, Field(ge=1)] = 10
    """Attempts of a shard whose worker dies, before it is quarantined."""
