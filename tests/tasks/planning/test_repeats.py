"""Documents that stand in an epoch more often than once, or less, counted in the rows of plans."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_specs.spec import Spec
from tasks.arrays import external
from tasks.dedup.cluster_sizes import ClusterSizes
from tasks.planning.files import read_rows
from tasks.planning.inputs import hosts
from tasks.planning.run_plan import build, plan_folder
from tasks.registry import nodes
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tests import corpus_runner, small, whole
from tests.commands import told

LENGTH = 16
COUNT = 600
NUMBERS = np.arange(COUNT)


def planned(folder: Path, tokens: int, epochs: float = 1, **mixture: Any) -> tuple[dict[str, Any], np.ndarray, Store]:
    """A plan over one channel of equal documents; how often each is used."""
    spec = Spec.model_validate(
        {
            "name": "many",
            "sources": {"pages": {"kind": "jsonl", "paths": "*.jsonl"}},
            "channels": {"all": "true"},
            "mixture": {"tokens": tokens, "epochs": {"default": epochs}, **mixture},
            "training": {"sequence": 8, "workers": 1, "batch": {"tokens": 32, "micro": 1}},
        }
    )
    bits = np.random.default_rng(1).integers(0, 2**63, (COUNT, 2)).tobytes()
    table = pa.table(
        {
            "id": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), COUNT, [None, pa.py_buffer(bits)]),
            "channel": ["all"] * COUNT,
            "length": pa.array(np.full(COUNT, LENGTH, np.int32)),
            "held_out": [False] * COUNT,
            **{f"repeat_{n}": pa.array(NUMBERS % (n + 2) == 0) for n in range(len(spec.mixture.repeat))},
            "cluster_size": pa.array(NUMBERS),
            "host": pa.array((NUMBERS // 100).astype(np.uint64)),
        }
    )
    store = Store(str(folder))
    plan = build(spec, 99, "0" * 32, [("a.arrow", table)], store)
    place = plan_folder(spec, "0" * 32)
    usage = read_rows(store, f"{place}/usage.arrow", plan["content"]["usage.arrow"])
    assert usage["offset"].to_numpy().tolist() == (NUMBERS * LENGTH).tolist()  # every document once
    uses = usage["uses"].to_numpy()
    rows = pa.concat_tables(
        read_rows(store, f"{place}/{name}", digest)
        for name, digest in plan["content"].items()
        if name.startswith("rows-")
    )
    begun = Counter((rows["offset"].combine_chunks().flatten().to_numpy() // LENGTH).tolist())
    assert set(begun) == {*np.flatnonzero(uses).tolist()}
    return plan, uses, store


def cell(times: float) -> dict[str, Any]:
    return {"where": "true", "times": times}


def test_cells_stand_as_often_as_they_say_and_the_first_counts(tmp_path: Path) -> None:
    times = np.where(NUMBERS % 2 == 0, 3, np.where(NUMBERS % 3 == 0, 0, 1))
    epoch = int(times.sum()) * LENGTH
    plan, uses, _ = planned(tmp_path, (epoch - 1) // 32 * 32, repeat=[cell(3), cell(0)])
    assert np.abs(uses - times).sum() <= 2  # the last step may want less than the epoch has
    assert plan["usage"]["all"]["tokens"] == epoch
    assert plan["usage"]["all"]["documents"] == COUNT
    assert sum(plan["usage"]["all"]["counts"].values()) == COUNT
    with pytest.raises(ValueError, match="epochs"):
        planned(tmp_path / "more", epoch + 64, repeat=[cell(3), cell(0)])


def test_a_part_of_a_time_is_a_part_of_the_documents_and_the_same_ones_in_every_epoch(tmp_path: Path) -> None:
    _, once, _ = planned(tmp_path / "one", 6400, epochs=4, repeat=[cell(0.25)])
    _, thrice, _ = planned(tmp_path / "three", 19200, epochs=4, repeat=[cell(0.25)])
    even = NUMBERS % 2 == 0
    chosen = even & (thrice > 0)
    assert abs(chosen.sum() - 75) < 4 * np.sqrt(300 * 0.25 * 0.75)
    assert not once[even & ~chosen].any()
    assert set(thrice[chosen].tolist()) <= {3, 4}
    _, uses, _ = planned(tmp_path / "more", 19200, epochs=4, repeat=[cell(1.25)])
    assert abs((uses[even].mean() / uses[~even].mean()) - 1.25) < 0.12


def test_copies_of_a_document_are_spread_over_the_epoch(tmp_path: Path) -> None:
    plan, _, store = planned(tmp_path, 3 * COUNT * LENGTH // 2 - 32, repeat=[cell(2)])
    [name] = [name for name in plan["content"] if name.startswith("rows-")]
    rows = read_rows(store, f"plans/many@{'0' * 16}/{name}", plan["content"][name])
    document = rows["offset"].combine_chunks().flatten().to_numpy() // LENGTH
    row = np.repeat(np.arange(len(rows)), np.diff(rows["offset"].combine_chunks().offsets.to_numpy()))
    spans = [np.ptp(row[document == each]) for each in range(0, COUNT, 2)]
    assert np.mean(spans) > len(rows) / 4


def test_rehydration_follows_the_table_by_the_size_of_clusters(tmp_path: Path) -> None:
    table = {0: 1, 1: 1, 2: 2, 3: 3, 4: 3, 5: 5, 99: 5, 100: 8, 599: 8}
    times = np.select([NUMBERS < 2, NUMBERS < 3, NUMBERS < 5, NUMBERS < 100], [1, 2, 3, 5], 8)
    _, uses, _ = planned(tmp_path, int(times.sum()) * LENGTH // 32 * 32 - 32, rehydration="fineweb2")
    assert all(abs(int(uses[number]) - expected) <= 1 for number, expected in table.items())
    assert np.abs(uses - times).sum() <= 4
    _, uses, _ = planned(tmp_path / "own", 9000 // 32 * 32, epochs=2, rehydration={1: 0, 300: 1})
    assert not uses[:300].any()
    assert uses[300:].min() >= 1


def test_a_host_gives_no_more_than_its_tokens_and_those_without_one_are_free(tmp_path: Path) -> None:
    most = 30 * LENGTH + 3
    _, uses, _ = planned(tmp_path, 3968, host_tokens=most)
    assert [(uses[first : first + 100] > 0).sum() <= 30 for first in range(100, COUNT, 100)] == [True] * 5
    _, all_of_it, _ = planned(tmp_path / "twice", 7936, epochs=2, host_tokens=most)
    assert [(all_of_it[first : first + 100] > 0).sum() for first in range(0, COUNT, 100)] == [100, *[30] * 5]
    assert ((uses > 0) <= (all_of_it > 0)).all()


def test_a_host_is_that_of_its_url() -> None:
    urls = ["https://www.Example.org/a", "http://example.org:80/b", "http://other.org", None, "no url"]
    one, same, other, *none = hosts(pa.chunked_array([urls], pa.string())).to_pylist()
    assert one == same != other
    assert none == [0, 0]


@pytest.mark.parametrize("held", [1, external.HELD])
def test_the_size_of_a_cluster_counts_its_documents_those_of_earlier_generations_too(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(external, "HELD", held)
    stage = ClusterSizes(Spec.model_validate(_SMALL).duplicates)
    cluster = pa.array([5, None, 7, 5, 5, None, 7, 9], pa.uint64())
    shards = [pa.table({"cluster": part}) for part in (cluster[:3], cluster[3:])]
    found = pa.concat_tables(corpus_runner.run(stage, shards))
    assert found["cluster_size"].to_pylist() == [3, 1, 2, 3, 3, 1, 2, 1]

    def mapped(table: pa.Table, shard: int) -> pa.Table:
        rows = stage.map(table).drop_columns("partition")
        return rows.append_column("shard", pa.array(np.full(rows.num_rows, shard, np.uint64)))

    parts = [stage.remember(mapped(table, number)) for number, table in enumerate(shards)]
    state = stage.remember(pa.concat_tables(parts))
    assert sorted(zip(state["cluster"].to_pylist(), state["documents"].to_pylist(), strict=True)) == [
        (5, 3),
        (7, 2),
        (9, 1),
    ]
    newer = mapped(pa.table({"cluster": pa.array([7, 8], pa.uint64())}), 3)
    later = stage.reduce(pa.concat_tables([state, newer])).to_pylist()
    assert {row["position"]: row["size"] for row in later if row["shard"] == 3} == {0: 3, 1: 1}


def test_phases_may_read_the_size_of_clusters_as_cells_may(tmp_path: Path) -> None:
    phase = {"until": 1.0, "weights": {"all": 1}, "where": "cluster_size > 1", "order": {"by": "cluster_size"}}
    for mixture in ({"phases": [phase]}, {"repeat": [{"where": "cluster_size > 1", "times": 2}]}):
        spec = Spec.model_validate(_SMALL | {"mixture": mixture})
        assert "cluster_size" in [node.name for node in nodes(spec, Pins(Store(str(tmp_path)), "small"))]


def test_a_run_takes_cells_sizes_of_clusters_and_hosts_from_its_columns(tmp_path: Path) -> None:
    given = [
        "mixture.rehydration=fineweb2",
        'mixture.repeat=[{where: "quality > percentile(quality, 50)", times: 2}, {where: "words < 9", times: 0}]',
        "mixture.host_tokens=40K",
        "gates.removed_per_source=100%",
    ]
    spec = small.corpus(tmp_path, files=1)
    run = whole.go(spec, given)
    sql = "select cluster_size, count(*) over (partition by cluster), cluster from corpus"
    rows = told("query", spec, sql, *(f"--set={each}" for each in given))["rows"]
    assert [row[0] for row in rows] == [row[1] if row[2] is not None else 1 for row in rows]
    assert max(row[0] for row in rows) > 1
    plain = whole.go(spec, given[3:])
    more, once = (sum(each["tokens"] for each in made.plan_facts["usage"].values()) for made in (run, plain))
    assert more != once
    assert whole.states(whole.go(spec, given))["plan"] == "cached"
    other = [given[0], given[1].replace("50)", "60)"), *given[2:]]
    assert whole.states(whole.go(spec, other))["plan"] == "computed"


_SMALL = {
    "name": "small",
    "sources": {"pages": {"kind": "jsonl", "paths": "*.jsonl"}},
    "channels": {"all": "true"},
}
