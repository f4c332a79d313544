"""What trainings read of a plan, which another plan comes after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from flows.seen_rows import moved, rows_read
from tasks.storage.checksums import sealed_lines
from tasks.storage.store import Store

PLAN = "plans/first@0"


def trained(store: Store, run: str, steps: int, **more: Any) -> None:
    """A training of so many steps of four rows."""
    store.commit_json(f"runs/{run}/run.json", {"plan": PLAN})
    records = [{"kind": "start", "step": 0, "time": 1.0}]
    records += [
        {"kind": "step", "step": n + 1, "time": 2.0, "phase": 0, "row": 4 * n, "rows": 4, **more} for n in range(steps)
    ]
    path = f"runs/{run}/log/0001-000000.jsonl"
    store.commit(path, sealed_lines(b"".join(orjson.dumps(each) + b"\n" for each in records), path))


def test_a_training_that_stopped_early_has_read_its_steps_and_one_that_ended_all(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.commit_json(f"{PLAN}/plan.json", {"phases": [{"rows": 40}], "files": []})
    assert rows_read(store, [PLAN]) == {}  # nothing is known of its trainings: it counts as read
    trained(store, "short", 2)
    assert rows_read(store, [PLAN]) == {PLAN: [[(0, 0, 4), (0, 4, 4)]]}
    known = {PLAN: {"documents": 9, "elsewhere": 0, "rows": 8}}
    assert moved(store, known) == ""
    trained(store, "short", 3)
    assert "8 rows counted as read when this plan was made, and are 12 rows now" in moved(store, known)
    trained(store, "left_out", 10, left_out="spike")
    assert rows_read(store, [PLAN])[PLAN][0] == []
    trained(store, "whole", 10)
    assert rows_read(store, [PLAN, PLAN]) == {}
    assert "8 rows counted as read when this plan was made, and are all rows now" in moved(store, known)
