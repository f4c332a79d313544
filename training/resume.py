"""Where a run that has checkpoints goes on: all ranks agree on it, and each verifies its share of the shards."""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist

from tasks.storage.store import Store
from training import checkpoint
from training.checkpoint import Checkpoint, CheckpointError
from training.ranks import from_all_ranks


def newest(store: Store, run: str, steps: Sequence[int]) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint of `steps` whose every shard verifies on the rank that reads it, and what was wrong with
    newer ones. All ranks call it. Raises CheckpointError where there is none."""
    broken: list[str] = []
    for step in steps:
        found, problem = _verified(store, run, step)
        problems = [each for each in from_all_ranks(problem) if each]
        if found and not problems:
            return found, broken
        broken.append(problems[0])
    why = "; ".join(broken) or f"runs/{run} has no checkpoint"
    raise CheckpointError(f"there is nothing to resume: {why}; remove runs/{run} to train from the start")


def _verified(store: Store, run: str, step: int) -> tuple[Checkpoint | None, str | None]:
    """A checkpoint, or what is wrong with it as far as this rank's share of its shards shows."""
    try:
        found = checkpoint.load(store, run, step)
        checkpoint.verify(store, run, found.shards[dist.get_rank() :: dist.get_world_size()])
    except CheckpointError as error:
        return None, str(error)
    return found, None
