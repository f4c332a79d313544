"""Operations on groups, by the examples that their descriptions tell."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.arrays.groups import changes, explode, lists_by_position, numbers_within, runs, scatter_by_position

SORTED = np.array([3, 3, 5, 5, 5])


def test_groups_begin_where_a_row_differs_from_the_one_before() -> None:
    assert changes(SORTED).tolist() == [True, False, True, False, False]
    assert changes(SORTED, np.array([1, 2, 2, 2, 3])).tolist() == [True, True, True, False, True]
    assert [each.tolist() for each in runs(SORTED)] == [[0, 2], [2, 5]]
    assert [each.tolist() for each in runs(SORTED[:0])] == [[], []]


def test_members_are_numbered_within_their_group_also_beside_empty_ones() -> None:
    assert numbers_within(np.array([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]
    assert numbers_within(np.array([], np.int64)).tolist() == []


def test_lists_become_rows_and_values_and_lists_again() -> None:
    lists = pa.chunked_array([[["a", "b"], None], [["c"]]])
    row, values = explode(lists)
    assert (row.tolist(), values.to_pylist()) == ([0, 0, 2], ["a", "b", "c"])
    assert lists_by_position(pa.table({"position": row}), values, 3).to_pylist() == lists.to_pylist()


def test_values_stand_at_their_positions_and_null_elsewhere() -> None:
    rows = pa.table({"position": [2, 0], "value": ["a", "b"]})
    assert scatter_by_position(rows, rows["value"], 3).to_pylist() == ["b", None, "a"]
