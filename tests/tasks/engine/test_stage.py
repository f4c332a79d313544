"""The stage contract: fingerprints, order, and what a worker refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data_specs.base import Settings
from tasks.engine import worker
from tasks.engine.contract import ContractError
from tasks.engine.job import Job, shard_uid
from tasks.engine.nodes import Node, ordered
from tasks.engine.stage import CorpusStage, Stage
from tasks.storage import columns
from tasks.storage.store import Store


class Length(Settings):
    """Settings of the toy stage."""

    at_most: int = 5
    memory: int = 1


class Toy(Stage):
    """Text's length, cut; `broken` says how it breaks its contract."""

    name = "toy"
    reads = ("text",)
    writes = pa.schema([("length", pa.float32())])
    unhashed = frozenset({"memory"})
    broken = ""

    def __call__(self, batch: pa.Table) -> pa.Table:
        lengths = [float(len(text)) for text in batch["text"].to_pylist()]
        if self.broken == "rows":
            lengths = lengths[:-1]
        if self.broken == "nan":
            lengths[0] = float("nan")
        return pa.table({"size" if self.broken == "name" else "length": pa.array(lengths, pa.float32())})


def node(stage_name: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> Node:
    stage = Toy(Length())
    stage.reads, stage.writes = reads, pa.schema([(name, pa.int32()) for name in writes])
    return Node(stage_name, stage)


def test_a_fingerprint_changes_with_what_shapes_values_and_with_nothing_else() -> None:
    plain = Toy(Length()).fingerprint
    assert Toy(Length(memory=9)).fingerprint == plain
    gated = Toy(Length())
    gated.where = "length(text) > 3"
    newer = Toy(Length())
    newer.version = 2  # type: ignore[misc]
    others = [Toy(Length(at_most=6)), Toy(Length(), {"model.bin": "ab"}), gated, newer]
    assert len({plain, *(stage.fingerprint for stage in others)}) == 5
    assert Toy(Length(), {"elsewhere/model.bin": "ab"}).fingerprint == others[1].fingerprint


def test_stages_run_in_the_order_that_their_columns_ask_for() -> None:
    nodes = [node("c", ("b",), ("c",)), node("a", ("text",), ("a",)), node("b", ("a", "text"), ("b",))]
    assert [n.name for n in ordered(nodes)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="c needs b, which no stage writes"):
        ordered(nodes[:2])
    with pytest.raises(ValueError, match="a is written by a and by d"):
        ordered([*nodes, node("d", ("text",), ("a",))])
    with pytest.raises(ValueError, match=r"stages need each other: x needs v of y, y needs u of x$"):
        ordered([node("w", ("u",), ("w",)), node("x", ("v",), ("u",)), node("y", ("u",), ("v",))])


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Store, Job]:
    store = Store(str(tmp_path))
    columns.write(store, "d.parquet", pa.table({"text": ["a", "bcd", "", "efghij"]}), {"ids": "ab" * 16})
    inputs = (("d.parquet", (("text", "text"),)),)
    return store, Job("shard", "k", "out.parquet", "d", "run", "ab" * 16, 4, inputs)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("rows", "returned 3 rows for 4"),
        ("nan", "wrote NaN into length; undefined is null, as a share of an empty text"),
        ("name", r"columns \['size'\], declared"),
    ],
)
def test_a_stage_that_breaks_its_contract_commits_nothing(shard: tuple[Store, Job], broken: str, message: str) -> None:
    store, job = shard
    stage = Toy(Length())
    stage.broken = broken
    with pytest.raises(ContractError, match=message):
        worker.run(stage, job, store)
    assert store.list("") == {"d.parquet": store.list("")["d.parquet"]}


def test_a_gate_leaves_the_columns_of_skipped_rows_null(shard: tuple[Store, Job]) -> None:
    store, job = shard
    stage = Toy(Length())
    stage.where = "length(text) between 1 and 3"
    entry = worker.run(stage, job, store)
    assert columns.read(store, "out.parquet")["length"].to_pylist() == [1.0, 3.0, None, None]
    assert columns.recovered(store, "out.parquet") == entry


class Longest(CorpusStage):
    """Whether a document is the longest with its first letter."""

    name = "longest"
    partitions = 3
    reads = scatters = ("text",)
    shuffled = pa.schema([("position", pa.uint32()), ("first", pa.int32()), ("length", pa.int32())])
    reduced = pa.schema([])
    writes = pa.schema([("longest", pa.bool_())])

    def map(self, batch: pa.Table) -> pa.Table:
        rows = [(i, ord(t[0]), len(t)) for i, t in enumerate(batch["text"].to_pylist()) if t]
        table = pa.Table.from_pylist(
            [{"position": i, "first": f, "length": n, "partition": f % 3} for i, f, n in rows],
            pa.schema([*self.shuffled, ("partition", pa.int32())]),
        )
        return table

    def reduce(self, rows: pa.Table) -> pa.Table:
        best: dict[int, dict[str, int]] = {}
        for row in rows.to_pylist():
            if row["first"] not in best or row["length"] > best[row["first"]]["length"]:
                best[row["first"]] = row
        found = list(best.values())
        return pa.table(
            {
                "shard": pa.array([row["shard"] for row in found], pa.uint64()),
                "position": pa.array([row["position"] for row in found], pa.uint32()),
            }
        )

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        chosen = set(rows["position"].to_pylist())
        return pa.table({"longest": [place in chosen for place in range(batch.num_rows)]})


def test_a_corpus_stage_meets_every_row_of_a_key_in_one_partition(tmp_path: Path) -> None:
    store, stage = Store(str(tmp_path)), Longest(Settings())
    shards = {"11" * 16: ["apple", "", "pear"], "22" * 16: ["avocado", "plum", "fig"]}
    maps = {}
    for ids, texts in shards.items():
        columns.write(store, f"{ids}.parquet", pa.table({"text": texts}), {"ids": ids})
        inputs = ((f"{ids}.parquet", (("text", "text"),)),)
        job = Job("map", ids, f"map/{ids}.arrow", ids, "run", ids, 3, inputs)
        maps[ids] = worker.run(stage, job, store)
    found: dict[str, list[bool]] = {}
    reduces = {}
    for partition in ("0", "1", "2"):
        slices = tuple(
            (f"map/{ids}.arrow", list(entry["slices"]).index(partition), entry["slices"][partition])
            for ids, entry in maps.items()
            if partition in entry["slices"]
        )
        job = Job("reduce", partition, f"reduce/{partition}.arrow", partition, "run", slices=slices)
        reduces[partition] = worker.run(stage, job, store)
    for ids in shards:
        uid = str(shard_uid(ids))
        slices = tuple(
            (f"reduce/{partition}.arrow", list(entry["slices"]).index(uid), entry["slices"][uid])
            for partition, entry in reduces.items()
            if uid in entry["slices"]
        )
        inputs = ((f"{ids}.parquet", (("text", "text"),)),)
        worker.run(stage, Job("scatter", ids, f"{ids}.out.parquet", ids, "run", ids, 3, inputs, slices), store)
        found[ids] = columns.read(store, f"{ids}.out.parquet")["longest"].to_pylist()
    assert list(found.values()) == [[False, False, True], [True, False, True]]
