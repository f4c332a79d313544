"""A flipped bit in a stored file is noticed before it is used, and what can be made again is made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.run import Run
from tasks.engine.takedowns import Takedowns
from tasks.planning.files import read_tokens
from tasks.storage.manifest import Manifest
from tasks.storage.store import DamagedError, Store
from tests import flips, golden_store
from tests.whole import content, go, states
from training.rows import Plan, Rows


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
    "counts/*/*.parquet": "versions",
    "counts/*/manifest/*.jsonl": "versions",
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
            assert outcomes[flips.NOTICED] or kind in ("recipe.json", "totals"), kind  # both are made again


def test_a_whole_file_in_the_place_of_another_is_noticed_by_what_reads_it(copied: Path) -> None:
    go(copied, ["rules.short=domain <> 'code' and words < 250"])
    store = copied.parent / "store"
    pairs = [sorted(store.glob(pattern)) for pattern in ("versions/*/0*.json", "columns/verdict@*/manifest/*.jsonl")]
    for one, other, *_ in pairs:
        wholes = one.read_bytes(), other.read_bytes()
        one.write_bytes(wholes[1])
        with pytest.raises(DamagedError, match=f"{one.name} is damaged .*it belongs in another place"):
            told(store, one)
        one.write_bytes(wholes[0])
    go(copied)


def test_every_document_and_segment_vouches_for_its_place(copied: Path) -> None:
    go(copied, ["rules.short=domain <> 'code' and words < 250"])
    folder, kinds = copied.parent / "store", set()
    for path in sorted(path for path in folder.rglob("*.json*") if path.is_file()):
        if b'"checksum"' in path.read_bytes():
            assert told(folder, path)
            moved = path.with_name(f"moved-{path.name}")
            path.rename(moved)
            with pytest.raises(DamagedError, match="it belongs in another place"):
                told(folder, moved)
            moved.rename(path)
            kinds.add(path.relative_to(folder).parts[0] if path.suffix == ".json" else path.parent.name)
    assert kinds >= {"columns", "documents", "listings", "pins", "plans", "runs", "tokens", "versions", "manifest"}


def told(store: Path, path: Path) -> Any:
    """What a document or a segment of a manifest says."""
    name = path.relative_to(store).as_posix()
    if path.suffix == ".json":
        return Store(str(store)).json(name)
    return list(Manifest(Store(str(store)), name.rpartition("/manifest/")[0]).segment(name))


def test_a_segment_that_lost_all_of_its_bytes_is_damaged(computed: Any, copied: Path) -> None:
    segment = min((copied.parent / "store").glob("columns/language@*/manifest/*.jsonl"))
    segment.write_bytes(b"")
    with pytest.raises(DamagedError, match="it is empty"):
        told(copied.parent / "store", segment)
    assert content(go(copied)) == content(computed[1])


def test_a_flipped_bit_in_what_an_earlier_version_wrote_is_noticed_by_its_value_digests(tmp_path: Path) -> None:
    run = go(golden_store.unpacked(tmp_path), golden_store.SETTINGS)  # but for candidates all is that version's
    found = flips.kinds(run)
    for kind in ("documents", "documents, in parts", "columns", "columns, in parts", "tokens", "shuffles", "samples"):
        outcomes, missed = flips.counted(run.store, found[kind], 10, 1)
        assert not missed, kind
        assert outcomes[flips.NOTICED], kind


def test_a_flipped_bit_in_a_takedown_is_noticed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    asked = {"urls": ["https://example.org/private"], "domains": [], "ids": [], "only": False}
    takedowns = Takedowns(store)
    takedowns.end(takedowns.begin({"spec": "small", "asked": asked, "ids": ["ab" * 16], "urls": [], "texts": []}))
    outcomes, missed = flips.counted(store, flips.takedowns(store), 50, 1)
    assert not missed
    assert outcomes[flips.NOTICED]


def test_a_takedown_that_was_edited_by_hand_is_named_and_not_taken_for_what_was_asked(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    asked = {"urls": ["https://example.org/a", "https://example.org/b"], "domains": [], "ids": [], "only": False}
    takedowns = Takedowns(store)
    takedowns.end(takedowns.begin({"spec": "small", "asked": asked, "ids": [], "urls": [], "texts": []}))
    path = tmp_path / "takedowns" / "000001.json"
    whole = path.read_text()
    assert [*Takedowns(store).named("urls")] == asked["urls"]
    without = json.loads(whole)
    del without["checksum"]  # as nothing that wrote takedowns ever left it out
    fewer = whole.replace("https://example.org/b", "https://example.org/a")
    assert len({whole, fewer, json.dumps(without)}) == 3
    for text in (fewer, json.dumps(without), whole[:-9], "[]", "", json.dumps(without | {"ended": False})):
        path.write_text(text)
        with pytest.raises(DamagedError, match=r"takedowns/000001\.json is damaged or was edited .*bring it back from"):
            Takedowns(store)
    path.write_text(whole)
    assert Takedowns(store).all[0]["ended"]


def test_a_damaged_pin_or_pinned_file_stops_the_run_and_is_not_learned_anew(computed: Any, copied: Path) -> None:
    store = copied.parent / "store"
    held_out = store / computed[1].pipeline.pins.get("held_out")["path"]
    forget(store, "columns/held_out@*")
    for path in (*sorted((store / "pins" / "small").iterdir())[:2], held_out):
        whole = path.read_bytes()
        flip(path)
        with pytest.raises(DamagedError, match="bring it back"):
            go(copied)
        path.unlink()
        with pytest.raises(DamagedError, match=f"{path.name} is .*bring it back"):
            go(copied)
        path.write_bytes(whole)
    assert content(go(copied)) == content(computed[1])


@pytest.mark.parametrize("name", ["plan.json", "rows-0-00000.arrow", "held_out.arrow"])
def test_a_damaged_plan_is_built_again(computed: Any, copied: Path, name: str) -> None:
    run = go(copied)
    path = copied.parent / "store" / run.record["plan"] / name
    flip(path)

    def read() -> None:
        plan = Plan.read(run.store, run.record["plan"])
        for phase in (None, 0):
            Rows(run.store, plan, phase).open(0, 1)

    with pytest.raises(DamagedError, match=f"{name} is missing or damaged"):
        read()
    run._repairing(read)
    assert run.plan_facts["content"] == computed[1].plan_facts["content"]
    assert run.execution.repaired() == [f"{path.relative_to(copied.parent / 'store')} was damaged and is made again"]


def test_a_damaged_token_file_is_made_again_for_the_training_that_meets_it(computed: Any, copied: Path) -> None:
    run = go(copied)
    plan = Plan.read(run.store, run.record["plan"])
    for path in plan.files:
        flip(copied.parent / "store" / path, 0.4)

    def read() -> list[list[int]]:
        return [read_tokens(run.store, *each).to_pylist() for each in zip(plan.files, plan.checksums, strict=True)]

    with pytest.raises(DamagedError):
        read()
    assert run._repairing(read) == [
        read_tokens(computed[1].store, *each).to_pylist() for each in zip(plan.files, plan.checksums, strict=True)
    ]


def test_a_fingerprint_that_was_lost_or_damaged_comes_back(copied: Path) -> None:
    store = Store(str(copied.parent / "store"))
    paths = [path for path in store.walk("columns") if path.count("/") == 2 and path.endswith("/recipe.json")]
    fingerprints = [store.json(path) for path in paths]
    store.remove(*paths[1:])
    flip(copied.parent / "store" / paths[0])
    go(copied)
    assert [store.json(path) for path in paths] == fingerprints


def test_a_file_without_an_entry_is_taken_back_only_where_it_has_the_values_of_its_footer(
    computed: Any, copied: Path
) -> None:
    store = copied.parent / "store"
    forget(store, "columns/language@*/manifest")
    damaged = min(store.glob("columns/language@*/*.parquet"))
    flip(damaged, 0.2)
    run = go(copied)
    assert {stage["name"]: stage["jobs"] for stage in run.record["stages"]}["language"] == 1
    assert content(run) == content(computed[1])
