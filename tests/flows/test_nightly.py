"""A corpus that grows night by night: at the cost of what is new, and to the same end whatever happens meanwhile."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.arrays.hashing import seeded_hash
from tasks.dedup import minhash
from tasks.dedup.clusters import Clusters
from tasks.dedup.duplicates import CandidateGroups
from tasks.dedup.pairs import VerifiedPairs
from tasks.storage.store import Store
from tests import generations
from tests.commands import ask, files, told
from tests.flows.nights import ALONE, FILES, FIRST, TOGETHER, add, counted, elsewhere, values
from tests.generations import Expected, documents, night

# -- the cost of a night -----------------------------------------------------------------------------------------------


def test_a_night_runs_jobs_for_the_new_shard_and_at_most_one_for_each_partition_and_step(grown: Path) -> None:
    for number in (FIRST, FIRST + 1):
        add(grown, [number])
        jobs: list[tuple[str, str, str]] = []
        run = night(grown, fan=counted(jobs))
        new = run.pipeline.shards[-1].name
        assert {name for _, kind, name in jobs if kind in ALONE} == {new}
        shared = Counter((stage, kind) for stage, kind, _ in jobs if kind not in ALONE)
        assert {kind for stage, kind in shared if kind not in TOGETHER[stage]} == set()
        assert max(shared.values()) <= 3
        alone = Counter((stage, kind) for stage, kind, _ in jobs if kind in ALONE)
        assert set(alone.values()) == {1}
        ask("gc", grown, "--yes")


def test_a_night_writes_no_file_of_an_older_shard_and_reads_texts_of_documents_that_share_a_bucket_alone(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, old = set(files(grown)), documents(grown)
    recalled: list[str] = []
    real = VerifiedPairs.recall

    def recall(self: VerifiedPairs, batch: Any, rows: Any) -> Any:
        recalled.extend(batch["text"].to_pylist())
        return real(self, batch, rows)

    monkeypatch.setattr(VerifiedPairs, "recall", recall)
    add(grown, [FIRST])
    run = night(grown)
    written = [path for path in set(files(grown)) - stored if path.count("/") == 2 and path.startswith("columns/")]
    stages = Counter(path.split("/")[1] for path in written if path.endswith((".parquet", ".arrow")))
    assert set(stages.values()) == {1}
    assert len(stages) >= 10
    now = documents(grown)
    assert {each: now[each] for each in old} == old
    assert run.record["version"]["new"] == 1
    families = {row["url"].split("/")[3] for each, row in now.items() if each not in old}
    assert recalled
    assert set(recalled) <= {row["text"] for row in old.values() if row["url"].split("/")[3] in families}


def test_a_night_without_anything_new_runs_no_job_and_makes_no_version(grown: Path) -> None:
    add(grown, [FIRST])
    night(grown)
    before = files(grown)
    jobs: list[tuple[str, str, str]] = []
    run = night(grown, fan=counted(jobs))
    assert jobs == []
    assert run.record["version"]["version"] == 2
    assert set(set(files(grown)) - set(before)) == {f"runs/records/{run.name}/run.json"}


# -- what stays --------------------------------------------------------------------------------------------------------


def test_the_older_stays_and_of_what_is_new_what_the_pages_alone_say(grown: Path) -> None:
    expected = Expected()
    old: dict[str, Any] = {}
    for number in range(FIRST, len(FILES) + 1):
        now = documents(grown)
        assert {each: now[each] for each in old} == old
        _grown(expected, old, now)
        old = now
        if number < len(FILES):
            add(grown, [number])
            night(grown)
    reasons = Counter(row["reason"] for row in old.values() if row["file"].split(".")[0] in {"web-9", "web-10"})
    assert {"duplicate", "held_out_copy", "bad", None} <= set(reasons)


def _grown(expected: Expected, old: dict[str, Any], now: dict[str, Any]) -> None:
    """After a night old documents have the reasons that they had, and new ones those that are expected."""
    assert {each: now[each]["reason"] for each in old} == {each: old[each]["reason"] for each in old}
    expected.add([row for each, row in now.items() if each not in old])
    assert {each: row["reason"] for each, row in now.items()} == expected.reasons
    _check(now)


def _check(now: dict[str, dict[str, Any]]) -> None:
    """A duplicate is of one that is kept, and in its cluster; documents of a family have one cluster."""
    at = {(row["shard"], row["position"]): row for row in now.values()}
    clusters: dict[str, set[int]] = {}
    for row in now.values():
        assert (row["reason"] == "duplicate") == (row["duplicate_of"] is not None)
        if row["duplicate_of"] is not None:
            survivor = at[row["duplicate_of"]["shard"], row["duplicate_of"]["position"]]
            assert survivor["kept"]
            assert survivor["url"].split("/")[3] == row["url"].split("/")[3]
        if row["cluster"] is not None:
            clusters.setdefault(row["url"].split("/")[3], set()).add(row["cluster"])
    assert {len(found) for found in clusters.values()} == {1}


def test_survivors_do_not_depend_on_how_a_generation_lies_in_files(first: Path, tmp_path: Path) -> None:
    added = [row for number in range(FIRST, len(FILES)) for row in FILES[number]]
    found = []
    for seed in (1, 2):
        path = elsewhere(first, tmp_path / str(seed))
        rows = random.Random(seed).sample(added, len(added))
        for number in range(3 * seed):
            generations.write(path.parent, f"new-{seed}-{number}", rows[number :: 3 * seed])
        night(path)
        found.append({row["url"]: row["reason"] for row in documents(path).values()})
    assert found[0] == found[1]


def test_a_source_that_comes_later_has_held_out_documents_and_leaves_older_ones_as_they_are(grown: Path) -> None:
    old = documents(grown)
    settings = ["training.evaluate.held_out=30%"]
    web = f'web: {{kind: jsonl, paths: "{grown.parent}/web/*.jsonl.gz", shard: 1}}'
    both = f"{{{web}, {web.replace('web', 'news')}}}"
    text = grown.read_text().replace(f"{{{web}}}", both)
    assert both in text
    news = generations.pages(2, 90, seed=1)  # the same families
    for number in range(2):
        generations.write(grown.parent, f"news-{number}", news[number], "news")
        grown.write_text(text)
        jobs: list[tuple[str, str, str]] = []
        run = night(grown, settings, fan=counted(jobs))
        assert len({name for _, kind, name in jobs if kind in ALONE}) == 1
        now = documents(grown)
        assert {each: now[each] for each in old} == old
        new = [row for each, row in now.items() if each not in old]
        assert 0.15 * len(new) < sum(row["held_out"] for row in new) < 0.5 * len(new)
        old = now
    kept = [(row["url"].split("/")[3], row["file"]) for row in old.values() if row["kept"]]
    judged = [row for row in old.values() if row["reason"] == "held_out" and row["file"].startswith("news")]
    assert {row["evaluated"] for row in judged} == {True, False}
    for row in judged:
        earlier = ("web",) if row["file"].startswith("news-0") else ("web", "news-0")
        seen = {family for family, file in kept if file.startswith(earlier)}
        assert row["evaluated"] == (row["url"].split("/")[3] not in seen)
    before = values(run)["held_out"]
    assert values(night(grown, settings, rebase=True))["held_out"] == before


def test_after_a_takedown_a_cluster_of_several_generations_elects_again_and_nights_go_on(grown: Path) -> None:
    add(grown, [FIRST, FIRST + 1])
    night(grown)
    before = documents(grown)
    later = f"web-{FIRST}."
    gone = next(row for row in before.values() if row["reason"] == "duplicate" and row["file"].startswith(later))
    family = [each for each, row in before.items() if row["url"].split("/")[3] == gone["url"].split("/")[3]]
    [kept] = [each for each in family if before[each]["kept"]]
    told("takedown", grown, "--id", kept, "--only", "--yes")
    night(grown)
    after = documents(grown)
    assert after[kept]["reason"] == "takedown"
    assert sum(after[each]["kept"] for each in family) == 1
    changed = {each for each in before if before[each]["reason"] != after[each]["reason"]}
    assert kept in changed
    assert changed <= set(family)
    add(grown, [FIRST + 2])
    jobs: list[tuple[str, str, str]] = []
    run = night(grown, fan=counted(jobs))
    assert {name for _, kind, name in jobs if kind in ALONE} == {run.pipeline.shards[-1].name}
    now = documents(grown)
    assert {each: now[each] for each in after} == after


# -- the same end ------------------------------------------------------------------------------------------------------


def test_nights_that_are_killed_over_and_over_come_to_the_same_end(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, other = elsewhere(first, tmp_path / "straight"), elsewhere(first, tmp_path / "other")
    for number in (FIRST, FIRST + 1):
        add(straight, [number])
        add(other, [number])
        expected = night(straight)
        ends = []
        rng = random.Random(number)
        while not ends or ends[-1] == 9:
            ends.append(_killed(monkeypatch, other, rng.randrange(3, 40)))
        assert ends[-1] == 0
        assert len(ends) > 1
    assert values(night(other)) == values(expected)
    assert kept_files(other) == kept_files(straight)


def kept_files(path: Path) -> set[str]:
    """Files that are named by what made them."""
    named = ("documents/", "columns/", "tokens/", "versions/nightly/keys")
    return {each for each in files(path) if each.startswith(named) and "/manifest/" not in each}


def _killed(monkeypatch: pytest.MonkeyPatch, path: Path, after: int) -> int:
    """A night in a process that ends itself, without warning, after so many files; its exit code, 9 if it did."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    real, left, code = Store.writer, [after], 1

    @contextmanager
    def writer(self: Store, where: str, *how: bool, **more: bool) -> Iterator[Any]:
        with real(self, where, *how, **more) as file:
            yield file
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)

    try:
        monkeypatch.setattr(Store, "writer", writer)
        night(path)
        code = 0
    finally:
        os._exit(code)


