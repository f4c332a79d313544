"""Settings of the gates: what stops a run, or refuses a version of the corpus."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_specs.base import Count, Settings, Share


class NewShards(Settings):
    """What shards that came since the last version of the corpus are held against, source by source, before a version
    with them is accepted. A source of which there are too few records, new or earlier ones, is not judged."""

    least: Count = 1000
    """Records that a source needs among new shards, and among earlier ones, to be judged."""
    band: Share = 0.5
    """By how much of what it was the share of records that are kept may be lower or higher. It is of those that are no
    copies, and judged where there are `least` of them."""
    removed: Share = 0.9
    """Largest share of the new documents that may go as copies of each other, or of held-out ones."""
    again: Share = 1.0
    """Largest share of the new documents that may go as duplicates of older ones: a crawl that comes again is mostly
    that."""
    drift: Annotated[float, Field(gt=0)] = 0.5
    """Largest population stability index of the languages, and of each score, of what is kept. What chance makes of so
    few documents is never above it."""


class Gates(Settings):
    """What stops a run (exit code 3) instead of letting it go on with a bad corpus."""

    removed_per_source: Share = 0.9
    """Largest share of any source's documents that may go as duplicates, or as copies of held-out ones."""
    quarantined: Share = 0.01
    """Largest share that may be quarantined: of a stage's shards, of the documents of any source, and when a source is
    read of its records, of its files (one that cannot be opened, a link that leads nowhere) and of their bytes (what
    was damaged). A file that an earlier run has read, and that is damaged or cannot be opened now, always stops."""
    gone: Share = 0.5
    """Largest share of the files of any source that may have left since the last run; fewer are named and counted. Only
    100% lets go of held-out documents that another `text` or `template` of Parquet or Arrow files makes others, which
    are then trained on."""
    skipped: bool = False
    """Documents may be kept although a stage's `where` skipped them."""
    new: NewShards = NewShards()
    """What new shards are held against before a version of the corpus is accepted."""
