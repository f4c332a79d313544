"""A store of an earlier version is read: nothing of it is extracted, learned or trained again."""

from __future__ import annotations

import json
from pathlib import Path

from tests import golden_store, whole

ANEW = {"candidates", "alike"}
"""What is computed once more: signatures are others since 2026-12."""


def test_the_store_of_an_earlier_version_is_read_and_of_other_signatures_come_the_same_duplicates(
    tmp_path: Path,
) -> None:
    spec = golden_store.unpacked(tmp_path)
    run = whole.go(spec, golden_store.SETTINGS, train=True)
    assert {name for name, state in whole.states(run).items() if state != "cached"} == ANEW
    found, content = json.loads(json.dumps(whole.content(run))), golden_store.content()
    assert {name for name in found.keys() | content.keys() if found.get(name) != content.get(name)} <= {
        "candidates.candidates"
    }
