"""Channels: the first expression that is true names a document's channel."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest

from data_specs.sql_parser import ExpressionError
from tasks.decision.channel import Channel

CHANNELS = {"code": "domain = 'code'", "zh": "language = 'zh'", "long": "length(text) > 5"}


def batch() -> pa.Table:
    rows = itertools.product(["code", "news", None], ["zh", "en", None], ["short", "a long text"])
    return pa.Table.from_pylist([dict(zip(("domain", "language", "text"), row, strict=True)) for row in rows])


def test_the_first_true_expression_wins_and_null_is_not_true() -> None:
    found = Channel(CHANNELS)(batch())["channel"].to_pylist()
    expected = [
        "code" if d == "code" else "zh" if la == "zh" else "long" if len(t) > 5 else None
        for d, la, t in (row.values() for row in batch().to_pylist())
    ]
    assert found == expected
    assert set(found) == {"code", "zh", "long", None}


def test_reads_the_columns_that_the_expressions_name() -> None:
    assert Channel(CHANNELS).reads == ("domain", "language", "text")
    assert Channel({"all": "true"}).reads == ("id",)
    everything = Channel({"all": "true"})(pa.table({"id": pa.array([b"0" * 16] * 3, pa.binary(16))}))
    assert everything["channel"].to_pylist() == ["all"] * 3


def test_order_is_part_of_the_fingerprint_and_spelling_is_not() -> None:
    known = Channel(CHANNELS).fingerprint
    assert Channel(dict(reversed(CHANNELS.items()))).fingerprint != known
    assert Channel({**CHANNELS, "zh": "((language) =  'zh')"}).fingerprint == known


def test_an_expression_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ExpressionError):
        Channel({"bad": "true) from t; create table x as select 1; select (true"})
    with pytest.raises(ExpressionError, match="zh"):
        Channel({"zh": "language"})(batch())
