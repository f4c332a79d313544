"""A linear classifier of texts: how often words, pairs of words and shapes of lines are there, weighed by how rare they
are, into a logistic regression.

Where texts are long and labels many it beats fastText's average of words, whose few dimensions forget most of a page;
where they are short fastText is as good, and faster. Each of the blocks (words, pairs, page) has length 1, so that none
drowns the others. Lines have a shape (how long, how ended, whether it is an item or has a digit), which tells a listing
from an article.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.text.fasttext_model import features

F64 = NDArray[np.float64]
MAGIC = b"PK"
"""How the file of a model begins, as numpy writes it; fastText's begins otherwise."""
CHARACTERS = 12_000
"""Leading characters of a text that are read."""
LINES, ENDS = 200, 5
"""Lines whose shapes are counted, and lines at the beginning and the end that count by their place, too."""
STEPS = 60
"""Steps of L-BFGS."""
RAREST = 3
"""Documents that a feature must be in, at least."""
PAGE, WORD, PAIR = range(3)
"""Blocks of features."""

_ITEM = re.compile(r"\s*(?:[-*•·]|(\d+[.)]))")


@dataclass(frozen=True)
class Linear:
    """A model: of each feature its block, rarity and weights."""

    vocabulary: dict[str, int]
    block: NDArray[np.int8]
    rarity: NDArray[np.float32]
    weights: NDArray[np.float32]
    """[features, labels]"""
    bias: NDArray[np.float32]

    def probabilities(self, texts: Sequence[str], urls: Sequence[str]) -> F64:
        """float [texts, labels]: the probability of each label; 0 in all of a text without a feature."""
        result = np.zeros((len(texts), len(self.bias)))
        for row, counts in enumerate(counted(texts, urls)):
            known = [(self.vocabulary[name], count) for name, count in counts.items() if name in self.vocabulary]
            if known:
                places, values = self._weighed(known)
                scores = values @ self.weights[places].astype(np.float64) + self.bias
                chances = np.exp(scores - scores.max())
                result[row] = chances / chances.sum()
        return result

    def _weighed(self, known: list[tuple[int, int]]) -> tuple[NDArray[np.int64], F64]:
        known = sorted(known)
        places = np.array([place for place, _ in known])
        values = (1 + np.log([count for _, count in known])) * self.rarity[places]
        return places, values / np.sqrt(np.bincount(self.block[places], values**2, 3))[self.block[places]]

    def data(self) -> bytes:
        """The file of the model; the same model gives the same bytes."""
        file = io.BytesIO()
        names = np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8)
        np.savez_compressed(
            file,
            names=names,
            block=self.block,
            rarity=self.rarity,
            weights=self.weights.astype(np.float16),
            bias=self.bias,
        )
        return file.getvalue()


