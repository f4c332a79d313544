"""Rows beyond what is held are put in order, joined and folded as if they were held."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.arrays import external
from tasks.arrays.external import Sorted, batched, flags, folded, joined, mapped
from tasks.arrays.groups import runs

KEYS = (("old", "descending"), ("score", "descending"), ("date", "ascending"), ("id", "ascending"))


@pytest.fixture(params=[(1, 1), (500, 7), (5000, 40), (2**25, 2**16)], autouse=True)
def held(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "HELD", request.param[0])
    monkeypatch.setattr(external, "BLOCK", request.param[1])


def whole(blocks: Iterable[pa.Table]) -> list[dict[str, Any]]:
    found = [*blocks]
    assert all(0 < each.num_rows <= external.BLOCK for each in found)
    return [row for each in found for row in each.to_pylist()]


def rows(count: int, seed: int = 1) -> pa.Table:
    chance = random.Random(seed)
    known = {
        "old": [chance.random() < 0.3 for _ in range(count)],
        "score": pa.array([chance.choice([None, 0.5, -0.25, 0.0, -0.0]) for _ in range(count)], pa.float32()),
        "date": [chance.choice([None, "", "2024", "2024-01", "é"]) for _ in range(count)],
        "id": pa.array([chance.choice([None, b"aa", b"ab"]) for _ in range(count)], pa.binary(2)),
        "number": np.arange(count),
    }
    return pa.table(known)


@pytest.mark.parametrize("keys", [KEYS, KEYS[1:3], (("number", "descending"),), ()])
def test_rows_come_in_order_and_equal_ones_as_they_were_given(keys: tuple[tuple[str, str], ...]) -> None:
    given = rows(90)
    ordered = Sorted(*keys)
    for start in range(0, 60, 5):
        ordered.add(given[start : start + 5])
    first = given[:60]
    wanted = first.take(pc.sort_indices(first, sort_keys=[*keys])) if keys else first
    assert whole(ordered) == wanted.to_pylist()
    assert whole(ordered) == wanted.to_pylist()
    ordered.add(given[60:])
    assert whole(ordered) == (given.take(pc.sort_indices(given, sort_keys=[*keys])) if keys else given).to_pylist()


def test_nothing_was_given() -> None:
    assert whole(Sorted(("a", "ascending"))) == []
    nothing = Sorted()
    nothing.add(rows(0))
    assert whole(nothing) == []
    assert mapped(rows(0).schema, nothing).num_rows == 0
    assert [*folded(nothing, lambda rows: rows)] == []


def test_rows_are_joined_with_those_of_the_same_key() -> None:
    chance = random.Random(2)
    left, right = Sorted(("key", "ascending")), Sorted(("key", "ascending"))
    mine = [(chance.randrange(40), number) for number in range(60)]
    theirs = {key: key * 7 for key in chance.sample(range(40), 25)}
    left.add(pa.table({"key": [key for key, _ in mine], "number": [number for _, number in mine]}))
    right.add(pa.table({"key": [*theirs], "value": [*theirs.values()]}))
    found = [row for each in joined(left, right, "key") for row in each.to_pylist()]
    ordered = sorted(mine, key=lambda each: each[0])
    assert found == [{"key": k, "number": n, "value": theirs[k]} for k, n in ordered if k in theirs]
    assert [*joined(left, Sorted(), "key")] == [*joined(Sorted(), right, "key")] == []


def test_a_group_is_folded_wherever_it_is_cut() -> None:
    def total(rows: pa.Table) -> pa.Table:
        starts, _ = runs(rows["key"].to_numpy())
        return pa.table({"key": rows["key"].take(starts), "n": np.add.reduceat(rows["n"].to_numpy(), starts)})

    given = Sorted(("key", "ascending"))
    given.add(pa.table({"key": [3] * 50 + [1] + [2] * 9, "n": [1] * 60}))
    found = [row for each in folded(given, total) for row in each.to_pylist()]
    assert found == [{"key": 1, "n": 1}, {"key": 2, "n": 9}, {"key": 3, "n": 50}]


def test_batches_are_put_together_and_none_is_lost() -> None:
    batches = rows(90).to_batches(4)
    found = [*batched(batches)]
    assert pa.Table.from_batches(found).equals(rows(90))
    assert all(each.num_rows >= min(90, external.BLOCK) for each in found[:-1])


def test_files_have_no_name_and_a_full_disk_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external.tempfile, "tempdir", str(tmp_path))
    kept = mapped(rows(9).schema, [rows(9)])
    mine = flags(9)
    mine[3] = 1
    assert kept.equals(rows(9))
    assert mine.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert [*tmp_path.iterdir()] == []

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(external.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=f"No space left on device in {tmp_path}, where rows are sorted; set TMPDIR"):
        flags(9)
