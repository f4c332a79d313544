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
_WITH_AND_WITHOUT_SPACE = ("a. b", "a.b")
"""The same tokens where a tokenizer does not keep spaces, as BERT's does not."""


def ends(loaded: Loaded, at: Literal["line", "sentence"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool, by token: after which a line ends, or, for sentences, one of these; after which a sentence ends where a
    token that begins with white space follows; and those. Of a tokenizer that keeps no spaces: tokens that begin a word
    and are no number."""
    always, weak, spaced = (np.zeros(loaded.size, bool) for _ in range(3))
    goes_on = orjson.loads(loaded.data)["model"].get("continuing_subword_prefix") or None
    spaced_out, joined = loaded.encode(_WITH_AND_WITHOUT_SPACE)
    keeps_spaces = not np.array_equal(spaced_out, joined)
    for number in range(loaded.size):
        raw = loaded.encoder.id_to_token(number) or ""
        text = loaded.encoder.decode([number], skip_special_tokens=False)
        always[number] = text.rstrip(" \t").endswith("\n")
        begins = goes_on is None or not raw.startswith(goes_on)
        if keeps_spaces:
            spaced[number] = text[:1].isspace() or (begins and raw.startswith(("Ġ", "▁")))
        else:
            spaced[number] = begins and not text[:1].isdigit()
        if at == "sentence":
            shown = text.rstrip(_CLOSING)
            always[number] |= shown.endswith(_FULL)
            weak[number] = shown.endswith(_SPACED)
    spaced[loaded.end] = False
    return always, weak, spaced
