"""Golden values of a stage: what it gives for a small fixture may change only with its version.

The digests lie in `golden/<name>.json`. After raising a version, `GOLDEN=write pytest ...` writes them anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.storage.columns import digests


def check_golden(name: str, version: int, table: pa.Table) -> None:
    """Fail where `table` differs from what this version of the stage `name` gave for the same fixture."""
    path = Path(__file__).parent / "golden" / f"{name}.json"
    stored = json.loads(path.read_text()) if path.exists() else {"version": 0, "columns": {}}
    columns = digests(table)
    if stored == {"version": version, "columns": columns}:
        return
    changed = [column for column in columns if stored["columns"].get(column) != columns[column]]
    changed += [column for column in stored["columns"] if column not in columns]
    if stored["version"] == version:
        pytest.fail(
            f"{', '.join(changed)} of {name} changed: raise the version of the stage, with the reason beside it"
        )
    if os.environ.get("GOLDEN") != "write":
        pytest.fail(
            f"{name} is at version {version}, its golden values at {stored['version']}: write them, GOLDEN=write"
        )
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": version, "columns": columns}, indent=1) + "\n")
