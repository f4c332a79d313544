"""Spans of a row, each replaced by one sentinel; the targets are the sentinels, each followed by its span, and an end
(Raffel et al. 2020).

Documents of a row do not see each other here either. A sentinel belongs to the document that its span begins in, the
end to the last one, and where the targets come to another document, the decoder begins anew. A document that lies in a
span whole, and so has nothing to read, counts as part of the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_specs.objectives import SpanCorruption
from tasks.planning.objectives import BEGIN, END, Noise, corrupted
from training.objectives.packed import IGNORED, Made, Packed


def make(objective: SpanCorruption, packed: Packed, noise: Noise, special: Mapping[str, int]) -> Made:
    """`documents` and `target_documents`, int64, say which document each input and each target belongs to;
    `target_inputs` is what the decoder reads."""
    full, rows = corrupted(objective, packed.width), len(packed.rows)
    inputs = np.full((rows, full.inputs), special[BEGIN])
    documents = _apart((rows, full.inputs))
    labels = np.full((rows, full.targets), IGNORED)
    origin = np.zeros((rows, full.targets), np.int64)
    target_documents, target_inputs = np.zeros_like(labels), np.full(labels.shape, special[BEGIN])
    for row, held in enumerate(packed.held.tolist()):
        tokens = packed.rows[row, :held]
        begins, lengths = spans(objective, held, noise, packed.first + row)
        sentinels = np.array([special[f"<extra_id_{number}>"] for number in range(len(begins))], np.int64)
        inside = np.zeros(held + 1, np.int64)
        np.add.at(inside, begins, 1)
        np.add.at(inside, begins + lengths, -1)
        inside = np.cumsum(inside[:-1]) > 0
        # What is read: all that is in no span, and a sentinel where each begins.
        first = np.zeros(held, bool)
        first[begins] = True
        read = np.flatnonzero(~inside | first)
        document = _read_documents(packed.positions[row, :held] == 0, read)
        replaced = tokens.copy()
        replaced[begins] = sentinels
        inputs[row, : len(read) + 1] = np.append(replaced[read], special[END])
        documents[row, : len(read) + 1] = np.append(document[read], document[-1])
        if not len(begins):
            continue
        # What is predicted: each sentinel before its span.
        hidden = np.flatnonzero(inside)
        place = np.flatnonzero(np.isin(hidden, begins))
        found = np.append(np.insert(tokens[hidden], place, sentinels), special[END])
        at = np.append(np.insert(hidden, place, begins), held - 1)
        count = len(found)
        labels[row, :count], origin[row, :count] = found, at
        target_documents[row] = document[-1]  # what a row is filled with sees something, and none sees it
        target_documents[row, :count] = document[at]
        anew = np.diff(document[at], prepend=-1) != 0
        target_inputs[row, :count] = np.where(anew, special[BEGIN], np.append(special[BEGIN], found[:-1]))
    positions = np.broadcast_to(np.arange(full.inputs), inputs.shape)
    more = {"documents": documents, "target_inputs": target_inputs, "target_documents": target_documents}
    return Made(inputs, positions, labels, origin, more)


def spans(objective: SpanCorruption, tokens: int, noise: Noise, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the spans of a row of so many tokens begin, and their lengths (int64): text and spans in turn, text first,
    the lengths of either drawn evenly among all that sum to what they have to."""
    counts = corrupted(objective, tokens)
    if not counts.spans:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    text = _parts(tokens - counts.noise, counts.spans, noise.bits(row, tokens))
    lengths = _parts(counts.noise, counts.spans, noise.bits(row, tokens, purpose=1))
    return np.cumsum(text) + np.cumsum(lengths) - lengths, lengths


def _parts(total: int, count: int, bits: np.ndarray) -> np.ndarray:
    """`total` cut into `count` parts of at least one."""
    cuts = np.sort(np.argsort(bits[: total - 1], kind="stable")[: count - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def _read_documents(begins: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Of each token (int64) its document, by number, as far as some of that is read, else the one before it; `begins`
    says where documents begin, `read` which tokens are read, the first of all among them."""
    document = np.cumsum(begins)
    some = np.zeros(document[-1] + 1, np.int64)
    some[document[read]] = document[read]
    return np.maximum.accumulate(some)[document]


def _apart(shape: tuple[int, int]) -> np.ndarray:
    """Documents of what a row is filled with: each its own."""
    return np.broadcast_to(np.arange(shape[1]) + 2**40, shape).copy()