def opened(data: bytes) -> Linear:
    """The model of a file."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        names = found["names"].tobytes().decode().split("\n")
        vocabulary = {name: place for place, name in enumerate(names)}
        weights = found["weights"].astype(np.float32)
        return Linear(vocabulary, found["block"], found["rarity"], weights, found["bias"])


def counted(texts: Sequence[str], urls: Sequence[str]) -> Iterator[Counter[str]]:
    """How often each feature is in each text. A feature is named after its block: `w_`, `p_` or `l_`."""
    short = [text[:CHARACTERS] for text in texts]
    plain = features(pa.chunked_array([pa.array(short, pa.string())]), CHARACTERS).to_pylist()
    for text, url, line in zip(short, urls, plain, strict=True):
        words = line.split()
        found = Counter([f"w_{word}" for word in words])
        found.update([f"p_{first} {second}" for first, second in pairwise(words)])
        found.update(shapes(text))
        found.update([f"l_{part}" for part in address(url)])
        yield found


def address(url: str) -> list[str]:
    """The parts of an address, marked as such."""
    if not url:
        return []
    host, _, path = url[:2000].lower().partition("://")[2].partition("/")
    parts = [f"host_{part}" for part in host.split(".") if part]
    return [*parts, *(f"path_{part}" for part in re.findall(r"[^\W\d_]+", path)), f"depth_{path.count('/')}"]


def shapes(text: str) -> list[str]:
    """What the lines of a text look like."""
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if not lines:
        return []
    found = [f"l_{_shape(line)}" for line in lines[:LINES]]
    for name, some in (("first", lines[:ENDS]), ("last", lines[: -ENDS - 1 : -1])):
        found += [f"l_{name}{place}_{min(len(line.split()), 40) // 4}" for place, line in enumerate(some)]
    return [*found, f"l_lines_{int(2 * log(len(lines) + 1))}", f"l_length_{int(3 * log(len(text) + 1))}"]


def _shape(line: str) -> str:
    last = line.rstrip()[-1]
    end = "end" if last in '.!?"。！？”' else "colon" if last in ":：" else "open"
    item = _ITEM.match(line)
    kind = "" if item is None else "number" if item[1] else "bullet"
    digit = "digit" if any(map(str.isdigit, line)) else ""
    return f"{end}{kind}{digit}{min(len(line.split()), 60) // 6}"


def learned(
    texts: Sequence[str],
    urls: Sequence[str],
    labels: NDArray[np.int64],
    count: int,
    strength: float,
    steps: int = STEPS,
) -> Linear:
    """Learn from texts with a label each, 0 to `count` - 1: multinomial logistic regression, its weights held small
    (`strength` is scikit-learn's C), by L-BFGS from 0, so that the same texts give the same model."""
    import torch

    torch.set_num_threads(1)  # sums in one order
    found = list(counted(texts, urls))
    documents = Counter(name for counts in found for name in counts)
    names = sorted(name for name, number in documents.items() if number >= RAREST) or sorted(documents)
    vocabulary = {name: place for place, name in enumerate(names)}
    block = np.array([("l", "w", "p").index(name[0]) for name in names], np.int8)
    often = np.array([documents[name] for name in names])
    rarity = (np.log((1 + len(found)) / (1 + often)) + 1).astype(np.float32)
    empty = Linear(vocabulary, block, rarity, np.zeros((len(names), count), np.float32), np.zeros(count, np.float32))
    rows = [
        empty._weighed(known) if known else (np.zeros(0, np.int64), np.zeros(0))
        for counts in found
        for known in [[(vocabulary[name], number) for name, number in counts.items() if name in vocabulary]]
    ]
    starts = np.cumsum([0, *(len(places) for places, _ in rows)])
    places, values = (np.concatenate(part) for part in zip(*rows, strict=True))
    matrix = _csr(starts, places, values, len(names))
    order = np.argsort(places, kind="stable")
    columns = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(names)))])
    document = np.repeat(np.arange(len(rows)), np.diff(starts))
    turned = _csr(columns, document[order], values[order], len(rows))
    truth = torch.zeros(len(rows), count)
    truth[torch.arange(len(rows)), torch.from_numpy(labels)] = 1
    weights, bias = torch.zeros(len(names), count), torch.zeros(count)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=steps, history_size=8, line_search_fn="strong_wolfe")

    def loss() -> Any:
        chances = torch.log_softmax(matrix @ weights + bias, dim=1)
        off = chances.exp() - truth
        weights.grad, bias.grad = turned @ off * strength + weights, off.sum(dim=0) * strength
        return -(chances * truth).sum() * strength + (weights**2).sum() / 2

    with torch.no_grad():
        optimizer.step(loss)
    return Linear(vocabulary, block, rarity, weights.numpy(), bias.numpy())


def _csr(starts: NDArray[np.int64], places: NDArray[np.int64], values: F64, width: int) -> Any:
    import torch

    parts = torch.from_numpy(starts), torch.from_numpy(places), torch.from_numpy(values.astype(np.float32))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(*parts, size=(len(starts) - 1, width), check_invariants=True)
