"""Which runs the state of a corpus stage lies in."""

from __future__ import annotations

import random

from tasks.engine.corpus_state import spans


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
