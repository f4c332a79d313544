"""Column files: value digests and footers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from tasks.storage import columns
from tasks.storage.checksums import checksum
from tasks.storage.columns import Recorded
from tasks.storage.store import DamagedError, Store

TYPES = st.sampled_from(
    [
        (pa.string(), st.text(max_size=5)),
        (pa.binary(), st.binary(max_size=5)),
        (pa.binary(3), st.binary(min_size=3, max_size=3)),
        (pa.int32(), st.integers(-5, 5)),
        (pa.float32(), st.floats(-2, 2, width=32).map(lambda value: value + 0.0)),
        (pa.bool_(), st.booleans()),
        (pa.list_(pa.uint16()), st.lists(st.integers(0, 9), max_size=3)),
        (
            pa.list_(pa.struct([("shard", pa.uint64()), ("similarity", pa.float32())])),
            st.lists(st.fixed_dictionaries({"shard": st.integers(0, 3), "similarity": st.just(0.5) | st.none()})),
        ),
    ]
)


@settings(deadline=None)
@given(st.data())
def test_a_value_digest_depends_on_values_alone(data: st.DataObject) -> None:
    kind, values = data.draw(TYPES)
    one = data.draw(st.lists(values | st.none(), max_size=8))
    other = data.draw(st.lists(values | st.none(), max_size=8))
    cut = data.draw(st.integers(0, len(one)))
    padded = pa.array([*other, *one, *other], kind).slice(len(other), len(one))
    whole = columns.value_digest(pa.array(one, kind))
    assert columns.value_digest(pa.chunked_array([one[:cut], [], one[cut:]], kind)) == whole
    assert columns.value_digest(padded) == whole
    assert (columns.value_digest(pa.array(other, kind)) == whole) == (pa.array(one, kind) == pa.array(other, kind))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_file_carries_its_entry_and_refuses_another_shards_ids(tmp_path: Path, suffix: str) -> None:
    store = Store(str(tmp_path))
    table = pa.table({"language": ["zh", None], "score": pa.array([0.5, 0.25], pa.float32())})
    entry = {"key": "k", "ids": "aa", "rows": 2, "columns": columns.digests(table)}
    facts = columns.write(store, f"x.{suffix}", table, entry)
    assert facts == {"bytes": store.list("")[f"x.{suffix}"], "checksum": checksum(store.read(f"x.{suffix}"))}
    assert columns.recovered(store, f"x.{suffix}") == entry | facts
    assert columns.read(store, f"x.{suffix}", ("score",), Recorded("aa")).equals(table.select(["score"]))
    assert columns.read(store, f"x.{suffix}").equals(table)
    with pytest.raises(
        DamagedError, match=r"\(it is of the shard with ids aa, not bb\); a run that reads it makes it again"
    ):
        columns.read(store, f"x.{suffix}", ("score",), Recorded("bb"))


def test_slices_are_read_by_number(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    parts = [pa.table({"x": [1, 2]}), pa.table({"x": [3]})]
    slices = {str(number): columns.slice_digest(part) for number, part in enumerate(parts)}
    entry = {"key": "k", "rows": 3, "slices": slices}
    facts = columns.write_slices(store, "s.arrow", parts, parts[0].schema, entry)
    [second] = columns.read_slices(store, "s.arrow", {1: slices["1"]})
    assert second.to_pydict() == {"x": [3]}
    assert columns.recovered(store, "s.arrow") == entry | facts
    with pytest.raises(DamagedError, match="slice 1 has other values than were recorded"):
        [*columns.read_slices(store, "s.arrow", {1: slices["0"]})]


NESTED = [
    (pa.list_(pa.uint16()), [[1, 2], None, []]),
    (pa.large_list(pa.string()), [["a"], None, [None]]),
    (pa.list_(pa.float32(), 2), [[1.0, 2.0], None, [0.5, None]]),
    (pa.struct([("scores", pa.list_(pa.list_(pa.float32())))]), [{"scores": [[1.0], None]}, None]),
]


@pytest.mark.parametrize(("kind", "values"), NESTED)
def test_a_digest_does_not_depend_on_what_parquet_calls_the_child_of_a_list(
    tmp_path: Path, kind: pa.DataType, values: list[object]
) -> None:
    store, table = Store(str(tmp_path)), pa.table({"nested": pa.array(values, kind)})
    columns.write(store, "x.parquet", table, {})
    back = columns.read(store, "x.parquet")
    assert columns.digests(back) == columns.digests(table)


def test_a_digest_does_not_depend_on_whether_the_child_of_a_list_could_be_null() -> None:
    kind = pa.list_(pa.field("element", pa.int32(), nullable=False))
    assert columns.value_digest(pa.array([[1]], kind)) == columns.value_digest(pa.array([[1]], pa.list_(pa.int32())))


def test_an_empty_column_has_the_same_digest_with_a_buffer_and_without() -> None:
    kind = pa.binary(16)
    without = pa.FixedSizeBinaryArray.from_buffers(kind, 0, [None, None])
    assert columns.value_digest(without) == columns.value_digest(pa.array([], kind))


@pytest.mark.parametrize(("kind", "values"), NESTED[2:])
def test_nan_is_found_at_any_depth(kind: pa.DataType, values: list[object]) -> None:
    assert not columns.has_nan(pa.chunked_array([pa.array(values, kind)]))
    worse = {"scores": [[1.0], [float("nan")]]} if pa.types.is_struct(kind) else [float("nan"), None]
    assert columns.has_nan(pa.chunked_array([pa.array([*values, worse], kind)]))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_of_two_writers_of_the_same_values_the_file_of_the_first_stays_and_both_say_so(
    tmp_path: Path, suffix: str
) -> None:
    store, path = Store(str(tmp_path)), f"x.{suffix}"
    table = pa.table({"n": [1, 2]})
    told = {"ids": "ab", "rows": 2, "columns": columns.digests(table)}
    first = columns.write(store, path, table, told | {"run": "one"})
    second = columns.write(store, path, table, told | {"run": "two"})
    assert second["run"] == "one"
    for facts in (first, second):
        columns.read(store, path, (), columns.Recorded("ab", facts["checksum"]))
    assert [each.name for each in tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("harm", ["damaged", "other values"])
def test_a_file_that_is_none_or_has_other_values_makes_room(tmp_path: Path, harm: str) -> None:
    store, table, other = Store(str(tmp_path)), pa.table({"n": [1, 2]}), pa.table({"n": [1, 3]})
    before = table if harm == "damaged" else other
    columns.write(store, "x.parquet", before, {"ids": "ab", "rows": 2, "columns": columns.digests(before)})
    if harm == "damaged":
        path = tmp_path / "x.parquet"
        path.write_bytes(path.read_bytes()[:200] + b"\0" * 9 + path.read_bytes()[209:])
    facts = columns.write(store, "x.parquet", table, {"ids": "ab", "rows": 2, "columns": columns.digests(table)})
    assert columns.read(store, "x.parquet", (), columns.Recorded("ab", facts["checksum"])).equals(table)


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_a_flipped_bit_of_a_large_file_of_an_object_store_is_told_whichever_way_it_is_read(
    tmp_path: Path, suffix: str
) -> None:
    store, path = Store(f"memory://{tmp_path.name}"), f"tokens/k.{suffix}"
    values = pa.array(np.random.default_rng(1).integers(0, 2**16, 3 * 2**20).astype(np.uint16))
    table = pa.table({"tokens": pa.ListArray.from_arrays(np.arange(0, len(values) + 1, 1024, np.int32), values)})
    entry: dict[str, Any] = {"key": "k", "ids": "x", "rows": len(table), "columns": columns.digests(table)}
    entry |= columns.write(store, path, table, entry)
    data = bytearray(store.read(path))
    assert len(data) > columns._WHOLE
    data[len(data) // 2] ^= 1
    store.commit(path, bytes(data))
    recorded = columns.Recorded("x", entry["checksum"], entry["columns"])
    with pytest.raises(DamagedError):
        columns.read(store, path, ["tokens"], recorded)
    with pytest.raises(DamagedError), columns.opened(store, path, recorded) as part:
        part(["tokens"], 0, len(table))


def test_a_flipped_bit_of_a_footer_moves_no_row_and_takes_no_column_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of an object store that is read part by part, whose pages alone have checksums."""
    monkeypatch.setattr(columns, "_WHOLE", 0)
    monkeypatch.setattr(columns, "ROW_GROUP", 64)
    store, path = Store(f"memory://{tmp_path.name}"), "columns/k.parquet"
    table = pa.table({"kept": pa.array([number % 3 == 0 for number in range(300)]), "score": np.arange(300.0)})
    entry: dict[str, Any] = {"key": "k", "ids": "x", "rows": len(table), "columns": columns.digests(table)}
    entry |= columns.write(store, path, table, entry)
    data = store.read(path)
    recorded = columns.Recorded("x", entry["checksum"], entry["columns"])
    for place in range(len(data) // 2, len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        store.commit(path, bytes(flipped))
        try:
            with columns.opened(store, path, recorded) as part:
                found = [part(table.column_names, begin, begin + 60) for begin in (0, 60, 120, 180, 240)]
        except DamagedError:
            continue
        assert pa.concat_tables(found).replace_schema_metadata(None).equals(table) or any(
            len(each) != 60 for each in found
        )
