"""Which runs the state of a corpus stage lies in."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.dedup import SameUrl
from tasks.arrays import external
from tasks.decision.verdict import Verdict
from tasks.dedup.same_url import PagesOfOneUrl
from tasks.engine import corpus_work
from tasks.engine.corpus_state import spans
from tasks.engine.job import Job
from tasks.storage import columns
from tasks.storage.store import Store
from tests.tasks.decision.test_election import cluster


def test_runs_of_similar_size_are_merged() -> None:
    sizes = [100, 1, 1, 1, 1]
    assert [[last - first + 1 for first, last in spans(sizes[:n])] for n in range(1, 6)] == [
        [1],
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 3, 1],
    ]


def test_runs_follow_each_other_are_few_and_each_row_is_written_a_few_times() -> None:
    rng = random.Random(1)
    sizes = [100_000, *(rng.randrange(1, 100) for _ in range(1000))]
    written, before = 0, set[tuple[int, int]]()
    for count in range(1, len(sizes) + 1):
        found = spans(sizes[:count])
        assert [first for first, _ in found] == [0, *(last + 1 for _, last in found[:-1])]
        assert found[-1][1] == count - 1
        assert len(found) <= 20
        written += sum(sum(sizes[first : last + 1]) for first, last in set(found) - before)
        before = set(found)
    assert written < 10 * sum(sizes)


def test_what_stays_of_generations_that_are_in_no_run_yet_is_what_stays_of_one_after_another(tmp_path: Path) -> None:
    stage, store = PagesOfOneUrl(SameUrl(keep="latest", partitions=1)), Store(str(tmp_path))
    slices = []
    for generation in (1, 2):
        page: dict[str, list[Any]] = {"url": ["https://a.org/"], "file": [f"{generation}.warc"], "offset": [0]}
        rows = stage.map(pa.table(page | {"text": ["a page"]}))
        rows = rows.append_column("shard", pa.array([generation], pa.uint64()))
        entry: dict[str, Any] = {"key": str(generation)}
        parts, schema = corpus_work._partitioned(stage, rows, "map", entry)
        columns.write_slices(store, f"{generation}.arrow", parts, schema, entry)
        slices.append((f"{generation}.arrow", 0, entry["slices"]["0"]))
    job = Job("state", "key", "state.arrow", "state", "run", slices=tuple(slices), ends=(1, 2))
    [state], _ = corpus_work.do_state(stage, job, store, {})
    assert state["shard"].to_pylist() == [1]  # of which the second generation said that it stays
    assert np.array_equal(state["stands"].to_numpy(), [True])


def test_a_cluster_of_many_documents_lies_in_slices_that_are_read_one_by_one(tmp_path: Path, monkeypatch: Any) -> None:
    stage, store = Verdict((), ("quality", "length"), 1), Store(str(tmp_path))
    rows = cluster(400, seed=1)
    slices = []
    for generation, part in enumerate((rows[:300], rows[300:])):
        entry: dict[str, Any] = {"rows": part.num_rows}
        columns.write_slices(store, f"{generation}.arrow", [part], rows.schema, entry)
        slices.append((f"{generation}.arrow", 0, columns.slice_digest(part)))

    def decided(name: str) -> tuple[int, pa.Table]:
        """Of how many slices the state is, and what a reduction says that reads it."""
        entry: dict[str, Any] = {"key": name}
        parts, schema = corpus_work.do_state(
            stage, Job("state", "", "", "", "", slices=(slices[0],), ends=(1,)), store, entry
        )
        columns.write_slices(store, name, parts, schema, entry)
        assert [*entry["slices"]][:2] == ["0:0", "0:0:1"][: len(parts)]
        state = ((name, tuple(entry["slices"]), tuple(entry["slices"].values())),)
        found, _ = corpus_work.do_reduce(
            stage, Job("reduce", "", "", "", "", slices=(slices[1],), state=state), store, {}
        )
        return len(parts), pa.concat_tables(found)

    count, whole = decided("whole")
    monkeypatch.setattr(corpus_work, "MOST", 7)
    monkeypatch.setattr(external, "HELD", 10_000)
    more, same = decided("cut")
    assert count == 1
    assert more > 10
    assert same.equals(whole)
    assert same.num_rows > 20
