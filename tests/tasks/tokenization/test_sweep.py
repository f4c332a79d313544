"""What a sweep says of tokenizers, counted again by loops; and entries removed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa
import pytest
import regex
from tokenizers import Tokenizer as Encoder
from tokenizers import processors

from data_specs.tokenizer import Tokenizer
from tasks.tokenization.kinds import learn
from tasks.tokenization.sweep import Extension, dirty_entries, entries_of, measure, sweep, without
from tasks.tokenization.tokenizer import TokenizerError, load
from tests.tasks.tokenization.test_tokenizer import texts

SETTINGS = Tokenizer(vocabulary=600, reserved=4)


def rows(documents: list[str], channels: list[str]) -> pa.Table:
    ids = [hashlib.md5(f"{number}{text}".encode()).digest() for number, text in enumerate(documents)]
    return pa.table({"id": pa.array(ids, pa.binary(16)), "text": documents, "channel": channels})


def test_rates_and_dead_entries_are_what_loops_count() -> None:
    learned, test = texts(seed=1), [*texts(seed=2, count=40), "naïve cafés 中文，行"]
    loaded = load(learn(learned, SETTINGS), "learned")
    found = measure(loaded, rows(test, ["a"] * len(test)), learned)
    ids = [each for text in test for each in loaded.encode([text])[0].tolist()]
    rates = found["channels"]["a"]
    assert rates["characters"] == pytest.approx(sum(map(len, test)) / len(ids))
    assert rates["bytes"] == pytest.approx(sum(len(text.encode()) for text in test) / len(ids))
    words = [word for text in test for word in regex.findall(r"[\p{Latin}\p{M}]+", text)]
    split = sum(len(loaded.encode([f" {word}"])[0]) - 1 for word in words)
    assert rates["fertility"] == pytest.approx(split / len(words))
    hanzi = ["".join(regex.findall(r"\p{Han}", text)) for text in test]
    assert rates["hanzi"] == pytest.approx(
        sum(map(len, hanzi)) / sum(len(loaded.encode([each])[0]) - 1 for each in hanzi)
    )
    seen = {each for text in [*learned, *test] for each in loaded.encode([text])[0].tolist()}
    assert found["dead"] == pytest.approx(sum(number not in seen for number in range(6, loaded.size)) / (600 - 6))
    assert 0 < found["dead"] < 1


def test_a_sweep_measures_on_documents_that_it_does_not_learn_from() -> None:
    documents = texts(count=300)
    tried = [SETTINGS, SETTINGS.model_copy(update={"vocabulary": 900}), Tokenizer(kind="wordpiece", vocabulary=900)]
    found = sweep(rows(documents, ["a", "b"] * 150), tried, 1)
    assert [(each["kind"], each["size"]) for each, _ in found] == [
        ("byte-bpe", 600), ("byte-bpe", 900), ("wordpiece", 900)
    ]  # fmt: skip
    assert found[1][0]["channels"]["a"]["bytes"] > found[0][0]["channels"]["a"]["bytes"]
    alone = learn(documents, SETTINGS)
    assert found[0][1] != alone
    with pytest.raises(TokenizerError, match="too few to learn from some and measure on others"):
        sweep(rows(["one"], ["a"]), tried, 1)


SPAM = ["澳门赌场欢迎你。casino bonus!"] * 200


def test_dirty_entries_are_found_and_removed_and_ids_stay_dense() -> None:
    data = learn([*texts(), *SPAM], Tokenizer(vocabulary=800, reserved=4))
    loaded = load(data, "spam")
    dirty = dirty_entries(loaded, ["赌场", "casino"])
    assert {word for word in ("赌场", "casino") if any(word in text for text in dirty.values())} == {"赌场", "casino"}
    assert all("赌场" in text or "casino" in text for text in dirty.values())
    assert not dirty_entries(loaded, ["asin"])  # within a word
    clean = without(data, dirty)
    again = load(clean, "clean")
    assert sorted(json.loads(clean)["model"]["vocab"].values()) == list(range(again.size))
    assert again.size < loaded.size
    assert not dirty_entries(again, ["赌场", "casino"])
    for text in [*texts(seed=7, count=30), SPAM[0]]:
        [ids] = again.encode([text])
        assert again.encoder.decode(ids[:-1].tolist()) == text
    plain = "the river 中文"
    assert again.encoder.encode(plain).tokens == loaded.encoder.encode(plain).tokens
    assert (again.end, again.pad) == (0, 1)


def test_a_sweep_also_gives_what_is_clean_and_a_tokenizer_with_more_entries() -> None:
    documents = [*texts(count=200), *SPAM]
    table = rows(documents, ["a"] * len(documents))
    settings = Tokenizer(vocabulary=800, reserved=4)
    base = learn(texts(seed=3), SETTINGS)
    more = Extension(base, Tokenizer(kind="file", path="base.json"), 40, ["casino"])
    found = sweep(table, [settings], 1, ["casino"], more)
    sizes = {each["kind"]: each["size"] for each, _ in found}
    assert [*sizes] == ["byte-bpe", "byte-bpe-clean", "as-it-is", "extended", "extended-clean"]
    assert [each["dirty"] > 0 for each, _ in found] == [True, False, False, True, False]
    assert sizes["extended"] == sizes["as-it-is"] + 40 == 640
    plain, extended = (
        next(each["channels"]["a"]["characters"] for each, _ in found if each["kind"] == kind)
        for kind in ("as-it-is", "extended")
    )
    assert extended > plain
    assert load(found[3][1], "extended").encoder.encode("casino").tokens == ["casino"]


def test_entries_that_stand_in_dirty_documents_alone_are_dirty() -> None:
    spam = ["澳门赌场欢迎你 the river casino bonus"] * 120
    documents = [*texts(count=200), *spam]
    flags = pa.array([each in spam for each in documents])
    table = rows(documents, ["a"] * len(documents)).append_column("dirty", flags)
    settings = Tokenizer(vocabulary=800, reserved=4)
    found = sweep(table, [settings], 1)
    assert [each["kind"] for each, _ in found] == ["byte-bpe", "byte-bpe-clean"]
    loaded, clean = (load(data, "spam") for _, data in found)
    dirty = entries_of(loaded, table)
    assert any("赌场" in text for text in dirty.values())
    assert any("casino" in text for text in dirty.values())
    assert not {" river", " the", "river"} & set(dirty.values())
    assert found[0][0]["dirty"] > found[1][0]["dirty"]
    assert not {"casino", " casino", "赌场"} & {clean.encoder.decode([n]) for n in range(clean.size)}


def test_entries_are_removed_from_a_bpe_alone() -> None:
    with pytest.raises(TokenizerError, match="this is a WordPiece"):
        without(learn(texts(), Tokenizer(kind="wordpiece", vocabulary=700, reserved=4)), [600])
    untouched = learn(texts(), SETTINGS)
    assert json.loads(without(untouched, []))["model"] == json.loads(untouched)["model"]
    assert Encoder.from_buffer(without(untouched, [0, 1, 2, 10])).get_vocab_size() == 600  # no special token, no byte


@pytest.mark.parametrize(
    "processor",
    [
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 700)]),
        processors.Sequence([processors.BertProcessing(("<s>", 700), ("<s>", 700))]),
        processors.RobertaProcessing(("<s>", 700), ("<s>", 700)),
    ],
)
def test_what_is_put_around_a_text_has_its_new_number_where_entries_are_removed(processor: Any) -> None:
    encoder = Encoder.from_buffer(learn(texts(), Tokenizer(vocabulary=700, reserved=4)))
    encoder.add_special_tokens(["<s>"])
    assert encoder.token_to_id("<s>") == 700
    encoder.post_processor = processor
    clean = Encoder.from_str(without(encoder.to_str().encode(), range(600, 650)).decode())
    assert clean.encode("a text").ids[0] == clean.token_to_id("<s>") < 700
