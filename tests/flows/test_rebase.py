"""A rebase judges all documents of a grown corpus anew, and says what changed sides."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flows import summary
from flows.run import Run
from tasks.engine.rebase import RebaseError
from tests import generations
from tests.commands import ask
from tests.flows.nights import ALONE, FILES, FIRST, add, counted, values
from tests.generations import Expected, documents, night


def test_a_rebase_equals_a_run_over_all_files_at_once_and_says_what_changed_sides(grown: Path, tmp_path: Path) -> None:
    for number in range(FIRST, len(FILES)):
        add(grown, [number])
        night(grown)
    before = documents(grown)
    (grown.parent / "web" / "web-0.jsonl.gz").rename(tmp_path / "web-0.jsonl.gz")  # rotated away
    run = rebased(grown)
    after = documents(grown)
    assert before.keys() == after.keys()
    for name, was in (("kept", before), ("dropped", after)):
        moved = Counter(was[each]["reason"] for each in before if before[each]["kept"] != after[each]["kept"])
        sides = run.record["rebase"][name]
        assert {reason: counted[0] for reason, counted in sides.items()} == {k: n for k, n in moved.items() if k}
        assert all(tokens >= 100 * documents for documents, tokens in sides.values())
    assert run.record["rebase"]["kept"]
    assert run.record["version"]["new"] == 0

    (tmp_path / "fresh").mkdir()
    fresh = generations.spec(tmp_path / "fresh")
    for name in ("pins", "models"):
        shutil.copytree(grown.parent / "store" / name, fresh.parent / "store" / name)
    shutil.copytree(grown.parent / "web", fresh.parent / "web")
    shutil.copy(tmp_path / "web-0.jsonl.gz", fresh.parent / "web")
    assert values(night(fresh)) == values(run)
    expected = Expected()
    expected.add([*after.values()])
    assert {each: row["reason"] for each, row in after.items()} == expected.reasons


def test_after_a_rebase_nights_go_on_and_another_rebase_changes_nothing(grown: Path) -> None:
    add(grown, [FIRST])
    night(grown)
    run = rebased(grown)
    assert run.record["version"]["version"] == 3
    again = rebased(grown)
    assert again.record["version"]["version"] == 3
    assert again.record["rebase"] == {"kept": {}, "dropped": {}}
    old = documents(grown)
    add(grown, [FIRST + 1])
    jobs: list[tuple[str, str, str]] = []
    later = night(grown, fan=counted(jobs))
    now = documents(grown)
    assert {each: now[each] for each in old} == old
    assert {name for _, kind, name in jobs if kind in ALONE} == {later.pipeline.shards[-1].name}


def test_a_rebase_wants_a_version_and_nothing_new(grown: Path, tmp_path: Path) -> None:
    add(grown, [FIRST])
    with pytest.raises(
        RebaseError, match=r"1 shard came or changed since version 1, the last accepted one \(.*\); `sluice run`"
    ):
        rebased(grown)
    (tmp_path / "none").mkdir()
    with pytest.raises(RebaseError, match="nightly has no version yet"):
        rebased(generations.corpus(tmp_path / "none", FILES[:1]))


WITHOUT_RAY = """
from flows import supervisor
from flows.cli import main
start = supervisor.start
def started(as_json):
    start(as_json)
    from tasks.engine.runner import Execution
    from tests.whole import direct
    Execution.__init__.__defaults__ = (None, direct)
supervisor.start = started
main()
"""
"""The command line, of which the working process does one job after the other."""


def test_the_command_says_what_changed_sides(grown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(grown, [FIRST, FIRST + 1])
    night(grown)
    command = [sys.executable, "-c", WITHOUT_RAY, "rebase", str(grown), "--json"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    record = json.loads(ran.stdout.splitlines()[-1])
    moved = record["rebase"]["kept"]["duplicate"]
    assert (record["status"], record["version"]["version"]) == ("completed", 3)
    summary.show_rebase(record["rebase"])
    assert re.search(rf"kept, was dropped as duplicate +│ +{moved[0]} +│ +{moved[1]:,}", capsys.readouterr().out)
    assert ask("versions", grown).stdout.count("accepted") == 3


def rebased(path: Path) -> Run:
    return night(path, rebase=True)
