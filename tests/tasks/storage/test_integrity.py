"""A flipped bit in a stored file is noticed before it is used, and what can be made again is made again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.run import Run
from tests import flips, golden_store
from tests.whole import content, go, states


def flip(path: Path, place: float = 0.5) -> None:
    """One bit, somewhere in a file."""
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 4
    path.write_bytes(data)


def forget(store: Path, pattern: str) -> None:
    """Remove folders, so that what they held is computed again from what is below."""
    for folder in store.glob(pattern):
        shutil.rmtree(folder)


REPAIRED = {
    "documents/web@*/*.parquet": "columns/signals@*",
    "columns/language@*/*.parquet": "columns/verdict@*",
    "columns/exact@*/map/*.arrow": "columns/exact@*/reduce",
    "columns/clusters@*/reduce/*.arrow": "columns/clusters@*/*.parquet",
    "tokens/*/*.arrow": "plans/*",
    "columns/language@*/manifest/*.jsonl": "columns/verdict@*",
    "columns/exact@*/map/manifest/*.jsonl": "columns/exact@*/reduce",
    "documents/web@*/manifest/*.jsonl": "columns/signals@*",
}
"""What is damaged, and what is gone, so that the run reads it."""


@pytest.mark.parametrize("victims", REPAIRED)
def test_a_damaged_file_is_made_again_by_the_run_that_reads_it(computed: Any, copied: Path, victims: str) -> None:
    store = copied.parent / "store"
    for path in store.glob(REPAIRED[victims]):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if REPAIRED[victims].endswith(".parquet"):
        forget(store, "columns/clusters@*/manifest")
    damaged = sorted(store.glob(victims))[:2]
    for path in damaged:
        flip(path)
    run = go(copied)
    notes = "; ".join(stage["note"] for stage in run.record["stages"])
    for path in damaged:
        assert f"{path.relative_to(store)} was damaged and is made again" in notes
    assert content(run) == content(computed[1])
    assert not any(output.index.errors for output in run.pipeline.outputs.values())
    assert set(states(go(copied)).values()) == {"cached"}


def test_a_flipped_bit_in_any_kind_of_file_is_noticed_by_what_reads_it(computed: Any, copied: Path) -> None:
    run = Run.of(str(copied))
    run.resolve()
    assert run.planned()
    for number, (kind, cases) in enumerate(flips.kinds(run).items()):
        if cases:
            outcomes, missed = flips.counted(run.store, cases, 6, number)
            assert not missed, kind
            assert outcomes[flips.NOTICED] or kind == "recipe.json", kind


def test_a_flipped_bit_in_what_an_earlier_version_wrote_is_noticed_by_its_value_digests(tmp_path: Path) -> None:
    run = Run.of(str(golden_store.unpacked(tmp_path)), None, golden_store.SETTINGS)
    run.resolve()
    assert run.planned()
    found = flips.kinds(run)
    for kind in ("documents", "documents, in parts", "columns", "columns, in parts", "tokens", "shuffles", "samples"):
        outcomes, missed = flips.counted(run.store, found[kind], 10, 1)
        assert not missed, kind
        assert outcomes[flips.NOTICED], kind