def test_other_rules_and_partitions_go_through_the_generations_again_and_come_to_the_same_end(
    first: Path, tmp_path: Path
) -> None:
    settings = ["rules.bad=text like '% more0%'", "stages.duplicates.partitions=5"]
    changed, always = elsewhere(first, tmp_path / "changed"), generations.corpus(tmp_path / "always", FILES[:FIRST])
    night(always, settings)
    for number in (FIRST, FIRST + 1):
        for path, given in ((changed, []), (always, settings)):
            add(path, [number])
            night(path, given)
    one, other = night(changed, settings), night(always, settings)
    assert one.record["version"]["version"] == 4
    assert [len(each) for each in one.pipeline.generations()] == [FIRST, 1, 1]
    for name in ("exact", "candidates", "pairs", "alike", "clusters", "verdict"):
        assert values(one)[name] == values(other)[name]


def test_a_store_without_pairs_below_the_threshold_goes_on_with_them_and_old_documents_keep_their_verdicts(
    tmp_path: Path,
) -> None:
    """It was made before there were such by default."""
    path, expected = generations.corpus(tmp_path, FILES[:FIRST], threshold=0.7), Expected()
    text = path.read_text()
    path.write_text(text.replace("threshold: 0.7", "threshold: 0.7, floor: 0.7"))
    old: dict[str, Any] = {}
    for number in (FIRST, FIRST + 1, FIRST + 2):
        states = {each["name"]: each["state"] for each in night(path).record["stages"]}
        now = documents(path)
        _grown(expected, old, now)
        old = now
        add(path, [number])
        if number == FIRST + 1:
            path.write_text(text)
    assert states["pairs"] == "computed"
    assert [each["version"] for each in told("versions", path)["versions"]] == [1, 2, 3]


