"""Our unigram models encode as SentencePiece does with the same entries and scores."""

from __future__ import annotations

import json

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model

from tasks.tokenization.kinds import BYTES
from tests.tasks.tokenization.test_kinds import LEARNED
from tests.tasks.tokenization.test_tokenizer import texts


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    """SentencePiece with the entries of the learned unigram model, and nothing done to texts before."""
    known = json.loads(LEARNED["unigram"].encoder.to_str())["model"]
    found = model.ModelProto()
    kinds = model.ModelProto.SentencePiece
    for number, (piece, score) in enumerate(known["vocab"]):
        kind = kinds.BYTE if piece in BYTES else kinds.CONTROL if number < known["unk_id"] else kinds.NORMAL
        found.pieces.add(piece=piece.replace(" ", "\u2581"), score=score, type=kind)
    found.pieces.add(piece="<unk>", score=0, type=kinds.UNKNOWN)
    found.trainer_spec.model_type = model.TrainerSpec.UNIGRAM
    found.trainer_spec.byte_fallback = True
    found.trainer_spec.vocab_size = len(found.pieces)
    found.normalizer_spec.name = "identity"
    found.normalizer_spec.add_dummy_prefix = False
    found.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=found.SerializeToString())


def test_every_pre_token_has_the_ids_that_sentencepiece_gives_it_or_others_of_one_score(
    processor: sentencepiece.SentencePieceProcessor,
) -> None:
    loaded = LEARNED["unigram"]
    some = [*texts(), "naïve 龘 3.14 🙂 ไทย\tend", "価格は１２３円", "def f(x):\n    return x ** 2\n"]
    pieces = sorted({piece for text in some for piece, _ in loaded.encoder.pre_tokenizer.pre_tokenize_str(text)})
    assert len(pieces) > 300
    scores = dict(enumerate(score for _, score in json.loads(loaded.encoder.to_str())["model"]["vocab"]))
    ties, wrong = 0, []
    for piece in pieces:
        ours, theirs = loaded.encode([piece])[0][:-1].tolist(), processor.encode(piece)
        if ours != theirs:
            same = sum(map(scores.__getitem__, ours)) == pytest.approx(sum(map(scores.__getitem__, theirs)), abs=1e-4)
            ties, wrong = ties + same, wrong if same else [*wrong, (piece, ours, theirs)]
    assert wrong == []
    assert ties < 5  # of two ways of one score either is right
