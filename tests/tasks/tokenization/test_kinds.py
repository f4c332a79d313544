"""Kinds of tokenizers, against the library tokenizers, SentencePiece's way with bytes, and plain loops."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.document import SpecError
from data_specs.tokenizer import Tokenizer
from tasks.tokenization.kinds import BYTES, END, GOES_ON, learn
from tasks.tokenization.tokenizer import Loaded, load, provided
from tests import small
from tests.tasks.tokenization.test_tokenizer import texts

KINDS = ("byte-bpe", "bpe", "wordpiece", "unigram")


def options(kind: str, **more: object) -> Tokenizer:
    return Tokenizer.model_validate({"kind": kind, "vocabulary": 900, "reserved": 4, **more})


LEARNED: dict[str, Loaded] = {kind: load(learn(texts(), options(kind)), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=100)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from([" ", "\n", "\t", "a", "é", "中", "龘", "1", END, "<0x41>", "<|pad|>", "##", GOES_ON])
        ).map("".join),
    )
)
def test_every_kind_encodes_every_text_without_loss_and_specials_in_it_are_text(kind: str, text: str) -> None:
    loaded = LEARNED[kind]
    [ids] = loaded.encode([text])
    assert ids[-1] == loaded.end
    assert (ids[:-1] >= 6).all()
    assert loaded.encoder.decode(ids[:-1].tolist(), skip_special_tokens=False) == text


def test_a_vocabulary_that_is_too_small_for_the_characters_says_so() -> None:
    many = ["".join(map(chr, range(0x4E00, 0x5200))) * 3]
    with pytest.raises(ValueError, match="unigram with a vocabulary of 900: the texts have more characters than that"):
        learn(many, options("unigram"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_special_tokens_first_and_a_vocabulary_of_at_most_what_was_asked(kind: str) -> None:
    loaded = LEARNED[kind]
    first = [loaded.encoder.id_to_token(number) for number in range(6)]
    assert first == [END, "<|pad|>", *(f"<|reserved_{number}|>" for number in range(4))]
    assert (loaded.end, loaded.pad) == (0, 1)
    assert 600 < loaded.size <= 900
    long = [text for text in (loaded.encoder.decode([number]) for number in range(270, loaded.size)) if len(text) > 1]
    assert len(long) > 100  # it has words, not letters alone


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_bytes_in_another_process(kind: str) -> None:
    program = (
        f"import sys; from {__name__} import *; sys.stdout.buffer.write(learn(texts(count=60), options({kind!r})))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert found == learn(texts(count=60), options(kind))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_character_that_was_not_learned_is_spelled_by_its_bytes(kind: str) -> None:
    loaded = LEARNED[kind]
    [ids] = loaded.encode(["龘"])
    assert [loaded.encoder.id_to_token(number) for number in ids[:-1].tolist()] == [
        f"<0x{byte:02X}>" for byte in "龘".encode()
    ]
    model = json.loads(loaded.data)["model"]
    assert not set(BYTES) & {token["content"] for token in json.loads(loaded.data)["added_tokens"]}
    assert model["byte_fallback"]


def test_wordpiece_takes_the_longest_entry_first() -> None:
    loaded = LEARNED["wordpiece"]
    vocabulary = json.loads(loaded.data)["model"]["vocab"]

    for word in (" river", " rivers", " stone"):
        rest, found = "".join("Ġ" if each == " " else each for each in word), []
        while rest:
            prefix = GOES_ON if found else ""
            size = next(n for n in range(len(rest), 0, -1) if prefix + rest[:n] in vocabulary)
            found.append(vocabulary[prefix + rest[:size]])
            rest = rest[size:]
        assert loaded.encode([word])[0][:-1].tolist() == found


def by_threes(number: str) -> list[str]:
    """1234567 -> 1, 234, 567."""
    first = len(number) % 3
    return [number[:first]] * bool(first) + [number[at : at + 3] for at in range(first, len(number), 3)]


@pytest.mark.parametrize("kind", KINDS)
def test_digits_stand_one_by_one_or_by_threes_from_the_right(kind: str) -> None:
    numbers = [f"{number} 年 {number * 7}\n" for number in range(1, 20_000, 7)]
    loaded = load(learn([*texts(), *numbers], options(kind, digits="threes", vocabulary=1200)), kind)
    # No entry holds more than three digits, and no cut falls where threes from the right do not have one.
    entries = [loaded.encoder.decode([number]) for number in range(6, loaded.size)]
    assert not [entry for entry in entries if regex.search(r"\p{N}{4}|\p{N}[^\p{N}]|[^\p{N}]\p{N}", entry)]
    for number in ("1", "12", "123", "1234", "12345", "1234567", "9" * 500):
        ids = loaded.encode([number])[0][:-1].tolist()
        cuts, at = {0}, 0
        for each in ids:
            at += len(loaded.encoder.decode([each]))
            cuts.add(at)
        wanted, at = {0}, 0
        for part in by_threes(number):
            at += len(part)
            wanted.add(at)
        assert wanted <= cuts
    alone = load(learn(numbers, options(kind, vocabulary=700)), kind)
    assert not [
        entry
        for entry in (alone.encoder.decode([number]) for number in range(6, alone.size))
        if regex.search(r"\p{N}{2}", entry)
    ]


def test_runs_of_digits_cost_time_in_proportion_to_their_length() -> None:
    loaded = load(learn(texts(), options("byte-bpe", digits="threes")), "threes")
    [ids] = loaded.encode(["1" * 200_000])
    assert loaded.encoder.decode(ids[:-1].tolist()) == "1" * 200_000


def test_a_file_names_its_own_end_padding_and_mask(tmp_path: Path) -> None:
    file = json.loads(LEARNED["byte-bpe"].data)
    names = {END: "[EOS]", "<|pad|>": "<|▁pad▁|>", "<|reserved_0|>": "[MASK]"}
    for token in file["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    file["model"]["vocab"] = {names.get(token, token): number for token, number in file["model"]["vocab"].items()}
    path = tmp_path / "other.json"
    path.write_text(json.dumps(file))
    with pytest.raises(SpecError, match=r"has no end-of-text token; .* or tokenizer\.end say which it is"):
        provided(str(path), Tokenizer(kind="file", path=str(path)))
    named = Tokenizer(kind="file", path=str(path), end="[EOS]", pad="<|▁pad▁|>", mask="[MASK]")
    loaded = load(provided(str(path), named), str(path), named)
    assert (loaded.end, loaded.pad) == (0, 1)
    assert np.array_equal(loaded.encode(["a [EOS] b"])[0][-1:], [0])
    assert (loaded.encode(["a [EOS] b"])[0][:-1] > 5).all()
    wrong = Tokenizer(kind="file", path=str(path), end="[EOS]", mask="<mask>")
    with pytest.raises(SpecError, match=r"has no token <mask>, which tokenizer\.mask names"):
        provided(str(path), wrong)


def test_names_of_special_tokens_are_for_a_file() -> None:
    with pytest.raises(ValueError, match="end is for kind `file`; a learned tokenizer has its own"):
        Tokenizer(end="</s>")
    with pytest.raises(ValueError, match="those of wordpiece twice, are 530"):
        Tokenizer(kind="wordpiece", vocabulary=400)


@pytest.mark.parametrize("kind", KINDS)
def test_chinese_marks_are_no_part_of_words_and_indentation_is_a_token(kind: str) -> None:
    rng = random.Random(1)
    chinese = [small.chinese(rng, 20).replace("的", "的，“", 1).replace("和", "”、和", 1) for _ in range(60)]
    lines = ["\n".join("    " * (n % 4) + f"return value_{n}" for n in range(40)) for _ in range(30)]
    loaded = load(learn([*chinese, *lines], options(kind)), kind)

    def spelled(text: str) -> list[str]:
        return [loaded.encoder.decode([number]) for number in loaded.encoder.encode(text).ids]

    for text in chinese[:20]:
        assert not [each for each in spelled(text) if regex.search(r"\p{Han}", each) and regex.search(r"\p{P}", each)]
    for depth in (4, 8, 12):  # the last space goes with the word
        spaces = [each for each in spelled("x\n" + " " * depth + "return") if each.isspace() and each != "\n"]
        assert spaces == [" " * (depth - 1)] or (kind == "unigram" and len(spaces) <= 3)
