"""How many bytes of text each token spells, so that losses of different tokenizers can be compared (bits per byte)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tasks.tokenization.fast_encoder import SAMPLE, plain
from tasks.tokenization.kinds import BYTES, GOES_ON
from tasks.tokenization.tokenizer import Loaded


def token_bytes(loaded: Loaded) -> np.ndarray | None:
    """Of each entry the bytes that it spells (int64 [size]), none of special tokens. None where they do not add up to
    texts: of a tokenizer that puts a space before each text, or writes letters otherwise."""
    of_bytes = "ByteLevel" in _decoders(json.loads(loaded.data).get("decoder"))
    added = loaded.encoder.get_added_tokens_decoder()
    found = np.zeros(loaded.size, np.int64)
    for token, number in loaded.encoder.get_vocab(with_added_tokens=True).items():
        if number in added:
            found[number] = 0 if added[number].special else len(token.encode())
        elif of_bytes:
            found[number] = len(token.removeprefix(GOES_ON))  # a letter stands for a byte
        else:
            found[number] = 1 if token in _BYTES else len(token.replace("\u2581", " ").encode())
    ids, ends = plain(loaded.encoder, SAMPLE)
    spelled = np.diff(np.append(0, np.cumsum(found[ids]))[np.append(0, ends)])
    return found if spelled.tolist() == [len(text.encode()) for text in SAMPLE] else None


_BYTES = frozenset(BYTES)


def _decoders(decoder: Any) -> set[str]:
    """The kinds of the decoders of a tokenizer.json."""
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*map(_decoders, decoder.get("decoders", ())))
