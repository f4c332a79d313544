"""How often tokens stand in a row, against counting them one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tasks.arrays.repetitions import LONGEST, repetitions
from tasks.tokenization.repetition import RepeatedTokens


def counted(tokens: list[int]) -> int:
    """The same by trying every place and period."""
    most = min(1, len(tokens))
    for period in range(1, LONGEST + 1):
        for first in range(len(tokens) - period + 1):
            times = 1
            while tokens[first : first + period] == tokens[first + times * period : first + (times + 1) * period]:
                times += 1
            most = max(most, times)
    return most


@pytest.mark.parametrize("seed", range(5))
def test_repetitions_are_those_of_counting_and_none_crosses_documents(seed: int) -> None:
    rng = np.random.default_rng(seed)
    documents = [rng.integers(0, 3, size=rng.integers(0, 60)).tolist() for _ in range(80)]
    documents += [[5] * n for n in (0, 1, 2, 40)] + [
        [*range(LONGEST)] * 3,
        [*range(LONGEST + 1)] * 3,
        [1, 2] * 20 + [1],
    ]
    flat = np.array([token for document in documents for token in document])
    found = repetitions(flat, np.array([len(document) for document in documents]))
    assert found.tolist() == [counted(document) for document in documents]


def test_documents_without_tokens_have_none_and_no_documents_are_no_error() -> None:
    tokens = pa.array([[7, 7, 7], None, [], [1]], pa.list_(pa.uint16()))
    assert RepeatedTokens()(pa.table({"tokens": tokens}))["repeated_tokens"].to_pylist() == [3, None, 0, 1]
    none = pa.array([], pa.list_(pa.uint16()))
    assert RepeatedTokens()(pa.table({"tokens": none}))["repeated_tokens"].to_pylist() == []
