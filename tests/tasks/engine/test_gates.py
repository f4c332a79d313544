"""The gates of reading: what a source has lost is counted by records, files and bytes, named, and stops the run."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import pytest

from flows.run import Run
from tasks.engine.gates import GateError
from tasks.engine.ledger import funnel
from tasks.storage.store import Store
from tests.commands import ask, told
from tests.whole import go

FILES, LINES = 10, 200


def write(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines = [json.dumps({"text": f"{seed} {number} {rng.random()} is a line of its own"}) for number in range(LINES)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec of one source, JSON lines in ten files."""
    (tmp_path / "web").mkdir()
    for number in range(FILES):
        write(tmp_path / "web" / f"{number}.jsonl.gz", number)
    path = tmp_path / "spec.yaml"
    path.write_text(
        f"{{name: gated, store: {tmp_path}/store, channels: {{all: 'true'}}, "
        f"sources: {{web: {{kind: jsonl, paths: '{tmp_path}/web/*.jsonl.gz', shard: 4KiB}}}}}}"
    )
    return path


def read(spec: Path, *settings: str) -> Run:
    return go(spec, settings, until="documents")


def damage(path: Path, how: str) -> None:
    """Do to a file what happens to files."""
    whole = path.read_bytes()
    path.unlink()
    match how:
        case "garbage":
            path.write_bytes(random.Random(1).randbytes(len(whole)))
        case "garbage in the middle":
            path.write_bytes(whole[: len(whole) // 2] + random.Random(1).randbytes(len(whole) // 2))
        case "plain":
            path.write_bytes(gzip.decompress(whole))
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "dangling":
            path.symlink_to("nowhere")
        case "a circle":
            path.symlink_to(path.name)


WAYS = ["garbage", "garbage in the middle", "plain", "truncated", "dangling", "a circle"]
WHY = {"dangling": "a link that leads nowhere", "a circle": "a link that leads nowhere", "truncated": "1 truncated"}


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_was_read_before_and_cannot_be_read_now_always_stops_the_run_by_name(spec: Path, how: str) -> None:
    read(spec)
    kept = (spec.parent / "web" / "3.jsonl.gz").read_bytes()
    damage(spec.parent / "web" / "3.jsonl.gz", how)
    for _ in range(2):
        with pytest.raises(
            GateError,
            match=rf"1 file of source web that could be read before.*3\.jsonl\.gz \({WHY.get(how, '1 unreadable')}\)",
        ):
            read(spec, "gates.quarantined=100%")
    (spec.parent / "web" / "3.jsonl.gz").unlink()
    (spec.parent / "web" / "3.jsonl.gz").write_bytes(kept)
    assert read(spec).record["funnel"]["in"] == FILES * LINES


@pytest.mark.parametrize("how", [way for way in WAYS if way != "truncated"])
def test_what_a_first_run_cannot_read_stops_it_beyond_the_limit_and_is_named_within_it(spec: Path, how: str) -> None:
    damage(spec.parent / "web" / "3.jsonl.gz", how)
    with pytest.raises(GateError, match=r"source web cannot be read, .*gates\.quarantined = 1%: 3\.jsonl\.gz"):
        read(spec)
    assert not (spec.parent / "store" / "listings").exists()
    run = read(spec, "gates.quarantined=75%")
    files = run.record["funnel"]["sources"]["web"]["files"]
    assert files == {"3.jsonl.gz": {"unreadable": 1}}
    assert "3.jsonl.gz" in run.record["stages"][0]["note"]
    assert "3.jsonl.gz" in ask("funnel", spec).output
    assert told("funnel", spec)["sources"]["web"]["files"] == files
    assert read(spec, "gates.quarantined=75%").record["stages"][0]["state"] == "cached"


def test_bytes_count_where_one_damaged_file_is_one_record_of_many(spec: Path) -> None:
    for number in range(FILES, 6 * FILES):
        write(spec.parent / "web" / f"{number}.jsonl.gz", number)
    damage(spec.parent / "web" / "3.jsonl.gz", "garbage")
    with pytest.raises(GateError, match=r"bytes of source web cannot be read, 1\.\d+%, more than gates"):
        read(spec)


def test_files_that_are_gone_are_named_and_stop_the_run_beyond_their_gate(spec: Path) -> None:
    read(spec)
    for number in range(3):
        (spec.parent / "web" / f"{number}.jsonl.gz").unlink()
    write(spec.parent / "web" / "90.jsonl.gz", 90)
    expected = "3 of 10 files of source web gone: 0.jsonl.gz, 1.jsonl.gz, 2.jsonl.gz"
    with pytest.raises(GateError, match=f"{expected}: more than gates.gone = 20%"):
        read(spec, "gates.gone=20%")
    assert expected in read(spec).record["stages"][0]["note"]
    assert "gone" not in read(spec).record["stages"][0]["note"]
    for number in range(3, 9):
        (spec.parent / "web" / f"{number}.jsonl.gz").unlink()
    with pytest.raises(GateError, match=r"6 of 8 files of source web gone.*bring them back"):
        read(spec)
    chosen = f"sources.web.paths={spec.parent}/web/9*.jsonl.gz"
    assert "gone" not in read(spec, chosen).record["stages"][0]["note"]  # the spec asks for fewer


def test_the_lists_of_files_are_written_by_runs_that_read_something_new_alone(spec: Path) -> None:
    read(spec)
    listings = spec.parent / "store" / "listings" / "gated.json"
    before = listings.stat().st_ino, listings.read_bytes()
    read(spec)
    told("plan", spec)
    shutil.copy(spec.parent / "web" / "1.jsonl.gz", spec.parent / "web" / "91.jsonl.gz")
    told("plan", spec)
    told("funnel", spec)
    assert (listings.stat().st_ino, listings.read_bytes()) == before
    read(spec)
    found = Store(str(spec.parent / "store")).json("listings/gated.json")["sources"]["web"]["files"]
    assert found == sorted(path.name for path in (spec.parent / "web").iterdir())


def test_a_question_counts_a_file_that_cannot_be_read_as_one_record(spec: Path) -> None:
    read(spec)
    damage(spec.parent / "web" / "3.jsonl.gz", "dangling")
    run = Run.of(str(spec))
    run.resolve()
    counts = funnel(run.pipeline)
    assert counts["quarantined"]["unreadable"] == 1
    assert counts["sources"]["web"]["files"] == {"3.jsonl.gz": {"unreadable": 1}}


def test_limits_are_told_with_their_digits(spec: Path) -> None:
    read(spec)
    for number in range(2):
        (spec.parent / "web" / f"{number}.jsonl.gz").unlink()
    with pytest.raises(GateError, match=r"gates\.gone = 0\.5%"):
        read(spec, "gates.gone=0.5%")
