"""Sentences in another order: which, where, and never others."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pyarrow as pa

from data_specs import stages
from tasks.augmentation.base import augmented_id
from tasks.augmentation.shuffle_sentences import ShuffleSentences
from tasks.text.sentences import sentences
from tests.small import chinese, english
from tests.tasks.scoring.test_domain_quality import documents


def table(texts: list[str], kept: list[bool] | None = None) -> pa.Table:
    flags = kept or [True] * len(texts)
    return documents({"text": text, "kept": flag} for text, flag in zip(texts, flags, strict=True))


def made(batch: pa.Table, seed: int = 7, **settings: Any) -> pa.Table:
    stage = ShuffleSentences(stages.ShuffleSentences(**{"share": 1, **settings}), seed)
    return stage(batch.select(list(stage.reads)))


def of(line: str) -> list[str]:
    return [line[start:end] for start, end in sentences(line)]


TEXTS = [make(random.Random(seed), 12) for seed in range(20) for make in (english, chinese)]


def test_lines_keep_their_sentences_in_another_order() -> None:
    batch = table(TEXTS)
    found = made(batch)
    for text, other, moved in zip(TEXTS, *(found[n].to_pylist() for n in found.column_names[::2]), strict=True):
        assert other != text
        lines = list(zip(text.split("\n"), other.split("\n"), strict=True))
        assert all(Counter(of(line)) == Counter(of(changed)) for line, changed in lines)
        pairs = [pair for line, changed in lines for pair in zip(of(line), of(changed), strict=True)]
        assert moved == sum(one != changed for one, changed in pairs) > 0


def test_within_a_document_lines_keep_their_numbers_of_sentences() -> None:
    found = made(table(TEXTS), within="document")["shuffle_sentences"].to_pylist()
    crossed = 0
    for text, other in zip(TEXTS, found, strict=True):
        lines = list(zip(text.split("\n"), other.split("\n"), strict=True))
        assert Counter(s for line, _ in lines for s in of(line)) == Counter(s for _, line in lines for s in of(line))
        assert [len(of(line)) for line, _ in lines] == [len(of(line)) for _, line in lines]
        crossed += any(Counter(of(line)) != Counter(of(changed)) for line, changed in lines)
    assert crossed == len(TEXTS)


def test_what_has_no_other_order_and_what_is_not_kept_has_no_such_text() -> None:
    texts = ["One sentence.", "One.\nA line.\nEach one.", "", "Same. Same. Same.", "One. Two. Three."]
    found = made(table([*texts, texts[-1]], [True] * 5 + [False])).to_pydict()
    assert found["shuffle_sentences"][:4] == [""] * 4
    assert found["shuffle_sentences"][4] != texts[4]
    assert found["shuffle_sentences"][5] == ""
    assert [each is None for each in found["shuffle_sentences_id"]] == [True] * 4 + [False, True]
    assert [each is None for each in found["shuffle_sentences_moved"]] == [True] * 4 + [False, True]


def test_of_two_sentences_the_second_comes_first() -> None:
    for seed in range(9):
        assert made(table(["One. Two."]), seed)["shuffle_sentences"].to_pylist() == ["Two. One."]


def test_the_same_seed_gives_the_same_bytes_in_any_batch_and_another_seed_others() -> None:
    batch = table(TEXTS)
    once = made(batch)
    assert pa.concat_tables([made(batch.slice(row, 1)) for row in range(len(batch))]).equals(once)
    assert made(batch, 8)["shuffle_sentences"] != once["shuffle_sentences"]
    settings = stages.ShuffleSentences()
    assert ShuffleSentences(settings, 7).fingerprint != ShuffleSentences(settings, 8).fingerprint


def test_a_share_is_chosen_by_the_id_alone() -> None:
    batch = table([f"One {number}. Two. Three." for number in range(4000)])
    found = made(batch, share="20%")["shuffle_sentences_id"]
    assert 700 < len(found) - found.null_count < 900
    less = made(batch, share=0.1)["shuffle_sentences_id"]
    assert set(less.drop_null().to_pylist()) < set(found.drop_null().to_pylist())


def test_a_text_has_an_id_of_its_own_that_follows_from_its_origin_and_itself() -> None:
    batch = table(["One. Two. Three."] * 2)
    found = made(batch).to_pydict()
    ids = found["shuffle_sentences_id"]
    assert len({*ids, *(each.hex() for each in batch["id"].to_pylist())}) == 4
    text = found["shuffle_sentences"][0]
    assert ids[0] == augmented_id(batch["id"][0].as_py(), "shuffle_sentences", text)


def test_two_stages_of_the_kind_choose_other_documents_and_orders() -> None:
    batch = table(["One. Two. Three. Four. Five. Six. Seven."] * 60)
    settings = stages.ShuffleSentences(share=0.5)
    one, other = (ShuffleSentences(settings, 7).called(name, {}) for name in ("first", "second"))
    assert one.fingerprint != other.fingerprint
    made = [each(batch.select(list(each.reads)))["shuffle_sentences"].to_pylist() for each in (one, other)]
    both = [pair for pair in zip(*made, strict=True) if all(pair)]
    assert 5 < len(both) < 25
    assert sum(a != b for a, b in both) > 0.9 * len(both)
