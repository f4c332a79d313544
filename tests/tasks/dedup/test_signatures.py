"""Signatures and bands against the algorithm in plain Python, sets of known similarity, and datasketch's optimum."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch.lsh import _optimal_param
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.arrays.hashing import seeded_hash
from tasks.dedup import minhash
from tasks.text import units
from tests.golden import check_golden

Sets = tuple[np.ndarray, np.ndarray]
"""Hashes of sets, one after the other, and where each begins, with the end."""


def joined(sets: list[list[int]]) -> Sets:
    return np.array([each for one in sets for each in one], np.uint64), np.cumsum([0, *map(len, sets)])


def sketched(shingles: set[int], count: int) -> list[int]:
    """Fast Similarity Sketching as Dahlgaard, Knudsen & Thorup (2017) write it down, figure 1, a shingle at a time."""
    if not shingles:
        return [2**64 - 1] * count
    sketch: list[int | None] = [None] * count
    for number in range(2 * count):
        [salt] = seeded_hash(np.array([number], np.uint64), "round")
        for shingle in shingles:
            [mixed] = seeded_hash(np.array([shingle], np.uint64) ^ salt, "throw").tolist()
            place = mixed % 2**32 * count // 2**32 if number < count else number - count
            value = number * 2**53 + mixed // 2**11
            held = sketch[place]
            sketch[place] = value if held is None else min(held, value)
        if None not in sketch:
            break
    return [each for each in sketch if each is not None]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=30), min_size=1, max_size=6), st.integers(1, 40))
def test_signatures_are_those_of_the_published_algorithm(sets: list[list[int]], count: int) -> None:
    found = minhash.signatures(*joined(sets), count)
    assert found.tolist() == [sketched(set(each), count) for each in sets]


def test_signatures_of_long_texts_and_of_one_shingle_are_those_of_the_published_algorithm() -> None:
    chance = random.Random(2)
    sets = [[chance.getrandbits(64) for _ in range(size)] for size in (1, 300, 2, 900, 0, 128)]
    assert minhash.signatures(*joined(sets), 128).tolist() == [sketched(set(each), 128) for each in sets]


def test_repeats_order_and_other_texts_change_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    sets = [[chance.getrandbits(64) for _ in range(size)] for size in (1, 700, 3, 0, 40, 2000)]
    repeated = [chance.sample(each * 3, 3 * len(each)) for each in sets]
    alone = [minhash.signatures(*joined([each]), 126)[0].tolist() for each in sets]
    assert minhash.signatures(*joined(sets), 126).tolist() == alone
    assert minhash.signatures(*joined([*reversed(repeated)]), 126).tolist() == alone[::-1]
    monkeypatch.setattr(minhash, "BLOCK", 100)
    assert minhash.signatures(*joined(repeated), 126).tolist() == alone


@pytest.mark.parametrize("sizes", [[100_000], [100_000, 1, 900], [3000] * 30])
def test_a_text_that_repeats_few_shingles_takes_hardly_more_than_one_round(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    sets = [[number % 2 for number in range(size)] for size in sizes]
    expected = [sketched(set(each), 128) for each in sets]
    hashed = 0

    def counted(values: np.ndarray, *key: Any) -> np.ndarray:
        nonlocal hashed
        hashed += values.size
        return seeded_hash(values, *key)

    monkeypatch.setattr(minhash, "seeded_hash", counted)
    assert minhash.signatures(*joined(sets), 128).tolist() == expected
    assert hashed < sum(size + 3 * minhash.REPEATED * 128 for size in sizes)


def test_blocks_do_not_change_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    texts = [
        " ".join(chance.choices(["alpha", "beta", "gamma", "语言", ""], k=chance.randrange(60))) for _ in range(200)
    ]
    whole = minhash.sketches(texts, 5, 5, 4, 3)
    for module in (minhash, units):
        monkeypatch.setattr(module, "BLOCK", 64)
    for one, other in zip(whole, minhash.sketches(texts, 5, 5, 4, 3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("hashes", [16, 64, 128, 200])
def test_bands_and_rows_are_datasketchs_optimum(hashes: int) -> None:
    for threshold in (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99):
        assert minhash.bands_and_rows(threshold, hashes) == _optimal_param(
            threshold, hashes, 1 - minhash.MISSED, minhash.MISSED
        )


def pairs(common: int, own: int, count: int) -> tuple[float, Sets]:
    """A Jaccard similarity, and `count` pairs of sets of random hashes that have it: so many in common, and so many
    that each has for itself."""
    pool = np.random.default_rng(7).integers(0, 2**64, (count, common + 2 * own), dtype=np.uint64)
    both = [pool[:, : common + own], pool[:, :common], pool[:, common + own :]]
    return common / (common + 2 * own), (np.hstack(both).ravel(), np.arange(2 * count + 1) * (common + own))


@pytest.mark.parametrize(
    ("common", "own", "count"),
    [
        (1, 0, 50),
        (0, 1, 500),
        (1, 1, 3000),
        (2, 1, 3000),
        (8, 2, 3000),
        (9, 1, 3000),
        (16, 2, 3000),
        (30, 20, 3000),
        (45, 5, 3000),
        (90, 10, 2000),
        (133, 267, 1000),
        (360, 40, 1000),
        (9000, 1000, 60),
        (5000, 5000, 60),
    ],
)
def test_signatures_estimate_jaccard_without_bias_and_with_no_more_than_binomial_variance(
    common: int, own: int, count: int
) -> None:
    hashes = 128
    similarity, sets = pairs(common, own, count)
    signature = minhash.signatures(*sets, hashes)
    estimate = (signature[::2] == signature[1::2]).mean(axis=1)
    sigma = np.sqrt(similarity * (1 - similarity) / hashes)
    assert abs(estimate.mean() - similarity) <= 3.5 * sigma / np.sqrt(count)
    assert estimate.std() <= sigma * (1 + 3 / np.sqrt(2 * count))


def test_each_place_of_a_signature_estimates_jaccard_without_bias() -> None:
    count = 4000
    for common, own in ((2, 1), (40, 10), (240, 30)):
        similarity, sets = pairs(common, own, count)
        signature = minhash.signatures(*sets, 32)
        share = (signature[::2] == signature[1::2]).mean(axis=0)
        assert (abs(share - similarity) < 4.5 * np.sqrt(similarity * (1 - similarity) / count)).all()


@pytest.mark.parametrize("bands", [(14, 9), (20, 6), (32, 4)])
@pytest.mark.parametrize(
    ("common", "own"),
    [(2, 1), (8, 1), (18, 1), (20, 10), (67, 33), (80, 10), (190, 10), (300, 75), (333, 167), (400, 50), (950, 50)],
)
def test_pairs_share_a_band_as_often_as_the_curve_says(common: int, own: int, bands: tuple[int, int]) -> None:
    """Bins of one round keep different shingles, which tells short texts apart a little more sharply than independent
    hashes do, by which `plan` draws the curve: more pairs are found where most are, and fewer where few are."""
    count = 2000
    similarity, sets = pairs(common, own, count)
    keys = minhash.band_keys(minhash.signatures(*sets, bands[0] * bands[1]), *bands)
    share = (keys[::2] == keys[1::2]).any(axis=1).mean()
    curve = minhash.found_share(similarity, *bands)
    assert abs(share - curve) < 4 * np.sqrt(curve * (1 - curve) / count) + 0.02 * (common + own < 400)


def test_band_keys_are_those_of_their_version() -> None:
    texts = ["one two three four five six seven", "好好学习，天天向上", "", "one", " ".join(map(str, range(1000)))]
    _, contents, keys = minhash.sketches(texts, 5, 5, 32, 4)
    columns = {"content": pa.array(contents)} | {f"key_{n}": pa.array(column) for n, column in enumerate(keys.T)}
    check_golden("bands", minhash.VERSION, pa.table(columns))
