"""The held-out table is frozen: who is in it follows from the id and the seed, once."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pytest

from data_specs.training import Evaluate
from tasks.arrays.hashing import below, seeded_hash, words
from tasks.decision.held_out import HeldOut, HeldOutColumn
from tasks.storage.pinned_texts import written
from tests.golden import check_golden

COUNT = 20_000


def documents(first: int = 0, count: int = COUNT) -> pa.Table:
    ids = [hashlib.md5(str(number).encode()).digest() for number in range(first, first + count)]
    sources = ["crawl" if number % 4 else "books" for number in range(first, first + count)]
    texts = [f"text {number}" for number in range(first, first + count)]
    payloads = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return pa.table({"id": pa.array(ids, pa.binary(16)), "source": sources, "text": texts, "payload": payloads})


def frozen(table: pa.Table, share: float = 0.05, seed: int = 1) -> tuple[bytes, dict[str, object]]:
    learner = HeldOut(Evaluate(held_out=share), seed)
    return learner.fit(learner.sample(table).sort_by("id"))


def column(data: bytes, folder: Path, table: pa.Table) -> list[bool]:
    path = folder / "held_out.arrow"
    path.write_bytes(data)
    stage = HeldOutColumn({str(path): hashlib.sha256(data).hexdigest()})
    stage.setup()
    return stage(table.select(["id", "payload"]))["held_out"].to_pylist()


def test_the_share_is_taken_of_every_source_and_the_facts_say_so() -> None:
    _, facts = frozen(documents())
    sources = facts["sources"]
    assert isinstance(sources, dict)
    assert facts["rows"] == sum(sources.values())
    assert sources["crawl"] == pytest.approx(0.05 * 15_000, rel=0.15)
    assert sources["books"] == pytest.approx(0.05 * 5_000, rel=0.2)


def test_membership_does_not_depend_on_shards_but_on_the_seed() -> None:
    table = documents()
    learner = HeldOut(Evaluate(held_out=0.05), 1)
    parts = [learner.sample(table.slice(start, 3_000)) for start in range(0, COUNT, 3_000)]
    assert learner.fit(pa.concat_tables(parts).sort_by("id")) == frozen(table)
    assert frozen(table, seed=2)[0] != frozen(table)[0]


def test_a_larger_share_holds_out_all_that_a_smaller_one_does() -> None:
    hashes = seeded_hash(words(documents()["id"]), 1)
    assert not (below(hashes, 0.01) & ~below(hashes, 0.05)).any()
    assert below(hashes, 1.0).all()
    assert not below(hashes, 0.0).any()


def test_the_column_is_membership_in_the_table_and_not_the_hash(tmp_path: Path) -> None:
    data, _ = frozen(documents())
    table = pa.ipc.open_file(io.BytesIO(data)).read_all()
    members = set(table["id"].to_pylist())
    assert table["text"].to_pylist() == [
        text
        for key, text in sorted(zip(*documents().select(["id", "text"]).to_pydict().values(), strict=True))
        if key in members
    ]
    assert column(data, tmp_path, documents()) == [key in members for key in documents()["id"].to_pylist()]
    assert not any(column(data, tmp_path, documents(first=COUNT)))


def test_by_ids_and_payloads_and_by_payloads_elsewhere_but_not_where_another_record_stands(tmp_path: Path) -> None:
    data, _ = frozen(documents())
    path = tmp_path / "held_out.arrow"
    path.write_bytes(data)
    table = pa.ipc.open_file(io.BytesIO(data)).read_all()
    one, other, new = (table["id"][0].as_py(), table["id"][1].as_py(), b"n" * 16)
    first, second = table["payload"].to_pylist()[:2]
    cases = [
        ((one, first), (True, False)),
        ((other, "f" * 64), (False, False)),
        ((other, first), (True, True)),
        ((new, second), (True, True)),
        ((new, "f" * 64), (False, False)),
        ((one, None), (True, False)),  # it was taken down
        ((new, None), (False, False)),
    ]
    ids, payloads = zip(*(case for case, _ in cases), strict=True)
    stage = HeldOutColumn({str(path): hashlib.sha256(data).hexdigest()})
    stage.setup()
    found = stage(pa.table({"id": pa.array(ids, pa.binary(16)), "payload": pa.array(payloads, pa.string())}))
    assert [*zip(*(found[name].to_pylist() for name in found.column_names), strict=True)] == [want for _, want in cases]


def test_a_table_of_an_earlier_version_goes_on_by_ids(tmp_path: Path) -> None:
    data, _ = frozen(documents())
    earlier = pa.ipc.open_file(io.BytesIO(data)).read_all().drop_columns(["payload"])
    path = tmp_path / "held_out.arrow"
    path.write_bytes(written(earlier))
    stage = HeldOutColumn({str(path): ""}, payloads=False)
    stage.setup()
    found = stage(documents().select(["id"]))
    assert found.column_names == ["held_out"]
    assert set(documents()["id"].filter(found["held_out"]).to_pylist()) == set(earlier["id"].to_pylist())


def test_nothing_held_out_is_a_table_without_rows(tmp_path: Path) -> None:
    data, facts = frozen(documents(), share=0)
    assert facts == {"rows": 0, "sources": {}, "evaluates_dropped": True, "payloads": True}
    assert not any(column(data, tmp_path, documents(count=10)))


def test_hashes_of_one_id_under_two_keys_are_unrelated() -> None:
    ids = words(documents()["id"])
    first, second = below(seeded_hash(ids, 1, "held_out"), 0.5), below(seeded_hash(ids, 2, "held_out"), 0.5)
    assert abs((first == second).mean() - 0.5) < 0.02
    assert len(set(seeded_hash(ids, 1).tolist())) == COUNT


def test_ids_of_a_slice_are_read_from_where_it_begins() -> None:
    table = documents(count=10)
    whole = [int.from_bytes(key[:8], "little") for key in table["id"].to_pylist()]
    assert words(table["id"].slice(3, 4)).tolist() == whole[3:7]
    with pytest.raises(ValueError, match=r"binary\(16\) without nulls"):
        words(pa.array([None], pa.binary(16)))


def test_what_is_held_out_changes_only_with_the_version() -> None:
    check_golden("held_out", HeldOut.version, HeldOut(Evaluate(held_out=0.01), 1).sample(documents()))
