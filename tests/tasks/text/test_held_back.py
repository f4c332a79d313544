"""What is held back of texts to measure by: never a copy of one that was learned from."""

from __future__ import annotations

import tracemalloc

import numpy as np

from tasks.text.held_back import held_back


def test_of_texts_that_stand_once_the_first_tenth_of_each_label_is_held_back() -> None:
    texts, labels = [f"text {number}" for number in range(45)], [number % 2 for number in range(45)]
    learned, held = held_back(texts, labels)
    assert np.flatnonzero(held).tolist() == [0, 1, 2, 3]
    assert (learned == ~held).all()
    assert [len(mask) for mask in held_back([])] == [0, 0]


def test_no_copy_of_a_text_is_on_both_sides_and_what_is_held_back_is_measured_once() -> None:
    rng = np.random.default_rng(3)
    texts = [f"Text  {number}\n" if rng.random() < 0.5 else f"text {number}" for number in rng.integers(0, 60, 900)]
    labels = [int(text.split()[1]) % 3 for text in texts]
    learned, held = held_back(texts, labels)
    sides = [{" ".join(texts[row].lower().split()) for row in np.flatnonzero(mask)} for mask in (learned, held)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 60
    assert held.sum() == len(sides[1]) == 6


def test_a_text_that_has_several_labels_is_learned_from() -> None:
    texts = ["both"] * 2 + [f"{label} {number}" for label in "ab" for number in range(30)]
    learned, held = held_back(texts, ["a", "b", *"a" * 30, *"b" * 30])
    assert learned[:2].all()
    assert held.sum() == 6


def test_one_long_text_among_many_takes_no_room_for_all_of_them() -> None:
    texts = [*map(str, range(2000)), "x" * 1_000_000]
    tracemalloc.start()
    held_back(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
