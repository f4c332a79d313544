"""How a tokenizer of each kind is learned; every kind encodes every text without loss.

- byte-bpe: byte-level BPE (Sennrich et al. 2016; Radford et al. 2019). Letters are bytes.
- bpe: BPE over characters; one that is not in the vocabulary is spelled by its bytes (`<0xE4>`), as in LLaMA.
- unigram: a unigram language model (Kudo 2018), with bytes in the same way.
- wordpiece: WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019) over bytes, so that no word is unknown: the
  longest entry first, and entries that go on with a word begin with `▁`.

All split a text alike before that (SPLIT): words with the space before them, runs of punctuation, runs of space, as
GPT-4's tokenizer does, but for three things: digits stand alone, as in LLaMA, so that a number is spelled the same
wherever it stands, or in threes from the right where the spec says so; letters take their combining marks along,
without which Indic scripts fall apart; and runs of Han and kana are kept apart from other letters, so that in
`Python是` no merge crosses the change of script. Chinese has no spaces: what is a word in a run is left to the merges,
and a run ends at punctuation, as a clause does.

A run without end, such as 150,000 ideographs or dashes, costs time in proportion to its length. Encoding does by
itself. Learning looks through a whole pre-token at every merge that touches it, so while it lasts a pre-token is cut
every CUT characters. `tokenizer.json` knows nothing of that: the pairs across a cut are not counted, that is all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoder

from data_specs.tokenizer import Tokenizer

END, PAD = "<|endoftext|>", "<|pad|>"
"""Special tokens 0 and 1 of a learned tokenizer; `<|reserved_0|>` and so on follow."""
CJK = r"\p{Han}\p{Hiragana}\p{Katakana}"
SPLIT = (
    rf"[{CJK}]+"
    rf"|[^\r\n\p{{L}}\p{{M}}\p{{N}}]?[\p{{L}}\p{{M}}&&[^{CJK}]]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""One pre-token, in Oniguruma's syntax."""
THREES = r"\p{N}{1,3}(?=(?:\p{N}{3})*\z)"
"""Of a run of digits the next three, so that what is left can be divided by three. Runs are cut every 510 digits before
that, as each step looks through the rest."""
LONGEST = 32
"""Characters (bytes, as byte-level BPE sees them) of a token, at most: no token is a rule of dashes or a sentence."""
CUT = 1024
"""Characters of a pre-token that is learned from, at most. The longest in 17 collections of prose and code, English and
Chinese, has 501."""
WORD = 100
"""Bytes of a word of WordPiece, at most: a longer pre-token is cut."""
GOES_ON = "\u2581"
"""What entries of WordPiece begin with that go on with a word: none of the letters that stand for bytes."""
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACES = 2**20
"""Characters of a run of white space that are given to the library at once: it steps back through a run, and panics
after ten million steps."""
_SPACE = re.compile(r"\s+")
DECIMALS = 3
"""Of a unigram model's scores, which the library sums in an order of its own, so that further ones are chance."""
UNIGRAM_PIECE = 16
"""Characters of an entry of a unigram model, at most, as SentencePiece has it."""


def learn(texts: Sequence[str], settings: Tokenizer) -> bytes:
    """A `tokenizer.json`, the same bytes by any number of threads: counts are exact, ties broken by id. Byte-level BPE
    takes 3 s for 5 MB. A unigram model comes of sums of floats, so that of two entries that are as good as each other
    another may be left out elsewhere; it is learned once and pinned."""
    special = [END, PAD, *(f"<|reserved_{number}|>" for number in range(settings.reserved))]
    if settings.kind == "wordpiece":
        return _wordpiece(texts, settings, special)
    if settings.kind in ("bpe", "unigram"):
        return _of_characters(texts, settings, special)
    encoder = Encoder(models.BPE())
    encoder.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST,
        show_progress=False,
    )
    _train(encoder, trainer, texts, settings, [_byte_letters()])
    return encoder.to_str(pretty=True).encode()


def split(settings: Tokenizer) -> list[Any]:
    """What cuts a text into pre-tokens."""
    if settings.digits == "one":
        return [pre_tokenizers.Split(Regex(SPLIT), "isolated")]
    runs = SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,510}|")
    return [pre_tokenizers.Split(Regex(runs), "isolated"), pre_tokenizers.Split(Regex(THREES), "isolated")]


