"""The mixture's arithmetic: rows, interleaving and usage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.spec import Spec
from tasks.planning.mixture import MixtureError, Usage, interleave, largest_remainder, schedule


def make_spec(tokens: int = 1_600_000, phases: Any = (), **more: Any) -> Spec:
    return Spec(
        name="test",
        sources={"pages": {"kind": "jsonl", "paths": "pages.jsonl"}},
        channels={"zh": "language = 'zh'", "en": "language = 'en'", "code": "domain = 'code'"},
        mixture={"tokens": tokens, "phases": phases, **more},
    )


PHASES = (
    {"until": "80%", "weights": {"zh": 0.35, "en": 0.40, "code": 0.25}},
    {"until": "100%", "weights": {"zh": 0.45, "en": 0.45, "code": 0.10}, "where": "quality > 0.5"},
)


def usage_of(lengths: list[int], cap: float) -> Usage:
    hashes = np.arange(len(lengths), dtype=np.uint64) * np.uint64(2**60)
    return Usage(np.array(lengths, np.int32), hashes, cap, seed=1)


def everything(usage: Usage) -> np.ndarray:
    return np.ones(len(usage.lengths), bool)


def test_phases_are_whole_steps_that_fill_the_budget_and_rows_follow_the_weights() -> None:
    first, second = schedule(make_spec(phases=PHASES), {})
    assert (first.first_step, first.steps, second.first_step, second.steps) == (0, 156, 156, 39)
    assert sum(first.rows.values()) == 156 * 32
    for phase in (first, second):
        for name, rows in phase.rows.items():
            assert abs(rows - phase.weights[name] * phase.steps * 32) < 1


def test_without_phases_every_channel_weighs_its_size() -> None:
    [phase] = schedule(make_spec(), {"zh": 100, "en": 300, "code": 0})
    assert phase.weights == {"zh": 0.25, "en": 0.75}


def test_steps_of_the_training_come_before_the_budget() -> None:
    spec = make_spec(phases=PHASES)
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 10})})
    assert [phase.steps for phase in schedule(spec, {})] == [8, 2]


def test_no_weight_in_any_channel_is_refused() -> None:
    with pytest.raises(MixtureError, match="no channel has any weight in phase 1, or no document was kept"):
        schedule(make_spec(8192), {"zh": 0})


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8), st.integers(1, 5000))
def test_largest_remainder_is_whole_and_within_one(weights: list[float], total: int) -> None:
    shares = {str(i): weight / sum(weights) for i, weight in enumerate(weights)}
    found = largest_remainder(shares, total)
    assert sum(found.values()) == total
    assert all(abs(found[name] - share * total) < 1 for name, share in shares.items())


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=9).filter(any), st.integers(1, 60))
def test_after_every_step_each_channel_is_less_than_one_row_from_its_share(rows: list[int], batch: int) -> None:
    rows[0] += -sum(rows) % batch
    steps = sum(rows) // batch
    counts = interleave(np.array(rows), steps)
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == batch).all()
    assert counts.sum(axis=0).tolist() == rows
    exact = np.outer(np.arange(1, steps + 1), rows) / steps
    assert np.abs(counts.cumsum(axis=0) - exact).max() < 1
    plenty = np.array(rows) >= 2 * steps
    assert (counts[:, plenty] >= 1).all()


def test_a_stream_is_read_on_where_it_stopped_and_repeats_evenly() -> None:
    usage = usage_of([10, 20, 30], cap=3)
    read = [0] * 3
    for tokens in (25, 50, 40, 61):
        stream = usage.read(everything(usage), tokens)
        assert stream.length.sum() == tokens
        for document, start, length in zip(
            stream.document.tolist(), stream.start.tolist(), stream.length.tolist(), strict=True
        ):
            assert start in (0, read[document] % int(usage.lengths[document]) - 1)
            read[document] += length - (start > 0)
        assert usage.counts.max() - usage.counts.min() <= 1
        assert sum(read) + usage.leftover == usage.counts @ usage.lengths


@settings(deadline=None)
@given(
    st.lists(st.integers(2, 50), min_size=1, max_size=20), st.lists(st.integers(2, 60), max_size=8), st.integers(1, 4)
)
def test_what_is_available_can_be_read_to_the_last_token_and_never_beyond_the_cap(
    lengths: list[int], before: list[int], cap: int
) -> None:
    usage = usage_of(lengths, cap)
    half = np.arange(len(lengths)) % 2 == 0
    for tokens in before:
        if usage.available(half) >= tokens:
            usage.read(half, tokens)
    for mask in (half, everything(usage)):
        if left := usage.available(mask):
            assert usage.read(mask, left).length.sum() == left
        assert usage.available(mask) == 0
        assert (usage.counts[mask] == cap).all()
        assert not [entry for entry in usage.partly_read if mask[entry[0]]]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(2, 50), min_size=1, max_size=12),
    st.lists(st.tuples(st.booleans(), st.integers(2, 3000)), min_size=1, max_size=5),
)
def test_skipping_uses_what_reading_would(lengths: list[int], phases: list[tuple[bool, int]]) -> None:
    read, skipped = usage_of(lengths, 9), usage_of(lengths, 9)
    half = np.arange(len(lengths)) % 2 == 0
    for every, tokens in phases:
        mask = everything(read) if every else half
        read.read(mask, tokens)
        skipped.skip(mask, tokens)
        assert skipped.counts.tolist() == read.counts.tolist()
        assert sorted(skipped.partly_read) == sorted(read.partly_read)
