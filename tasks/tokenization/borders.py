"""After which tokens of a vocabulary a line or a sentence ends, for plans that cut long documents there."""

from __future__ import annotations

from typing import Literal

import numpy as np
import orjson

from tasks.tokenization.tokenizer import Loaded

_CLOSING = "\"'”’)]）」』》 "
"""What may follow the mark that ends a sentence."""
_FULL, _SPACED = tuple("。！？"), tuple(".!?…")
"""Marks that end a sentence, and those that do where a space follows: there is none in 3.14."""


def ends(loaded: Loaded, at: Literal["line", "sentence"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool, by token: after which a line ends, or, for sentences, one of these; after which a sentence ends where a
    token that begins with white space follows; and those."""
    always, weak, spaced = (np.zeros(loaded.size, bool) for _ in range(3))
    words = orjson.loads(loaded.data)["model"]["type"] == "WordPiece"
    for number in range(loaded.size):
        raw = loaded.encoder.id_to_token(number) or ""
        text = loaded.encoder.decode([number], skip_special_tokens=False)
        always[number] = text.rstrip(" \t").endswith("\n")
        spaced[number] = raw.startswith(("Ġ", "▁")) or text[:1].isspace() or (words and not raw.startswith("##"))
        if at == "sentence":
            shown = text.rstrip(_CLOSING)
            always[number] |= shown.endswith(_FULL)
            weak[number] = shown.endswith(_SPACED)
    return always, weak, spaced
