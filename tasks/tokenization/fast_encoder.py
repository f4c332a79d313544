"""A faster encoder, fastokens, for the tokenizers of which it gives the very ids that the library tokenizers gives.

That is tried when a tokenizer is loaded (`trial`): on every special token spelled in a text, on all of Unicode in
samples, on runs, and on what the tokenizer's own entries spell. Where one id is another, where the file has something
that fastokens does not know, or where it is not installed, the old encoder stays and the log says why. What it refuses
later, such as a run of a million spaces, is encoded by the old one, too. So it shapes no value, and belongs to no
fingerprint. `benchmarks/mixture.py` holds both against each other on all real text there is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer as Encoder

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # the fan-out has all cores busy

Flat = tuple[np.ndarray, np.ndarray]
"""Ids of some texts end to end (uint32), and where each text ends in them (int64)."""
Fast = Callable[[Sequence[str]], Flat]

EVERY = 61
"""Of the code points above ALL one in so many is tried."""
ALL = 0x600
ENTRIES = 2**14
"""Entries of the vocabulary that are tried, at most."""
SAMPLE = (
    "Don't  stop\n\n  42 naïve नमस्ते ごはん、API设计 ---- \t x\r\n",
    "　“你好”，她说：《中华人民共和国》成立于1949年10月1日……——3.14159 元！",
    "def f(x, *, y=None):\n\tif x != y:\n        return {'a': [1, 22, 333, 4444], \"b\": f'{x!r:>10}'}\n\n\n# end",
    "ﬁ Å Å é é 한국어 ไทย עברית العربية 👩‍👩‍👧‍👦🇨🇳 ​﻿ \u0085 \u2028 x²½Ⅷ",
    " " * 300 + "a" + "\n" * 300 + "-" * 300 + "我" * 300 + "ab" * 300 + "1" * 300 + " \t\n" * 100,
    "",
    " ",
)
log = logging.getLogger("sluice")


def plain(encoder: Encoder, texts: Sequence[str]) -> Flat:
    """What tokenizers gives."""
    parts = [encoding.ids for encoding in encoder.encode_batch_fast(list(texts), add_special_tokens=False)]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return np.array([number for part in parts for number in part], np.uint32), ends


@lru_cache(maxsize=4)
def faster(data: bytes, name: str) -> Fast | None:
    """The faster encoder of a `tokenizer.json`, where it gives the same ids; else None, and the log says why."""
    try:
        from fastokens import Tokenizer
    except ImportError as error:
        log.warning("%s is encoded by tokenizers, which is slower: fastokens is not installed (%s)", name, error)
        return None
    try:
        tokenizer = Tokenizer.from_json_str(data.decode())
    except ValueError as error:
        log.warning("%s is encoded by tokenizers, which is slower: fastokens cannot load it: %s", name, error)
        return None
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def encode(texts: Sequence[str]) -> Flat:
        ids, offsets = tokenizer.encode_batch_flat(list(texts), add_special_tokens=False, split_special_tokens=True)
        return np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64)[1:].astype(np.int64)

    encoder = Encoder.from_buffer(data)
    encoder.no_padding()
    encoder.no_truncation()
    encoder.encode_special_tokens = True
    if (other := difference(encoder, encode)) is not None:
        log.warning("%s is encoded by tokenizers, which is slower: fastokens differs on %r", name, other[:80])
        return None
    return encode


def difference(encoder: Encoder, encode: Fast) -> str | None:
    """The first text of the trial that an encoder refuses or gives other ids of; None where there is none."""
    texts = trial(encoder)
    try:
        same = all(map(np.array_equal, plain(encoder, texts), encode(texts)))
    except ValueError:
        same = False
    return None if same else next((text for text in texts if _differs(encoder, encode, text)), texts[0])


def _differs(encoder: Encoder, encode: Fast, text: str) -> bool:
    try:
        return not all(map(np.array_equal, plain(encoder, [text]), encode([text])))
    except ValueError:
        return True


def trial(encoder: Encoder) -> list[str]:
    """Texts on which encoders are held against each other."""
    added = [token.content for token in encoder.get_added_tokens_decoder().values()]
    special = [text for token in added for text in (token, f" {token} ", f"a{token}b\n{token}{token}", token[:-1])]
    points = [*range(ALL), *range(ALL, 0x110000, EVERY)]
    letters = [chr(point) for point in points if not 0xD800 <= point < 0xE000]
    unicode = [f"a{each}b 中{each}1{each}{each} {each}\n .{each}" for each in letters]
    size = encoder.get_vocab_size(with_added_tokens=True)
    numbers = range(0, size, -(-size // ENTRIES))
    spelled = [encoder.decode([number], skip_special_tokens=False) for number in numbers]
    pairs = ["".join(spelled[place : place + 8]) for place in range(0, len(spelled), 8)]
    return [*SAMPLE, *special, "".join(added), *unicode, *spelled, *pairs]
