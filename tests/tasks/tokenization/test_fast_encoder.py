"""The faster encoder against the library tokenizers, and when it is not taken."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from data_specs.tokenizer import Tokenizer
from tasks.tokenization import fast_encoder
from tasks.tokenization.fast_encoder import Flat, difference, faster, plain, trial
from tasks.tokenization.kinds import END, SPACES, learn
from tasks.tokenization.tokenizer import load

TEXTS = ["the river runs past 42 stones, 我们在学习语言模型。\n    return x + 1"] * 40
LEARNED = learn(TEXTS, Tokenizer(vocabulary=400, reserved=4))


def old(data: bytes) -> Encoder:
    encoder = Encoder.from_buffer(data)
    encoder.encode_special_tokens = True
    return encoder


ENCODER = old(LEARNED)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.lists(st.sampled_from([" ", "\n", "\t", "a", "é", "中", "1", END, "<|pad|>", "'s"])).map("".join),
        )
    )
)
def test_the_faster_encoder_gives_the_same_ids_of_any_texts(texts: list[str]) -> None:
    fast = faster(LEARNED, "learned")
    assert fast is not None
    assert all(map(np.array_equal, fast(texts), plain(ENCODER, texts)))


@pytest.mark.slow
def test_every_code_point_is_encoded_the_same() -> None:
    fast = faster(LEARNED, "learned")
    assert fast is not None
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    texts = ["".join(f"{each}b中{each}{each} {each}1" for each in points[at : at + 64]) for at in range(0, 0x30000, 64)]
    assert all(map(np.array_equal, fast(texts), plain(ENCODER, texts)))


def test_every_special_token_is_tried_and_one_that_is_read_as_such_is_a_difference() -> None:
    assert {END, "<|pad|>", "<|reserved_3|>"} <= set(trial(ENCODER))
    special = Encoder.from_buffer(LEARNED)

    def reads_them(texts: Sequence[str]) -> Flat:
        return plain(special, texts)

    assert difference(ENCODER, lambda texts: plain(ENCODER, texts)) is None
    assert END in str(difference(ENCODER, reads_them))


def test_an_encoder_that_differs_is_not_taken_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changed = json.loads(LEARNED)
    changed["added_tokens"][0]["content"] = "<|another|>"
    data = json.dumps(changed).encode()
    monkeypatch.setattr(fast_encoder, "plain", lambda encoder, texts: (np.zeros(1, np.uint32), np.array([1])))
    with caplog.at_level(logging.WARNING, "sluice"):
        assert faster(data, "mine.json") is None
    assert "mine.json is encoded by tokenizers, which is slower: fastokens differs on" in caplog.text


def test_where_fastokens_is_not_installed_the_old_encoder_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    data = LEARNED + b" "
    loaded = load(data, "learned")
    with caplog.at_level(logging.WARNING, "sluice"):
        ids = loaded.encode(TEXTS[:2])
    assert "fastokens is not installed" in caplog.text
    monkeypatch.undo()
    assert [each.tolist() for each in ids] == [each.tolist() for each in load(LEARNED, "learned").encode(TEXTS[:2])]


def test_a_file_that_fastokens_cannot_load_is_encoded_by_tokenizers(caplog: pytest.LogCaptureFixture) -> None:
    data = Encoder(models.WordLevel({"a": 0, END: 1}, END)).to_str().encode()
    with caplog.at_level(logging.WARNING, "sluice"):
        assert [ids.tolist() for ids in load(data, "words.json").encode(["a", "b"])] == [[0, 1], [1, 1]]
    assert "words.json is encoded by tokenizers, which is slower" in caplog.text


def test_what_it_refuses_is_encoded_by_the_old_one() -> None:
    fast = faster(LEARNED, "learned")
    assert fast is not None
    text = "a" + " " * (SPACES - 2) + "b"
    with pytest.raises(ValueError, match="stack"):
        fast([text])
    [before, ids, after] = load(LEARNED, "learned").encode(["before", text, "after"])
    assert ids[:-1].tolist() == plain(ENCODER, [text])[0].tolist()
    assert [before.tolist(), after.tolist()] == [
        ids.tolist() for ids in load(LEARNED, "learned").encode(["before", "after"])
    ]


def test_added_tokens_that_are_not_special_are_still_found() -> None:
    encoder = Encoder.from_buffer(LEARNED)
    encoder.add_tokens([AddedToken("<think>", special=False), AddedToken(" stones", special=False, rstrip=True)])
    data = encoder.to_str().encode()
    texts = ["the <think> river<|endoftext|> stones  past"]
    assert [each.tolist() for each in load(data, "added").encode(texts)] == [
        [*plain(old(data), texts)[0].tolist(), load(data, "added").end]
    ]
    assert encoder.token_to_id("<think>") in load(data, "added").encode(texts)[0].tolist()


def test_texts_of_several_batches_end_where_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tokenization.tokenizer.BATCH", 50)
    texts = ["", "a", "中" * 70, "", "b c" * 20, "d"]
    loaded = load(LEARNED, "learned")
    alone = [loaded.encode([text])[0].tolist() for text in texts]
    assert [ids.tolist() for ids in loaded.encode(texts)] == alone
    assert alone[0] == [loaded.end]


def test_a_tokenizer_without_any_merge_is_taken_or_left_but_never_wrong() -> None:
    bare = Encoder(models.BPE(vocab={chr(256): 0, "a": 1, END: 2}, merges=[]))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    data = bare.to_str().encode()
    found = load(data, "bare").encode(["aa b"])
    assert found[0][:-1].tolist() == plain(old(data), ["aa b"])[0].tolist()
