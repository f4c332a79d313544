"""Exported tokenizers encode texts as those of the training were."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from training.export import as_trained

TEMPLATE = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
TRIMMED = processors.ByteLevel(trim_offsets=False)


def made(processor: object) -> bytes:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoder = Tokenizer(models.BPE({token: n for n, token in enumerate(["</s>", "<s>", *letters])}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.add_special_tokens(["</s>", "<s>"])
    if processor:
        encoder.post_processor = processor
    data: str = encoder.to_str()
    return data.encode()


@pytest.mark.parametrize(
    "processor",
    [
        TEMPLATE,
        processors.Sequence([TRIMMED, TEMPLATE]),
        processors.BertProcessing(("</s>", 0), ("<s>", 1)),
        processors.RobertaProcessing(("</s>", 0), ("<s>", 1)),
    ],
)
def test_special_tokens_that_no_row_of_a_training_has_are_put_around_no_text(tmp_path: Path, processor: object) -> None:
    data = made(processor)
    plain = Tokenizer.from_buffer(data)
    (tmp_path / "tokenizer.json").write_bytes(as_trained(data))
    encoder = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in ("a text", "", "两个 <s> x"):
        assert encoder(text)["input_ids"] == plain.encode(text, add_special_tokens=False).ids
    assert plain.encode("a text").ids != encoder("a text")["input_ids"]


@pytest.mark.parametrize("processor", [None, TRIMMED, processors.Sequence([TRIMMED])])
def test_a_tokenizer_that_adds_nothing_is_exported_as_it_is(processor: object) -> None:
    data = made(processor)
    assert as_trained(data) is data
