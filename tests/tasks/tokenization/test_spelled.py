"""How many bytes of text a token spells."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers

from data_specs.tokenizer import Tokenizer
from tasks.tokenization.kinds import learn
from tasks.tokenization.spelled import token_bytes
from tasks.tokenization.tokenizer import load

TEXTS = [
    "the quick brown fox jumps over the lazy dog. " * 50 + "你好世界，这是一个测试。" * 20,
    "def f(x):\n  return 1\n" * 40,
]
OTHERS = ["naïve ﬁ ▁x <0x41> 👩‍👩 <|endoftext|>  ", "▁▁a", "x" * 300, ""]


@pytest.mark.parametrize("kind", ["byte-bpe", "bpe", "unigram", "wordpiece"])
def test_bytes_of_the_tokens_add_up_to_those_of_any_text(kind: str) -> None:
    loaded = load(learn(TEXTS, Tokenizer(kind=kind, vocabulary=900)), kind)
    found = token_bytes(loaded)
    assert found is not None
    for text, ids in zip([*TEXTS, *OTHERS], loaded.encode([*TEXTS, *OTHERS]), strict=True):
        assert found[ids].sum() == len(text.encode())
    assert found[[loaded.end, loaded.pad]].tolist() == [0, 0]


def test_of_a_tokenizer_whose_tokens_do_not_spell_the_text_nothing_is_said() -> None:
    encoder = Encoder(models.WordLevel({"<|endoftext|>": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]"))
    encoder.pre_tokenizer, encoder.decoder = pre_tokenizers.Whitespace(), decoders.Metaspace()
    encoder.add_special_tokens(["<|endoftext|>"])
    assert token_bytes(load(encoder.to_str().encode(), "words")) is None
