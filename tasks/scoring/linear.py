"""A linear classifier of texts: how often words, pairs of words, shapes of lines and pieces of the address are there,
weighed by how rare they are, into a logistic regression.

Where texts are long and labels many it beats fastText's average of words, whose few dimensions forget most of a page;
where they are short fastText is as good, and faster. Each of the blocks (words, pairs, page, address) has length 1, so
that none drowns the others. Lines have a shape (how long, how ended, whether it is an item or has a digit), which tells
a listing from an article.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.text.fasttext_model import features

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
MAGIC = b"PK"
"""How the file of a model begins, as numpy writes it; fastText's begins otherwise."""
CHARACTERS = 12_000
"""Leading characters of a text that are read."""
LINES, ENDS = 200, 5
"""Lines whose shapes are counted, and lines at the beginning and the end that count by their place, too."""
AT_ONCE = 1024
"""Texts that are scored at once; memory is bounded by it."""
STEPS = 60
"""Steps of L-BFGS."""
RAREST = 3
"""Documents that a feature must be in, at least."""
BLOCKS = ("l", "w", "p", "a")
"""Blocks of features by the letter that their names begin with: page, words, pairs of words, address."""
PIECES = (3, 4, 5)
"""Letters of the pieces that the words of an address are cut into."""

_DIGIT = re.compile(
    r"[\d\xb2\xb3\xb9\u1369-\u1371\u19da\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468\u2474-\u247c\u2488-\u2490\u24ea"
    r"\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792\U00010a40-\U00010a43\U00010e60-\U00010e68"
    r"\U00011052-\U0001105a\U0001f100-\U0001f10a]"
)
"""What `str.isdigit` calls one."""
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
        for first in range(0, len(texts), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            rows, places, counts = self._known(texts[some], urls[some])
            values = self._weighed(rows, places, counts)
            starts = np.flatnonzero(np.diff(rows, prepend=-1))
            bounds = pairwise([*starts.tolist(), len(rows)])
            sums = [values[start:end] @ self.weights[places[start:end]].astype(np.float64) for start, end in bounds]
            scores = np.array(sums).reshape(-1, len(self.bias)) + self.bias
            chances = np.exp(scores - scores.max(axis=1, initial=-np.inf, keepdims=True))
            result[first + rows[starts]] = chances / chances.sum(axis=1, keepdims=True)
        return result

    def _known(self, texts: Sequence[str], urls: Sequence[str]) -> tuple[I64, I64, I64]:
        """Features that texts have and the model knows: number of the text, place of the feature, how often it is
        there; in order of the first two. As `counted` has them, but without a string made for each."""
        words = pc.utf8_split_whitespace(_plain(texts))
        row = pc.list_parent_indices(words).to_numpy()
        word = pc.fill_null(pc.index_in(words.flatten(), self._lookup.words), -1).to_numpy()
        pair = np.flatnonzero((row[:-1] == row[1:]) & (word[:-1] >= 0) & (word[1:] >= 0))
        at = self._lookup.of_pairs(word[pair], word[pair + 1])
        others = [_others(text, url) for text, url in zip(texts, urls, strict=True)]
        number = np.repeat(np.arange(len(texts)), list(map(len, others)))
        other = np.array([self.vocabulary.get(name, -1) for names in others for name in names], np.int64)
        single = self._lookup.places[word]
        rows = np.concatenate([number[other >= 0], row[single >= 0], row[pair[at >= 0]]])
        places = np.concatenate([other[other >= 0], single[single >= 0], at[at >= 0]])
        both, counts = np.unique(rows * len(self.vocabulary) + places, return_counts=True)
        return *np.divmod(both, len(self.vocabulary)), counts

    @cached_property
    def _lookup(self) -> _Lookup:
        return _Lookup(self.vocabulary)

    def _weighed(self, rows: I64, places: I64, counts: I64) -> F64:
        """Values of features, each block of each text of length 1."""
        values = (1 + np.log(counts)) * self.rarity[places]
        block = len(BLOCKS) * rows + self.block[places]
        return values / np.sqrt(np.bincount(block, values**2))[block]

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


class _Lookup:
    """Places of words and of pairs of words in a vocabulary, for many at once."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        pairs = {name[2:]: place for name, place in vocabulary.items() if name.startswith("p_")}
        words = {name[2:]: place for name, place in vocabulary.items() if name.startswith("w_")}
        known = sorted({*words, *(word for pair in pairs for word in pair.split(" "))})
        self.words = pa.array(known, pa.string())
        self.places = np.array([*(words.get(word, -1) for word in known), -1], np.int64)
        """Of each of the words, -1 of one that is there in pairs alone; and of what is at -1, none of them."""
        number = {word: place for place, word in enumerate(known)}
        found = [tuple(number[word] for word in pair.split(" ")) for pair in pairs]
        first, second = np.array(found, np.int64).reshape(-1, 2).T
        keys = first * len(known) + second
        order = np.argsort(keys)
        self._keys = np.append(keys[order], -1)
        self._pairs = np.append(np.array(list(pairs.values()), np.int64)[order], -1)

    def of_pairs(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> I64:
        """Places of the pairs of two words, given by their numbers; -1 of one that is not in the vocabulary."""
        wanted, inverse = np.unique(first.astype(np.int64) * len(self.words) + second, return_inverse=True)
        at = np.searchsorted(self._keys[:-1], wanted)
        return np.where(self._keys[at] == wanted, self._pairs[at], -1)[inverse]


def opened(data: bytes) -> Linear:
    """The model of a file."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        names = found["names"].tobytes().decode().split("\n")
        vocabulary = {name: place for place, name in enumerate(names)}
        weights = found["weights"].astype(np.float32)
        return Linear(vocabulary, found["block"], found["rarity"], weights, found["bias"])


def counted(texts: Sequence[str], urls: Sequence[str]) -> Iterator[Counter[str]]:
    """How often each feature is in each text. A feature is named after its block (`BLOCKS`)."""
    for text, url, line in zip(texts, urls, _plain(texts).to_pylist(), strict=True):
        words = line.split()
        found = Counter([f"w_{word}" for word in words])
        found.update([f"p_{first} {second}" for first, second in pairwise(words)])
        found.update(_others(text, url))
        yield found


def _plain(texts: Sequence[str]) -> pa.Array:
    short = pa.array([text[:CHARACTERS] for text in texts], pa.string())
    return features(pa.chunked_array([short]), CHARACTERS).combine_chunks()


def _others(text: str, url: str) -> list[str]:
    """Features that are no words of the text."""
    return [
        *shapes(text[:CHARACTERS]),
        *(f"l_{part}" for part in address(url)),
        *(f"a_{piece}" for piece in pieces(url)),
    ]


def address(url: str) -> list[str]:
    """The parts of an address, marked as such."""
    if not url:
        return []
    host, _, path = url[:2000].lower().partition("://")[2].partition("/")
    parts = [f"host_{part}" for part in host.replace("\n", ".").split(".") if part]  # a line of a model is a feature
    return [*parts, *(f"path_{part}" for part in re.findall(r"[^\W\d_]+", path)), f"depth_{path.count('/')}"]


def pieces(url: str) -> list[str]:
    """Pieces of the words of an address, which are often written together: `cookingforfun`. A word has a space at both
    ends, and is one piece where it is shorter."""
    words = [f" {word} " for word in re.findall(r"[^\W\d_]+", url[:2000].lower())]
    return [word[at : at + size] for word in words for size in PIECES for at in range(max(1, len(word) - size + 1))]


def shapes(text: str) -> list[str]:
    """What the lines of a text look like."""
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if not lines:
        return []
    found = [f"l_{_shape(line)}" for line in lines[:LINES]]
    for name, some in (("first", lines[:ENDS]), ("last", lines[: -ENDS - 1 : -1])):
        found += [f"l_{name}{place}_{_words(line, 40) // 4}" for place, line in enumerate(some)]
    return [*found, f"l_lines_{int(2 * log(len(lines) + 1))}", f"l_length_{int(3 * log(len(text) + 1))}"]


def _shape(line: str) -> str:
    last = line.rstrip()[-1]
    end = "end" if last in '.!?"。！？”' else "colon" if last in ":：" else "open"
    item = _ITEM.match(line)
    kind = "" if item is None else "number" if item[1] else "bullet"
    digit = "digit" if has_digit(line) else ""
    return f"{end}{kind}{digit}{_words(line, 60) // 6}"


def has_digit(line: str) -> bool:
    """Whether `str.isdigit` is true of a character, without a step of Python for each."""
    data = line.encode()
    return len(data.translate(None, b"0123456789")) < len(data) or not (line.isascii() or _DIGIT.search(line) is None)


def _words(line: str, most: int) -> int:
    return min(len(line.split(None, most)), most)


def learned(
    texts: Sequence[str],
    urls: Sequence[str],
    labels: NDArray[np.int64],
    count: int,
    strength: float,
    steps: int = STEPS,
    lengths: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Linear:
    """Learn from texts with a label each, 0 to `count` - 1: multinomial logistic regression, its weights held small
    (`strength` is scikit-learn's C), by L-BFGS from 0, so that the same texts give the same model. `lengths` are those
    of the blocks (page, words, pairs, address) while it learns: a shorter one is trusted less."""
    import torch

    torch.set_num_threads(1)  # sums in one order
    found = list(counted(texts, urls))
    documents = Counter(name for counts in found for name in counts)
    names = sorted(name for name, number in documents.items() if number >= RAREST) or sorted(documents)
    vocabulary = {name: place for place, name in enumerate(names)}
    block = np.array([BLOCKS.index(name[0]) for name in names], np.int8)
    often = np.array([documents[name] for name in names])
    rarity = (np.log((1 + len(found)) / (1 + often)) + 1).astype(np.float32)
    empty = Linear(vocabulary, block, rarity, np.zeros((len(names), count), np.float32), np.zeros(count, np.float32))
    known = [
        (row, vocabulary[name], number)
        for row, counts in enumerate(found)
        for name, number in counts.items()
        if name in vocabulary
    ]
    document, places, numbers = np.ascontiguousarray(np.array(sorted(known), np.int64).reshape(-1, 3).T)
    scale = np.array(lengths)[block]
    values = empty._weighed(document, places, numbers) * scale[places]
    starts = np.concatenate([[0], np.cumsum(np.bincount(document, minlength=len(found)))])
    matrix = _csr(starts, places, values, len(names))
    order = np.argsort(places, kind="stable")
    columns = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(names)))])
    turned = _csr(columns, document[order], values[order], len(found))
    truth = torch.zeros(len(found), count)
    truth[torch.arange(len(found)), torch.from_numpy(labels)] = 1
    weights, bias = torch.zeros(len(names), count), torch.zeros(count)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=steps, history_size=8, line_search_fn="strong_wolfe")

    def loss() -> Any:
        chances = torch.log_softmax(matrix @ weights + bias, dim=1)
        off = chances.exp() - truth
        weights.grad, bias.grad = turned @ off * strength + weights, off.sum(dim=0) * strength
        return -(chances * truth).sum() * strength + (weights**2).sum() / 2

    with torch.no_grad():
        optimizer.step(loss)
    return Linear(vocabulary, block, rarity, (weights.numpy() * scale[:, None]).astype(np.float32), bias.numpy())


def _csr(starts: NDArray[np.int64], places: NDArray[np.int64], values: F64, width: int) -> Any:
    import torch

    parts = torch.from_numpy(starts), torch.from_numpy(places), torch.from_numpy(values.astype(np.float32))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(*parts, size=(len(starts) - 1, width), check_invariants=True)
