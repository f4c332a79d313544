"""Corpus stages in a pipeline: what partitions may change, and rows that are dealt again, round after round."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.run import Run
from tasks.dedup.clusters import Clusters
from tasks.engine.runner import ChangedError, StageError
from tasks.storage.store import Store
from tests.commands import files, told
from tests.whole import go, states

SPEC = """
name: chains
store: {folder}/store
sources: {{web: {{kind: jsonl, paths: "{folder}/web/*.jsonl.gz"}}}}
stages: {{duplicates: {{floor: 0.8, partitions: 7}}}}
channels: {{all: "true"}}
"""
UNTIL = "clusters"


def write(folder: Path, seed: int) -> None:
    """Four files that are a shard each: chains of pages, each page alike to the next ones, which are in other files."""
    rng, pages = random.Random(seed), []
    for length in (*rng.choices(range(1, 9), k=20), 60):
        words = [f"word{rng.random()}" for _ in range(100 + 5 * length)]
        pages += [" ".join(words[5 * each : 5 * each + 100]) for each in range(length)]
    folder.mkdir(exist_ok=True)
    for number in range(4):
        lines = [json.dumps({"text": text, "url": f"https://example.org/{text[:20]}"}) for text in pages[number::4]]
        (folder / f"web-{number}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def values(run: Run) -> dict[str, list[bytes]]:
    """Digests of what the stages of duplicates wrote."""
    return {
        column: [row.tobytes() for row in digests]
        for name in ("exact", "candidates", "alike", "clusters")
        for column, digests in run.pipeline.outputs[name].index.digests.items()
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The spec of a corpus, and its duplicates as one reduction finds their clusters."""
    folder = tmp_path_factory.mktemp("straight")
    write(folder / "web", seed=1)
    (folder / "chains.yaml").write_text(SPEC.format(folder=folder))
    return folder / "chains.yaml", values(go(folder / "chains.yaml", until=UNTIL))


@pytest.fixture
def corpus(straight: Any, tmp_path: Path) -> Path:
    """That corpus and its store again, elsewhere, to be changed."""
    shutil.copytree(straight[0].parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chains.yaml").write_text(SPEC.format(folder=tmp_path))
    return tmp_path / "chains.yaml"


@pytest.fixture
def stale(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without its clusters, and where every row is too many for one reduction."""
    told("invalidate", corpus, "clusters")
    monkeypatch.setattr(Clusters, "rows_per_reduce", 1)
    return corpus


@pytest.fixture
def repeated(stale: Path) -> Path:
    """With its clusters, found in rounds."""
    assert states(go(stale, until=UNTIL))["clusters"] == "computed"
    return stale


def rounds(spec: Path) -> set[str]:
    return {path for path in files(spec) if "/clusters@" in path and "/round/" in path and path.endswith(".arrow")}


def test_another_number_of_partitions_changes_no_values_also_for_shards_that_come_later(
    corpus: Path, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "web" / "web-0.jsonl.gz", tmp_path / "web" / "web-9.jsonl.gz")
    settings = ["stages.duplicates.partitions=5"]
    later, fresh = (
        values(go(corpus, [*settings, f"store={tmp_path}/{store}"], until=UNTIL)) for store in ("store", "fresh")
    )
    assert later == fresh


def test_rounds_give_the_values_of_one_reduction(straight: Any, repeated: Path) -> None:
    assert not rounds(straight[0])
    assert len(rounds(repeated)) > 2 * 7
    again = go(repeated, until=UNTIL)
    assert values(again) == straight[1]
    assert set(states(again).values()) == {"cached"}


def test_rounds_are_known_from_manifests_alone(repeated: Path) -> None:
    for path in files(repeated):
        if path.endswith((".arrow", ".parquet")):
            (repeated.parent / "store" / path).unlink()
    plan = {each["name"]: each["state"] for each in told("plan", repeated)["stages"]}
    assert plan["clusters"] == "cached"
    assert told("funnel", repeated)["in"] > 100


def test_rounds_are_recomputed_beside_what_exists(
    straight: Any, repeated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(repeated)
    again = go(repeated, start="clusters", until=UNTIL)
    assert states(again)["clusters"] == "computed"
    assert {path for path in files(repeated) if "columns/" in path} == {path for path in before if "columns/" in path}
    real = Clusters.reduce
    with monkeypatch.context() as patched:
        patched.setattr(Clusters, "reduce", lambda self, rows: real(self, rows.slice(1)))
        with pytest.raises(ChangedError, match=r"clusters: \d of 4 shards with other values"):
            go(repeated, start="clusters", until=UNTIL)
        go(repeated, start="clusters", until=UNTIL, replace=True)
    assert values(go(repeated, until=UNTIL)) != straight[1]
    go(repeated, start="clusters", until=UNTIL, replace=True)
    assert values(go(repeated, until=UNTIL)) == straight[1]


def test_rounds_are_forgotten_with_their_stage_and_computed_again(straight: Any, repeated: Path) -> None:
    before = rounds(repeated)
    told("invalidate", repeated, "clusters")
    assert not rounds(repeated)
    assert values(go(repeated, until=UNTIL)) == straight[1]
    assert rounds(repeated) == before


def test_gc_takes_the_rounds_that_nothing_refers_to(straight: Any, repeated: Path) -> None:
    before = rounds(repeated)
    assert not before & set(told("gc", repeated)["files"])
    write(repeated.parent / "web", seed=2)
    go(repeated, until=UNTIL)
    assert before <= set(told("gc", repeated, "--yes")["files"])
    assert states(go(repeated, until=UNTIL))["clusters"] == "cached"
    write(repeated.parent / "web", seed=1)
    assert values(go(repeated, until=UNTIL)) == straight[1]


def test_a_round_that_fails_stops_the_stage_and_is_tried_again(
    straight: Any, stale: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Clusters.iterate

    def failing(self: Clusters, rows: Any, own: range) -> Any:
        if own.start == 3:
            raise MemoryError("no room for this partition")
        return real(self, rows, own)

    with monkeypatch.context() as patched:
        patched.setattr(Clusters, "iterate", failing)
        with pytest.raises(StageError, match="clusters: MemoryError: no room for this partition"):
            go(stale, until=UNTIL)
    assert values(go(stale, until=UNTIL)) == straight[1]


def test_rounds_that_are_killed_over_and_over_give_the_same_values(
    straight: Any, stale: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver dies without warning after every so many files of the stage, before or after its manifest says so."""
    ends = [killed(monkeypatch, stale)]
    while ends[-1] == 9:
        ends.append(killed(monkeypatch, stale))
    assert ends[-1] == 0
    assert len(ends) > 10
    assert values(go(stale, until=UNTIL)) == straight[1]


def killed(monkeypatch: pytest.MonkeyPatch, spec: Path) -> int:
    """Run in a process that ends itself, without warning, after five files of clusters; its exit code, 9 if it did."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    real, left, code = Store.writer, [5], 1

    @contextmanager
    def writer(self: Store, path: str, *how: bool, **more: bool) -> Iterator[Any]:
        with real(self, path, *how, **more) as file:
            yield file
        left[0] -= "/clusters@" in path
        if left[0] == 0:
            os._exit(9)

    try:
        monkeypatch.setattr(Store, "writer", writer)
        go(spec, until=UNTIL)
        code = 0
    finally:
        os._exit(code)
