"""The linear classifier, against scikit-learn's logistic regression on the same features."""

from __future__ import annotations

import random
from collections import Counter
from math import log, sqrt

import numpy as np
import pytest
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from tasks.scoring import linear
from tests.small import chinese, english

STRENGTH = 2.0


def lessons(count: int = 120) -> tuple[list[str], list[str], np.ndarray]:
    rng = random.Random(3)
    made = [english(rng, 3) if number % 3 else chinese(rng, 3) for number in range(count)]
    made[::5] = ["\n".join(f"- {word}" for word in text.split()[:12]) for text in made[::5]]
    urls = [f"https://{'shop' if number % 2 else 'site'}{number % 7}.example/a/{number}" for number in range(count)]
    labels = np.array([0 if number % 5 == 0 else 1 if number % 3 == 0 else 2 for number in range(count)])
    return made, urls, labels


def weighed(counts: Counter[str], documents: Counter[str], total: int) -> dict[str, float]:
    """Sublinear counts times smoothed rarity, each block of length 1, of features in three documents or more."""
    values = {
        name: (1 + log(count)) * (log((1 + total) / (1 + documents[name])) + 1)
        for name, count in counts.items()
        if documents[name] >= 3
    }
    lengths = {block: sqrt(sum(v * v for name, v in values.items() if name[0] == block)) for block in "wpl"}
    return {name: value / lengths[name[0]] for name, value in values.items()}


def test_weights_and_probabilities_are_those_of_scikit_learn() -> None:
    texts, urls, labels = lessons()
    found = list(linear.counted(texts, urls))
    documents = Counter(name for counts in found for name in counts)
    vectorizer = DictVectorizer()
    matrix = vectorizer.fit_transform([weighed(counts, documents, len(found)) for counts in found])
    peer = LogisticRegression(C=STRENGTH, max_iter=2000, tol=1e-8).fit(matrix, labels)
    model = linear.learned(texts, urls, labels, 3, STRENGTH, steps=400)
    assert sorted(model.vocabulary) == sorted(vectorizer.vocabulary_)
    assert np.abs(model.probabilities(texts, urls) - peer.predict_proba(matrix)).max() < 2e-3
    assert (model.probabilities(texts, urls).argmax(axis=1) == labels).mean() > 0.95


def test_a_model_is_the_same_each_time_and_after_its_file() -> None:
    texts, urls, labels = lessons(60)
    first, second = (linear.learned(texts, urls, labels, 3, STRENGTH).data() for _ in range(2))
    assert first == second
    assert first.startswith(linear.MAGIC)
    model = linear.learned(texts, urls, labels, 3, STRENGTH)
    assert linear.opened(first).probabilities(texts, urls) == pytest.approx(model.probabilities(texts, urls), abs=1e-3)


def test_a_text_of_nothing_known_has_no_probabilities_and_an_address_alone_has() -> None:
    model = linear.learned(*lessons(60), 3, STRENGTH)
    found = model.probabilities(["", ""], ["", "https://shop1.example/a"])
    assert found.sum(axis=1) == pytest.approx([0, 1])


def test_features_say_words_pairs_shapes_and_address() -> None:
    [found] = linear.counted(["To be.\n\n- or 7 nots\n"], ["https://a.example/Hamlet/3"])
    assert {name for name in found if name[0] != "l"} == {
        *("w_to", "w_be", "w_.", "w_-", "w_or", "w_7", "w_nots"),
        *("p_to be", "p_be .", "p_. -", "p_- or", "p_or 7", "p_7 nots"),
    }
    assert {"l_end0", "l_openbulletdigit0", "l_first0_0", "l_last0_1", "l_host_a", "l_path_hamlet"} <= found.keys()
