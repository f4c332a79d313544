"""Whole runs over files that are not what their names say, and on a clock that was set back."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import record
from tasks.engine import next_version
from tasks.storage import pins
from tests import small
from tests.commands import ask, told
from tests.tasks.sources.test_sources import archive, words
from tests.whole import content, go, states


def test_files_that_are_packed_twice_or_not_at_all_are_named_in_funnel_log_and_record(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1)
    rng = random.Random(5)
    rows = [{"text": small.english(rng, 25), "url": f"https://example.net/{number}"} for number in range(9)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    pages = archive([words(80, number) for number in range(3)], compressed=False)
    (tmp_path / "web" / "plain.json.gz").write_bytes(lines)
    (tmp_path / "web" / "twice.json.gz").write_bytes(gzip.compress(gzip.compress(lines)))
    (tmp_path / "web" / "other.json.gz").write_bytes(gzip.compress(bz2.compress(lines)))
    (tmp_path / "web" / "right.json.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / "plain.warc.gz").write_bytes(pages)
    (tmp_path / "crawl" / "twice.warc.gz").write_bytes(gzip.compress(gzip.compress(pages)))
    settings = [
        f"sources.web.paths={tmp_path}/web/*.gz",
        f"sources.crawl={{kind: warc, paths: '{tmp_path}/crawl/*'}}",
        "gates.quarantined=100%",
    ]
    run = go(spec, settings, until="verdict")
    unreadable = {"unreadable": 1}
    wrong = dict.fromkeys(("plain.json.gz", "twice.json.gz", "other.json.gz"), unreadable)
    given = [f"--set={setting}" for setting in settings]
    funnel = told("funnel", spec, *given)
    for found in (funnel, run.record["funnel"]):
        web, crawl = found["sources"]["web"], found["sources"]["crawl"]
        assert (web["files"], web["quarantined"]) == (wrong, {"unreadable": 3})
        assert (crawl["files"], crawl["quarantined"]) == ({"twice.warc.gz": unreadable}, unreadable)
        assert crawl["in"] == 3 + 1  # the plain archive is read, whatever its name says
        assert web["in"] == 60 + 9 + 3
    printed = ask("funnel", spec, *given).output
    [stage] = [each for each in run.record["stages"] if each["name"] == "documents"]  # whose note the log has
    for name in (*wrong, "twice.warc.gz"):
        assert f"{name} (1 unreadable)" in printed.replace("\n", " ")
        assert f"{name} (1 unreadable)" in stage["note"]


def test_a_clock_that_was_set_back_changes_no_value_and_no_order(
    copied: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["cp", "-r", f"{copied.parent}/.", other], check=True)
    right = other / "small.yaml"
    right.write_text(small.SPEC.format(folder=other))
    for spec in (copied, right):
        small.web(spec.parent / "web", 3, 60, seed=2)
    expected = content(go(right))
    set_back(monkeypatch, timedelta(days=400))
    found = go(copied)
    assert content(found) == expected
    assert set(states(go(copied)).values()) == {"cached"}
    versions = told("versions", copied)["versions"]
    assert [each["version"] for each in versions] == [1, 2]
    assert versions[1]["time"] < versions[0]["time"]
    assert told("funnel", copied)["in"] == found.record["funnel"]["in"]
    assert told("diff", copied, 1, 2) == told("diff", right, 1, 2)
    assert {stage["name"] for stage in told("plan", copied)["stages"] if stage["state"] != "cached"} == {"train"}
    left = [{path for path in told("gc", spec)["files"] if "/manifest/" not in path} for spec in (copied, right)]
    assert left[0] == left[1]


def set_back(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Put the clock of this process back."""
    now, nanoseconds, seconds = datetime.now, time.time_ns, by.total_seconds()
    clock = time.time

    class Back(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now(tz) - by

    monkeypatch.setattr(time, "time", lambda: clock() - seconds)
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() - int(seconds) * 10**9)
    for module in (record, next_version, pins):
        monkeypatch.setattr(module, "datetime", Back)
