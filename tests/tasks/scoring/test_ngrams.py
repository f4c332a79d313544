"""n-gram models, against Kneser-Ney as the textbook has it, counted in dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import log2

import numpy as np
import pytest

from tasks.scoring.ngrams import START, Model, learned

Gram = tuple[int, ...]


def sequences(seed: int, count: int, size: int) -> list[list[int]]:
    """Some of which begin alike, as texts do."""
    rng = np.random.default_rng(seed)
    odds = rng.dirichlet(np.ones(size - 1) * 0.4)
    return [[START, *rng.choice(np.arange(1, size), rng.integers(1, 15), p=odds).tolist()] for _ in range(count)]


class Textbook:
    """Interpolated modified Kneser-Ney (Chen & Goodman 1998, section 3): n-grams of one sequence alone left out, what
    they weigh given to the shorter ones."""

    def __init__(self, texts: Sequence[Sequence[int]], size: int, order: int) -> None:
        self.size = size
        seen = Counter[Gram]()
        sequences_of: dict[Gram, set[int]] = defaultdict(set)
        left: dict[Gram, set[int]] = defaultdict(set)
        for number, text in enumerate(texts):
            for end in range(1, len(text)):
                for n in range(1, min(order, end + 1) + 1):
                    gram = tuple(text[end - n + 1 : end + 1])
                    seen[gram] += 1
                    sequences_of[gram].add(number)
                    if end - n >= 0:
                        left[gram].add(text[end - n])
        self.weight = {
            gram: count if len(gram) == order or gram[0] == START else len(left[gram]) for gram, count in seen.items()
        }
        self.kept = {gram for gram in seen if len(gram) == 1 or len(sequences_of[gram]) > 1}
        self.followers: dict[Gram, list[Gram]] = defaultdict(list)
        for gram in seen:
            self.followers[gram[:-1]].append(gram)
        self.discount = {n: self._discount(n) for n in range(1, order + 1)}

    def _discount(self, n: int) -> list[float]:
        of = Counter(weight for gram, weight in self.weight.items() if len(gram) == n)
        if not all(of[count] for count in (1, 2, 3, 4)):
            return [0, 0.5, 1, 1.5]
        y = of[1] / (of[1] + 2 * of[2])
        return [0.0, *(min(max(k - (k + 1) * y * of[k + 1] / of[k], 0.01), k - 0.01) for k in (1, 2, 3))]

    def probability(self, context: Gram, symbol: int) -> float:
        below = self.probability(context[1:], symbol) if context else 1 / (self.size - 1)
        followers = self.followers[context]
        total = sum(self.weight[gram] for gram in followers)
        if not total:
            return below
        taken = {gram: self.weight[gram] - self.discount[len(gram)][min(self.weight[gram], 3)] for gram in followers}
        kept = {gram: share / total for gram, share in taken.items() if gram in self.kept}
        return kept.get((*context, symbol), 0.0) + (1 - sum(kept.values())) * below


@pytest.mark.parametrize(("order", "size", "count"), [(1, 7, 20), (2, 7, 30), (3, 6, 60), (3, 30, 25), (4, 5, 80)])
def test_bits_are_those_of_kneser_ney_as_the_textbook_has_it(order: int, size: int, count: int) -> None:
    texts = sequences(order * size, count, size)
    oracle = Textbook(texts, size, order)
    model = Model(learned(np.concatenate(texts), size, order))
    asked = [*texts[:5], *sequences(99, 20, size)]
    expected = [
        0.0 if end == 0 else -log2(oracle.probability(tuple(text[max(0, end - order + 1) : end]), text[end]))
        for text in asked
        for end in range(len(text))
    ]
    np.testing.assert_allclose(model.bits(np.concatenate(asked)), expected, rtol=1e-4, atol=1e-4)


def test_probabilities_of_all_that_may_follow_sum_to_one() -> None:
    size = 12
    model = Model(learned(np.concatenate(sequences(5, 200, size)), size, 3))
    for context in ([], [3], [4, 4], [1, 2, 3], [11, 11, 11, 11]):
        costs = [model.bits(np.array([START, *context, symbol]))[-1] for symbol in range(1, size)]
        assert sum(2.0**-cost for cost in costs) == pytest.approx(1, abs=1e-5)


def test_what_one_sequence_alone_says_is_no_part_of_a_model() -> None:
    texts = [[START, 1, 2, 3], [START, 1, 2, 4], [START, 5, 6, 5, 6, 5, 6]]
    nodes = learned(np.concatenate(texts), 8, 3)
    longer = nodes.filter(nodes["order"].to_numpy() > 1)
    found = {divmod(key, 8) for key in longer.filter(longer["order"].to_numpy() == 2)["key"].to_pylist()}
    assert found == {(START, 1), (1, 2)}