def pieces(text: str) -> list[str]:
    """The text, but for runs of white space above SPACES characters, which are cut. Such a run has a place in it that
    is a multiple of SPACES, so a look there is enough."""
    cuts, end = [0], 0
    for place in range(SPACES, len(text), SPACES):
        if place >= end and text[place].isspace():
            before = place - SPACES
            first, end = before + len(text[before:place].rstrip()), next(_SPACE.finditer(text, place)).end()
            cuts += range(first + SPACES, end, SPACES)
    return [text[first:end] for first, end in pairwise([*cuts, len(text)])]


def _byte_letters() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _train(
    encoder: Encoder, trainer: Any, texts: Sequence[str], settings: Tokenizer, behind: Sequence[Any] = ()
) -> None:
    """Train with pre-tokens cut, and leave the encoder without the cut. Raises ValueError for a vocabulary that does
    not hold the characters of the texts, as a unigram model's has to."""
    before = split(settings)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([*before, pre_tokenizers.FixedLength(CUT), *behind])
    try:
        encoder.train_from_iterator(chain.from_iterable(map(pieces, texts)), trainer)
    except Exception as error:  # the library has no narrower kind
        if "vocabulary is not large enough" not in str(error):
            raise
        raise ValueError(
            f"{settings.kind} with a vocabulary of {settings.vocabulary:,}: the texts have more characters than that; "
            "take a larger one, or `byte-bpe`, which spells them by bytes"
        ) from None
    encoder.pre_tokenizer = pre_tokenizers.Sequence([*before, *behind])


def _of_characters(texts: Sequence[str], settings: Tokenizer, special: list[str]) -> bytes:
    """BPE or a unigram model over characters, with the bytes as entries behind the special tokens."""
    fallback = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    trainer: Any
    if settings.kind == "bpe":
        encoder = Encoder(models.BPE(byte_fallback=True, unk_token=BYTES[0]))
        trainer = trainers.BpeTrainer(
            vocab_size=settings.vocabulary,
            special_tokens=[*special, *BYTES],
            limit_alphabet=max(1, (settings.vocabulary - 256 - len(special)) // 2),
            max_token_length=LONGEST,
            show_progress=False,
        )
    else:
        encoder = Encoder(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=settings.vocabulary,
            special_tokens=[*special, *BYTES],
            max_piece_length=UNIGRAM_PIECE,
            unk_token=BYTES[0],
            show_progress=False,
        )
    encoder.decoder = fallback
    _train(encoder, trainer, texts, settings)
    file = json.loads(encoder.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in set(BYTES)]
    model = file["model"]
    if settings.kind == "bpe":  # no merge makes what spells a byte
        model["merges"] = [pair for pair in model["merges"] if "".join(pair) not in set(BYTES)]
        model["unk_token"] = None
    else:
        first = len(special) + len(BYTES)
        scored = [[piece, round(score, DECIMALS)] for piece, score in model["vocab"]]
        model["vocab"] = scored[:first] + sorted(scored[first:], key=lambda each: (-each[1], each[0]))
        lowest = min(score for _, score in model["vocab"]) - 10
        numbers = {piece: number for number, (piece, _) in enumerate(model["vocab"])}
        for piece in BYTES:
            model["vocab"][numbers[piece]][1] = lowest
        model |= {"byte_fallback": True, "unk_id": numbers[BYTES[0]]}
    return Encoder.from_str(json.dumps(file)).to_str(pretty=True).encode()


def _wordpiece(texts: Sequence[str], settings: Tokenizer, special: list[str]) -> bytes:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    going_on = [GOES_ON + letter for letter in letters]
    encoder = Encoder(models.WordPiece(unk_token=END, continuing_subword_prefix=GOES_ON, max_input_chars_per_word=WORD))
    encoder.decoder = decoders.Sequence([decoders.Replace(GOES_ON, ""), decoders.Fuse(), decoders.ByteLevel()])
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[*special, *going_on],
        initial_alphabet=letters,
        continuing_subword_prefix=GOES_ON,
        show_progress=False,
    )
    _train(encoder, trainer, texts, settings, [_byte_letters(), pre_tokenizers.FixedLength(WORD)])
    file = json.loads(encoder.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in set(going_on)]
    return Encoder.from_str(json.dumps(file)).to_str(pretty=True).encode()
