"""The linear classifier, against scikit-learn's logistic regression on the same features."""

from __future__ import annotations

import random
from collections import Counter
from math import log, sqrt
from typing import Any

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
    lengths = {block: sqrt(sum(v * v for name, v in values.items() if name[0] == block)) for block in linear.BLOCKS}
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


def test_texts_scored_at_once_have_the_probabilities_of_their_features_one_by_one(monkeypatch: Any) -> None:
    texts, urls, labels = lessons(60)
    model = linear.opened(linear.learned(texts, urls, labels, 3, STRENGTH).data())
    odd = ["", "\u2003\u00a0", "to\x85be\x1cor\u3000not ²", "unheard-of", "学习 To be", chinese(random.Random(5), 2)]
    texts, urls = [*odd, *texts[:9]], ["", "https://shop1.example/a"] * 20
    monkeypatch.setattr(linear, "AT_ONCE", 7)
    found = model.probabilities(texts, urls[: len(texts)])
    for row, counts in enumerate(linear.counted(texts, urls[: len(texts)])):
        known = sorted((model.vocabulary[name], count) for name, count in counts.items() if name in model.vocabulary)
        scores = model.bias.astype(float)
        for block in range(len(linear.BLOCKS)):
            part = {place: 1 + log(count) for place, count in known if model.block[place] == block}
            length = sqrt(sum((value * model.rarity[place]) ** 2 for place, value in part.items()))
            for place, value in part.items():
                scores = scores + value * model.rarity[place] / length * model.weights[place]
        expected = np.exp(scores) / np.exp(scores).sum() if known else np.zeros(3)
        assert found[row] == pytest.approx(expected, abs=1e-7)


def test_a_digit_is_what_python_calls_one() -> None:
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert [one for one in every if linear.has_digit(f"a{one}")] == [one for one in every if one.isdigit()]


def test_a_text_of_nothing_known_has_no_probabilities_and_an_address_alone_has() -> None:
    model = linear.learned(*lessons(60), 3, STRENGTH)
    found = model.probabilities(["", ""], ["", "https://shop1.example/a"])
    assert found.sum(axis=1) == pytest.approx([0, 1])


def test_features_say_words_pairs_shapes_and_address() -> None:
    [found] = linear.counted(["To be.\n\n- or 7 nots\n"], ["https://a.example/Hamlet/3"])
    assert {name for name in found if name[0] in "wp"} == {
        *("w_to", "w_be", "w_.", "w_-", "w_or", "w_7", "w_nots"),
        *("p_to be", "p_be .", "p_. -", "p_- or", "p_or 7", "p_7 nots"),
    }
    assert {"l_end0", "l_openbulletdigit0", "l_first0_0", "l_last0_1", "l_host_a", "l_path_hamlet"} <= found.keys()
    assert {"a_ a ", "a_ ham", "a_hamle", "a_let "} <= found.keys()
    assert not {"a_ hamle", "a_3", "a_a.e"} & found.keys()


def test_a_model_is_read_as_it_was_written_also_where_an_address_is_broken_over_lines() -> None:
    texts, urls, labels = lessons()
    urls[::3] = [url.replace(".example", "\n.example") for url in urls[::3]]
    model = linear.learned(texts, urls, labels, 3, STRENGTH)
    again = linear.opened(model.data())
    assert again.vocabulary == model.vocabulary
    np.testing.assert_allclose(again.probabilities(texts, urls), model.probabilities(texts, urls), atol=1e-3)
    assert linear.address("http://a\nb.org/") == linear.address("http://a.b.org/")
