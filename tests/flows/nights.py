"""A corpus that grows night by night: its files, and what tests ask of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.run import Run
from tests import generations
from tests.whole import direct

FILES = generations.pages(12, 90, seed=1)
FIRST = 8
"""Files of the first generation."""
ALONE = {"read", "shard", "ask", "map", "scatter", "count"}
"""Kinds of jobs that are one shard's."""
TOGETHER = {
    "exact": {"state", "reduce"},
    "candidates": {"state", "reduce"},
    "pairs": {"recall", "reduce"},
    "clusters": {"recall", "reduce"},
    "verdict": {"state", "recall", "reduce"},
}
"""Kinds of jobs that a stage may have one of for each partition."""


def elsewhere(path: Path, folder: Path) -> Path:
    shutil.copytree(path.parent, folder, dirs_exist_ok=True)
    return generations.spec(folder)


def add(path: Path, numbers: Sequence[int], names: Sequence[str] = ()) -> None:
    for number, name in zip(numbers, names or [f"web-{number}" for number in numbers], strict=True):
        generations.write(path.parent, name, FILES[number])


def values(run: Run) -> dict[str, list[tuple[bytes, ...]]]:
    """Of each stage the digests of what it says of each shard, by the digest of the shard's ids."""
    outputs = run.pipeline.outputs
    ids = [row.tobytes() for row in outputs["documents"].index.digests["id"]]
    return {
        name: sorted(
            zip(ids, *([row.tobytes() for row in each] for each in output.index.digests.values()), strict=True)
        )
        for name, output in outputs.items()
        if output.index.digests
    }


def counted(jobs: list[tuple[str, str, str]]) -> Any:
    def fan(stage: Any, stage_key: str, some: Sequence[Any], *more: Any) -> int:
        jobs.extend((stage.label if hasattr(stage, "label") else "documents", job.kind, job.shard) for job in some)
        return direct(stage, stage_key, some, *more)

    return fan
