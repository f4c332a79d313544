"""`sluice invalidate` and `sluice gc`: what they take is computed again, what stands stays."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.engine import garbage_collection
from tasks.storage import locks
from tasks.storage.manifest import Manifest
from tasks.storage.pins import Pins
from tasks.storage.store import BusyError, Store
from tests import small
from tests.commands import ask, files, told
from tests.whole import content, go, states


@pytest.mark.parametrize("stage", ["documents", "language", "clusters", "verdict"])
def test_an_invalidated_stage_is_computed_again_and_nothing_else(computed: Any, copied: Path, stage: str) -> None:
    told_of = told("invalidate", copied, stage)
    assert told_of["stage"] == stage
    assert told_of["removed"] >= 4
    found = {entry["name"]: entry["state"] for entry in told("plan", copied)["stages"]}
    assert found[stage] == "stale"
    again = go(copied)
    assert {name for name, state in states(again).items() if state == "computed"} == {stage}
    assert content(again) == content(computed[1])


def test_gc_lists_nothing_that_stands_and_removes_what_a_change_left(copied: Path) -> None:
    before = told("gc", copied)
    assert not before["removed"]
    assert {path.split("/")[0] for path in before["files"]} == {"models"}
    assert all("/samples@" in path for path in before["files"])
    old = {path for path in files(copied) if path.startswith("columns/verdict@")}
    settings = ["rules.short=domain <> 'code' and words < 90"]
    go(copied, settings, retrain=["quality"])
    pins = Pins(Store(str(copied.parent / "store")), "small").history
    listed = told("gc", copied, "--set", settings[0])
    assert old <= set(listed["files"])
    assert listed["bytes"] == sum(listed["files"].values())
    assert all(files(copied)[path] == size for path, size in listed["files"].items())
    assert "nothing refers to them" in ask("gc", copied, "--set", settings[0]).output
    assert told("gc", copied, "--set", settings[0], "--yes")["files"] == listed["files"]
    left = files(copied)
    assert not set(listed["files"]) & set(left)
    assert {pin["path"] for history in pins.values() for pin in history if "path" in pin} <= set(left)
    assert set(states(go(copied, settings)).values()) == {"cached"}
    assert told("gc", copied, "--set", settings[0])["files"] == {}


def test_gc_finds_what_a_recomputation_that_was_killed_has_left(copied: Path) -> None:
    left = "again/columns/language@0123456789abcdef/manifest/1-2.jsonl"
    Store(str(copied.parent / "store")).commit(left, b"")
    assert left in told("gc", copied, "--yes")["files"]
    assert left not in files(copied)


def test_gc_finds_what_killed_writers_left_anywhere_and_nothing_of_living_ones(copied: Path) -> None:
    store = copied.parent / "store"
    code = (
        "import os, sys, time\nfrom contextlib import ExitStack\nfrom tasks.storage.store import Store\n"
        f"store, stack = Store({str(store)!r}), ExitStack()\n"
        "for path in sys.argv[1:]:\n"
        "    stack.enter_context(store.writer(path)).write(b'half')\n"
        "print('writing', flush=True)\ntime.sleep(60)\n"
    )
    folders = [*(path for path in store.rglob("*") if path.is_dir()), store / "again" / "language"]
    paths = [f"{folder.relative_to(store)}/left" for folder in folders]
    before = told("gc", copied)["files"]
    command = [sys.executable, "-c", code, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert told("gc", copied)["files"] == before
        child.kill()
    found = told("gc", copied)["files"]
    assert len(set(found) - set(before)) == len(paths) > 30
    assert told("gc", copied, "--yes")["files"] == found
    assert told("gc", copied)["files"] == {}
    assert not list(store.rglob(".left.*"))


def test_what_gc_took_is_computed_again_when_it_is_asked_for(computed: Any, copied: Path) -> None:
    old = {path for path in files(copied) if path.startswith(("documents/web@", "columns/", "tokens/"))}
    changed = copied.parent / "web" / "web-01.jsonl.gz"
    kept = changed.read_bytes()
    small.web(copied.parent / "web", 1, 60, seed=5)
    go(copied)
    told("gc", copied, "--yes")
    assert old - set(files(copied))
    assert set(states(go(copied)).values()) == {"cached"}
    changed.write_bytes(kept)
    again = go(copied)
    assert states(again)["documents"] == states(again)["signals"] == states(again)["verdict"] == "computed"
    assert states(again)["tokens"] == "cached"  # a plan reads them
    assert content(again) == content(computed[1])


def test_gc_leaves_other_lineages_plans_and_unfinished_stages_alone(copied: Path) -> None:
    other = copied.parent / "other.yaml"
    other.write_text(copied.read_text().replace("name: small", "name: other").replace("words < 40", "words < 77"))
    go(other)
    told("gc", copied, "--yes")
    assert set(states(go(other)).values()) == {"cached"}
    small.web(copied.parent / "web", 3, 60, seed=2)
    assert not [path for path in told("gc", copied)["files"] if "/samples@" not in path]
    go(copied, ["tokenizer.vocabulary=450"], retrain=["tokenizer"])
    told("gc", copied, "--set", "tokenizer.vocabulary=450", "--yes")
    plans = [json.loads(path.read_bytes()) for path in (copied.parent / "store" / "plans").glob("*/plan.json")]
    assert len(plans) == 3
    assert {file for plan in plans for file in plan["files"]} <= set(files(copied))


def unended(store: Store, name: str, **process: object) -> None:
    store.commit(
        f"runs/records/{name}/run.json",
        json.dumps({"run": name, "spec": "other", "status": "running", "folders": [], "process": process}).encode(),
    )


def test_what_a_run_works_on_is_not_cleaned_until_it_has_ended_however_it_ended(copied: Path) -> None:
    store = Store(str(copied.parent / "store"))
    code = (
        "import time\nfrom tasks.storage import locks\nfrom tasks.storage.store import Store\n"
        f"with locks.shared(Store({store.url!r})):\n    print('inside', flush=True)\n    time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    before = files(copied)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as child:
        assert child.stdout is not None
        child.stdout.readline()
        unended(store, "working", host=socket.gethostname(), pid=child.pid)
        unended(store, "killed", host=socket.gethostname(), pid=2**22 + 1)
        for command in (("invalidate", copied, "language"), ("gc", copied, "--yes")):
            said = told(*command, code=1)["error"]
            assert said == f"{store.url}: working is working on it; wait for its end, or stop it"
        assert told("gc", copied)["files"]
        child.kill()
    assert not set(before) - set(files(copied))
    assert told("invalidate", copied, "language")["removed"] >= 4
    assert told("gc", copied, "--yes")["removed"]


def test_on_an_object_store_a_run_at_work_is_not_cleaned(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    with garbage_collection.alone(store):
        unended(store, "elsewhere", host="another", pid=1)
    with (
        locks.shared(store),
        pytest.raises(BusyError, match="elsewhere is working on it"),
        garbage_collection.alone(store),
    ):
        pass
    with garbage_collection.alone(store):
        pass


def test_cleaning_makes_no_store_where_there_is_none(copied: Path, tmp_path: Path) -> None:
    assert told("gc", copied, "--yes", "--store", tmp_path / "empty")["files"] == {}
    assert told("invalidate", copied, "language", "--store", tmp_path / "empty")["removed"] == 0
    assert not (tmp_path / "empty").exists()


def test_what_a_run_wrote_while_gc_waited_for_the_store_stays(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, other = garbage_collection.alone, "stages.quality.dimensions=6"

    @contextmanager
    def late(store: Store) -> Iterator[None]:
        go(copied, [other], retrain=["quality"])
        with real(store):
            yield

    monkeypatch.setattr(garbage_collection, "alone", late)
    told("gc", copied, "--set", other, "--yes")
    assert set(states(go(copied, [other])).values()) == {"cached"}


def refused(spec: Path) -> set[str]:
    """Files of refused records."""
    return {path for path in files(spec) if path.endswith(".refused.parquet")}


@pytest.fixture
def refusing(tmp_path: Path) -> Path:
    """The spec of a small corpus of which documents alone are read, with refused records among them."""
    spec = small.corpus(tmp_path, files=2, documents=20)
    (tmp_path / "web" / "web-80.jsonl.gz").write_bytes(
        gzip.compress(b'{"text": "", "url": "https://example.org/lost"}')
    )
    go(spec, until="documents")
    assert len(refused(spec)) == 1
    return spec


def test_refused_records_are_kept_with_the_documents_that_stand_and_go_with_those_that_do_not(refusing: Path) -> None:
    before = refused(refusing)
    assert told("gc", refusing, "--yes")["files"] == {}
    changed = refusing.parent / "web" / "web-80.jsonl.gz"
    changed.write_bytes(gzip.compress(b'{"text": "", "url": "https://example.org/other"}'))
    go(refusing, until="documents")
    after = refused(refusing) - before
    assert before <= set(told("gc", refusing, "--yes")["files"])
    assert refused(refusing) == after
    assert told("query", refusing, "select url from refused")["rows"] == [["https://example.org/other"]]
    assert states(go(refusing, until="documents"))["documents"] == "cached"
    told("invalidate", refusing, "documents")
    assert not refused(refusing)
    go(refusing, until="documents")
    assert refused(refusing) == after


def test_refused_records_that_no_documents_name_go_without_these(refusing: Path) -> None:
    store, [path] = Store(str(refusing.parent / "store")), refused(refusing)
    other = next(found for found in files(refusing) if found.startswith("documents/code@") and ".parquet" in found)
    left = other.replace(".parquet", ".refused.parquet")
    store.commit(left, store.read(path))
    assert set(told("gc", refusing, "--yes")["files"]) == {left}
    assert refused(refusing) == {path}
    assert states(go(refusing, until="documents"))["documents"] == "cached"


def test_refused_records_are_named_again_with_documents_whose_entries_were_lost(refusing: Path) -> None:
    store, [path] = Store(str(refusing.parent / "store")), refused(refusing)
    folder = path.rpartition("/")[0]
    before = {entry["key"]: entry for entry in Manifest(store, folder).entries()}
    store.remove(*(f"{folder}/manifest/{name}" for name in store.list(f"{folder}/manifest")))
    go(refusing, until="documents")
    assert {entry["key"]: entry for entry in Manifest(store, folder).entries()} == before
    assert told("query", refusing, "select url from refused")["rows"] == [["https://example.org/lost"]]


def test_replaced_documents_bring_their_refused_records(refusing: Path) -> None:
    store, [path] = Store(str(refusing.parent / "store")), refused(refusing)
    store.remove(path)
    go(refusing, until="documents", start="documents", replace=True)
    assert refused(refusing) == {path}
    assert not [found for found in files(refusing) if found.startswith("again/") and not found.endswith(".lock")]
    assert told("query", refusing, "select url from refused")["rows"] == [["https://example.org/lost"]]
