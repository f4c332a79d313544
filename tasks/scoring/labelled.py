"""Classifiers learned from labelled texts of a file: settings chosen on a part, what they reach told of another.

The model is fastText's (Joulin et al. 2016) or a linear one (`linear.py`), whichever is right more often. Beside
`NAME.bin` lies `NAME.json`: its labels, what it reads of a document, and how it was learned, with the confusion matrix
of the texts that it never saw.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_specs.amounts import plural
from data_specs.document import SpecError
from tasks.scoring import linear
from tasks.scoring.linear import address
from tasks.text.fasttext_model import PREFIX, features
from tasks.text.fasttext_model import load as load_fasttext
from tasks.text.held_back import plain
from tasks.text.rows import rows_of, text_of

Rows = list[tuple[str, str, str]]
"""Text, address (empty where none is read) and label."""
F64 = NDArray[np.float64]
DEV, TEST = 0.1, 0.2
"""Shares of the texts that are held back where no file is given."""
BUCKETS = (2**18, 2**14)
"""Into which pairs of words are hashed, of many texts and of few."""
FEW = 5000


@dataclass(frozen=True)
class Choice:
    """Settings of fastText; of the linear model where it has a strength and no dimensions."""

    ngrams: int
    dimensions: int
    epochs: int
    rate: float
    rarest: int = 2
    strength: float = 0.0
    lengths: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Of the linear model's blocks: page, words, pairs, address."""


CHOICES = (
    Choice(1, 32, 10, 1.0),
    Choice(2, 32, 5, 0.5),
    Choice(2, 32, 12, 0.2),
    Choice(3, 64, 8, 0.3),
    Choice(2, 0, linear.STEPS, 0.0, linear.RAREST, 5.0),
    Choice(2, 0, linear.STEPS, 0.0, linear.RAREST, 10.0, (0.1, 1.0, 0.2, 0.5)),
)
"""That are tried: the one of the highest accuracy on the texts for it is taken. Formats show in the shapes of lines and
in phrases, topics in words and in the address."""


def read(path: str, text: str, label: str, url: str | None = None) -> Rows:
    """The labelled texts of a JSONL, CSV or Parquet file, the first two plain or in gzip. Raises SpecError, naming file
    and row."""
    rows: Rows = []
    for number, row in enumerate(rows_of(path, numbered=False)):
        row = row if isinstance(row, dict) else {}
        if row.get(text) is None or row.get(label) is None:
            missing = text if row.get(text) is None else label
            raise SpecError(f"{path}: row {number:,} has no `{missing}`; its fields are {', '.join(map(str, row))}")
        values = row[text], (row.get(url) or "") if url else "", row[label]
        one, address, name = (text_of(value, path, number) for value in values)
        rows.append((one, address, name))
    return rows


