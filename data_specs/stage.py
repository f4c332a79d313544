"""What the settings of all stages share."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from data_specs.base import Bytes, Expression, Name, Settings


class Stage(Settings):
    """What stages of every kind have."""

    kind: str
    """What the stage does; its name, where that is a kind."""
    text: Name | None = None
    """The column of text that is read: null is the spec's `text`, and for a stage that rewrites text, the source's."""
    reads: dict[Name, Name] = {}
    """Columns that are read in the place of others, such as `language: second` where a stage `second` identifies
    languages, too."""
    where: Expression | None = None
    """Gate: rows for which this is not true are skipped (their columns are null)."""
    cores: Annotated[float, Field(gt=0)] = 1
    """Cores that Ray reserves for one shard's task."""
    memory: Bytes | None = None
    """Bytes that Ray reserves for one shard's task; null: `cluster.shard_memory`."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for one shard's task."""

    UNHASHED: ClassVar[frozenset[str]] = frozenset({"kind", "text", "reads", "cores", "memory", "gpus"})
    """What shapes no value, or is in a stage's keys by the values it reads."""
