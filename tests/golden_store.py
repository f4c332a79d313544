"""A store made by the code of 2026-11-29 (commit cb5bad6), with its sources: what every later version has to read.

`golden/store.tar.xz` holds the small corpus of `small.corpus(folder, files=2, documents=36)`, and the store of a run of
`small.SPEC` over it, through the plan and the training, with one checkpoint kept; `golden/store.json` what that run
came to (`whole.content`). Neither is ever written anew: a change that reads them differently needs a migration.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from tests import small

_FOLDER = Path(__file__).parent / "golden"
SETTINGS = ("training.checkpoint.keep=1", "stages.duplicates.floor=0.8")
"""Beside `small.SPEC`, what the run was given, and what is no default any more."""


def unpacked(folder: Path) -> Path:
    """The corpus and its store in `folder`; the path of its spec."""
    with tarfile.open(_FOLDER / "store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    spec = folder / "small.yaml"
    spec.write_text(small.SPEC.format(folder=folder))
    return spec


def content() -> dict[str, Any]:
    """`whole.content` of the run that made the store."""
    return json.loads((_FOLDER / "store.json").read_text())