def split(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """The rows that stay, and those of a share of the texts, drawn by a seed. A text that stands in several rows is on
    one side: what was learned from it would be tested with it otherwise."""
    of: dict[str, Rows] = {}
    for row in rows:
        of.setdefault(plain(row[0]), []).append(row)
    texts = [*of.values()]
    order = np.random.default_rng(seed).permutation(len(texts))
    count = round(share * len(texts))
    stays, goes = ([row for place in part for row in texts[place]] for part in (order[count:], order[:count]))
    return stays, goes


def without(rows: Rows, *others: Rows) -> Rows:
    """The rows whose text none of others has."""
    known = {plain(text) for each in others for text, _, _ in each}
    return [row for row in rows if plain(row[0]) not in known]


def lines(texts: Sequence[str], urls: Sequence[str]) -> list[str]:
    """What a classifier sees: the words of a text, before them those of its address, marked as such."""
    made = features(pa.chunked_array([pa.array(texts, pa.string())])).to_pylist()
    return [" ".join([*address(url), line]).strip() for url, line in zip(urls, made, strict=True)]


def learn(train: Rows, dev: Rows, test: Rows, seed: int) -> tuple[bytes, dict[str, Any]]:
    """The model's file, and facts: what was tried, and what the taken one does with texts that it never saw. Raises
    SpecError for fewer than two labels, or where nothing can be learned from."""
    labels = sorted({label for _, _, label in train})
    if len(labels) < 2 or not dev or not test:
        raise SpecError(
            f"a classifier needs texts of two labels or more, some to choose settings by and some to test: found "
            f"{len(train):,}, {len(dev):,} and {plural(len(test), 'text')}, labels {', '.join(labels) or 'none'}"
        )
    tried, best, model = [], (-1.0, b""), None
    order = np.random.default_rng(seed).permutation(len(train))  # in order of label a model forgets all but the last
    lessons = [train[place] for place in order]
    for choice in CHOICES:
        data, made = _trained(lessons, labels, choice, seed)
        accuracy = measured(made, labels, dev)["accuracy"]
        tried.append({**asdict(choice), "accuracy": accuracy})
        if accuracy > best[0]:
            best, model = (accuracy, data), made
    facts = {
        "labels": labels,
        "url": any(url for _, url, _ in train),
        "sha256": hashlib.sha256(best[1]).hexdigest(),
        "documents": {"train": len(train), "dev": len(dev), "test": len(test)},
        "seed": seed,
        "tried": tried,
        "test": measured(model, labels, test),
    }
    return best[1], facts


def load(path: str, sha256: str) -> Any:
    """A model that was learned here. Raises ValueError where it is another file."""
    data = Path(path).read_bytes()
    if not data.startswith(linear.MAGIC):
        return load_fasttext(path, sha256)
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(f"{path} has sha256 {found}, expected {sha256}: learn it again, or correct the digest")
    return linear.opened(data)


def _trained(rows: Rows, labels: Sequence[str], choice: Choice, seed: int) -> tuple[bytes, Any]:
    number = {label: place for place, label in enumerate(labels)}
    if choice.strength:
        texts, urls, names = zip(*rows, strict=True)
        truth = np.array([number[name] for name in names])
        made = linear.learned(texts, urls, truth, len(labels), choice.strength, choice.epochs, choice.lengths)
        return made.data(), made
    return _fasttext(rows, number, choice, seed)


def _fasttext(rows: Rows, number: Mapping[str, int], choice: Choice, seed: int) -> tuple[bytes, Any]:
    texts = lines([text for text, _, _ in rows], [url for _, url, _ in rows])
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        path, out = Path(folder) / "lessons.txt", Path(folder) / "model.bin"
        with open(path, "w", encoding="utf-8") as file:
            pairs = zip(rows, texts, strict=True)
            file.writelines(f"{PREFIX}{number[label]} {line}\n" for (_, _, label), line in pairs if line)
        model = fasttext.train_supervised(
            str(path),
            dim=choice.dimensions,
            epoch=choice.epochs,
            lr=choice.rate,
            wordNgrams=choice.ngrams,
            minCount=choice.rarest,
            bucket=BUCKETS[len(rows) < FEW] if choice.ngrams > 1 else 0,
            thread=1,
            seed=seed % 2**31,
            verbose=0,
        )
        model.save_model(str(out))
        return out.read_bytes(), model


def probabilities(model: Any, texts: Sequence[str], urls: Sequence[str], labels: int) -> F64:
    """float [texts, labels]: the probability of each label; 0 in all of a text without words and address."""
    if isinstance(model, linear.Linear):
        return model.probabilities(texts, urls)
    texts = lines(texts, urls)
    found, scores = model.predict(texts, k=-1)
    result = np.zeros((len(texts), labels))
    for row, (names, values) in enumerate(zip(found, scores, strict=True)):
        if texts[row]:
            result[row, [int(name.removeprefix(PREFIX)) for name in names]] = np.clip(values, 0, 1)
    return result


def measured(model: Any, labels: Sequence[str], rows: Rows) -> dict[str, Any]:
    """Accuracy; area under the curve of each label against the rest; confusion: of each label how many texts were given
    each label, in order of labels. Texts of a label that was not learned count as wrong, and so do those that are given
    none, having no word and no address; neither are part of the confusion."""
    chances = probabilities(model, [row[0] for row in rows], [row[1] for row in rows], len(labels))
    number = {label: place for place, label in enumerate(labels)}
    truth = np.array([number.get(label, -1) for _, _, label in rows])
    given = np.where(chances.any(axis=1), chances.argmax(axis=1), -2)
    known = (truth >= 0) & (given >= 0)
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth[known], given[known]), 1)
    curves = {label: area(truth == place, chances[:, place]) for label, place in number.items()}
    return {"accuracy": float((given == truth).mean()), "auc": curves, "confusion": confusion.tolist()}


def area(positive: NDArray[np.bool_], scores: F64) -> float | None:
    """Area under the curve of true against false positives (Mann and Whitney's U); None where one side is empty."""
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
