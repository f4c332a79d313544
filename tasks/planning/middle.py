"""Fill in the middle (Bavarian et al. 2022): documents whose middle is moved to their end, before they are packed.

A document of which this is asked is cut in three at two places, drawn evenly among its tokens, anew at each use; its
end stays where it is. In the order PSM it becomes

    <prefix> prefix <suffix> suffix <middle> middle end

and in the order SPM, which begins as PSM does where nothing is before the suffix,

    <prefix> <suffix> suffix <middle> prefix middle end

Either way it has three tokens more. So which documents are turned round is all that planning needs to know; a row says
of each of its segments which part of the turned document it is, and at which use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_specs.objectives import Causal, FillInTheMiddle
from data_specs.spec import Spec
from tasks.arrays.hashing import below, seeded_hash
from tasks.planning.packing import Documents

ADDED = 3
"""Tokens that a document gets."""


def asked(spec: Spec) -> FillInTheMiddle | None:
    """What a spec says of it."""
    objective = spec.training.objective
    return objective.fill_in_the_middle if isinstance(objective, Causal) else None


def turned_documents(spec: Spec, documents: Documents) -> Documents:
    """The documents, some turned round where the spec asks for it; which follows from their ids and the seed."""
    middle = asked(spec)
    if middle is None:
        return documents
    turned = below(seeded_hash(documents.hash, spec.seed, "turned"), middle.rate)
    length = (documents.length + np.where(turned, ADDED, 0)).astype(np.int32)
    return replace(documents, length=length, turned=turned)


def turn(tokens: np.ndarray, settings: FillInTheMiddle, special: Sequence[int], seed: int, key: str) -> np.ndarray:
    """A document of which the last token is its end, turned round. `special`: the tokens before prefix, suffix and
    middle; `key` names the document and its use."""
    prefix, suffix, middle = (np.array([number], tokens.dtype) for number in special)
    text, end = tokens[:-1], tokens[-1:]
    bits = seeded_hash(np.arange(3, dtype=np.uint64), seed, "middle", key)
    first, last = sorted(int(each % np.uint64(len(text) + 1)) for each in bits[:2])
    before, inner, after = text[:first], text[first:last], text[last:]
    if below(bits[2:], settings.suffix_first)[0]:
        return np.concatenate([prefix, suffix, after, middle, before, inner, end])
    return np.concatenate([prefix, before, suffix, after, middle, inner, end])