def test_a_store_of_earlier_signatures_goes_on_with_those_of_now_and_old_documents_keep_their_verdicts(
    tmp_path: Path,
) -> None:
    path, expected = generations.corpus(tmp_path, FILES[:FIRST], threshold=0.8), Expected()
    old: dict[str, Any] = {}
    for number in (FIRST, FIRST + 1, FIRST + 2):
        with pytest.MonkeyPatch.context() as patch:
            if number <= FIRST + 1:
                patch.setattr(CandidateGroups, "version", 2)
                patch.setattr(minhash, "signatures", permuted)
            night(path)
            now = documents(path)
        _grown(expected, old, now)
        old = now
        if number == FIRST + 1:
            planned = {each["name"]: each["state"] for each in told("plan", path)["stages"]}
            assert planned["exact"] == "cached"
            assert planned["candidates"] == "stale"
        add(path, [number])


def permuted(hashes: np.ndarray, offsets: np.ndarray, count: int) -> np.ndarray:
    """Signatures of version 2: for each place the least of all shingles by a permutation."""
    factors = seeded_hash(np.arange(count, dtype=np.uint64), "permutation") | np.uint64(1)
    rows = [
        (hashes[start:end, None] * factors).min(axis=0, initial=2**64 - 1) for start, end in itertools.pairwise(offsets)
    ]
    return np.array(rows, np.uint64).reshape(-1, count)


def test_clusters_of_a_night_that_are_found_in_rounds_are_the_same(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for rows in (2**20, 1):
        monkeypatch.setattr(Clusters, "rows_per_reduce", rows)
        path = elsewhere(first, tmp_path / str(rows))
        add(path, range(FIRST, len(FILES)))
        found.append(values(night(path)))
        assert any("/clusters@" in each and "/round/" in each for each in files(path)) == (rows == 1)
    assert found[0] == found[1]


@pytest.mark.parametrize("stage", TOGETHER)
def test_a_stage_of_several_generations_is_computed_again_beside_what_exists_and_is_the_same(
    twice: Path, stage: str
) -> None:
    before = kept_files(twice)
    run = night(twice, start=stage)
    assert {each["name"]: each["note"] for each in run.record["stages"]}[stage] == "recomputed: same values"
    assert kept_files(twice) == before


@pytest.mark.parametrize("size", [1, FIRST])
def test_damaged_state_is_made_again(tmp_path: Path, first: Path, size: int) -> None:
    """Also where it would only be merged with newer state, of which there is as much."""
    found = []
    for name in ("whole", "damaged"):
        if size == FIRST:
            path = elsewhere(first, tmp_path / name)
        else:
            night(path := generations.corpus(tmp_path / name, FILES[:size]))
        add(path, [FIRST])
        night(path)
        if name == "damaged":
            state = [each for each in files(path) if "/state/" in each and each.endswith(".arrow")]
            assert len(state) > 6
            for each in state:
                file = path.parent / "store" / each
                data = bytearray(file.read_bytes())
                data[len(data) // 2] ^= 1
                file.write_bytes(data)
        add(path, [FIRST + 1])
        found.append(values(night(path)))
    assert found[0] == found[1]
