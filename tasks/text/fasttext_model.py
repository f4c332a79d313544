"""fastText models (Joulin et al. 2016): loading a file of known digest, features of text, training, prediction; what
is common to stages whose model is learned from the corpus.

Training is on one thread with a seed, so the same lines give the same bytes; prediction is the same on any number of
processes. Nothing in a text can act as a label or as fastText's end of line, since `features` takes apart every mark.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.engine.stage import Estimator, Stage
from tasks.storage.columns import value_digest
from tasks.text.held_back import held_back

LIBRARY = "fasttext-community"
"""The distribution whose version shapes values. fasttext 0.9.3 trains to NaN with few threads on numpy 2, and
fasttext-wheel 0.9.2 returns wrong probabilities for several labels of a batch."""
CHARACTERS = 2000
"""Leading characters of a text that a classifier sees. On 10,892 web pages of 24 topics (9 in 10 to learn from, 32
dimensions, 10 epochs) 1,000 gave accuracy .599 at 38,000 predictions/s, 2,000 .630 at 25,000, 4,000 .647 at 19,000,
all .655 at 15,000."""
RATE = 1.0
"""Learning rate, falling linearly to 0: .630 on the same pages against .596 at 0.5, and .635 at 2.0, which loses 2
points on 2,225 news articles."""
RAREST = 2
"""Words seen less often are left out: half the bytes at the same accuracy."""
PREFIX = "__label__"
_END = re.compile(r"(?<![^ \n\r\t\v\f\0])</s>(?![^ \n\r\t\v\f\0])")
"""The word that ends a line to fastText, and what stands behind it is not read."""

_MARKS = r"([^\p{L}\p{M}\p{N}\s]|\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}|\p{Myanmar})"


def load(path: str | Path, sha256: str) -> Any:
    """A fastText model, its digest checked. Raises FileNotFoundError, or ValueError where it is another file, also by
    what is written to it while it is loaded."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such fastText model; check the path, or fetch the file again")
    before = os.stat(path)
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path} has sha256 {found}, expected {sha256}: fetch the file again, or correct the digest")
    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a fastText model: {error}") from None
    after = os.stat(path)
    if (after.st_ino, after.st_size, after.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise ValueError(f"{path} was written to while it was loaded; run again")
    return model


def features(text: pa.ChunkedArray, characters: int = CHARACTERS) -> pa.ChunkedArray:
    """string [n] -> string [n], one line each: the first so many characters in lower case, words between spaces;
    punctuation marks, and characters of scripts without spaces, are words of their own. About 70 MB/s.

    Single characters are what works for Chinese: on 100-character pieces of 9 kinds of Chinese and 2 of English text
    they gave accuracy .930, bigrams of them .938 (with 17 times the bytes), jieba's words .930 (at 1 MB/s), fastText's
    own splitting at spaces .665; on 26,000 Chinese posts .890, .898, .892 and .504. For English, bigrams of words cost
    4 points of 63 on the web pages above.
    """
    lower = pc.utf8_lower(pc.utf8_slice_codeunits(text, 0, characters))
    return pc.utf8_trim_whitespace(pc.replace_substring(pc.replace_substring_regex(lower, _MARKS, r" \1 "), "\n", " "))


def learned(rows: pa.Table, dimensions: int, epochs: int, seed: int) -> tuple[bytes, dict[str, Any]]:
    """Train a classifier. `rows`: `label` and `text` (of `features`), shuffled, since in order of label a model forgets
    all but the last. The first tenth of each label's texts is held back, with all their copies. About 3M words/s and
    epoch.

    Returns the model's file and facts: documents per label, and of the held-back ones their number, the accuracy and
    the share found of each label. Raises ValueError for fewer than two labels."""
    labels = rows["label"].to_numpy()
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"a classifier needs documents of two labels or more, found {' '.join(names) or 'none'}")
    learns, held = held_back(rows["text"].to_pylist(), labels.tolist())
    lessons, tests = rows.filter(learns), rows.filter(held)
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        lines, path = Path(folder) / "lessons.txt", Path(folder) / "model.bin"
        with open(lines, "w", encoding="utf-8") as file:
            pairs = zip(lessons["label"].to_pylist(), lessons["text"].to_pylist(), strict=True)
            file.writelines(f"{PREFIX}{label} {line}\n" for label, line in pairs)
        model = fasttext.train_supervised(
            str(lines), dim=dimensions, epoch=epochs, lr=RATE, minCount=RAREST, thread=1, seed=seed % 2**31, verbose=0
        )
        model.save_model(str(path))
        data = path.read_bytes()
    right = np.array(predict(model, tests["text"].to_pylist())[0], object) == labels[held]
    found = {name: float(right[labels[held] == name].mean()) for name in np.unique(labels[held])}
    validation = {"documents": len(right), "accuracy": float(right.mean()) if len(right) else None, "found": found}
    return data, {"documents": dict(zip(names, counts.tolist(), strict=True)), "validation": validation}


def predict(model: Any, lines: Sequence[str]) -> tuple[list[str | None], list[float]]:
    """The likeliest label of each line, and its probability in [0, 1]; (None, 0) where the model gives none."""
    found, scores = model.predict([_END.sub("", line) if "</s>" in line else line for line in lines])
    labels = [each[0].removeprefix(PREFIX) if each else None for each in found]
    return labels, [min(float(each[0]), 1.0) if len(each) else 0.0 for each in scores]


def probability(model: Any, lines: Sequence[str], label: str) -> list[float]:
    """The probability of one label for each line, in [0, 1]."""
    found, scores = model.predict(list(lines), k=-1)
    pairs = (dict(zip(*each, strict=True)) for each in zip(found, scores, strict=True))
    return [min(float(each.get(PREFIX + label, 0.0)), 1.0) for each in pairs]


class Classified(Stage):
    """A stage whose values are those of one pinned model."""

    libraries = (LIBRARY,)

    def __init__(self, settings: stages.Domain | stages.Quality, files: dict[str, str] | None = None) -> None:
        """`files`: path and sha256 of the model."""
        super().__init__(settings, files)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        """Nothing: the values follow from the model's digest, whatever it was learned with."""
        return {}

    def setup(self) -> None:
        [(path, sha256)] = self.files.items()
        self.model = load(path, sha256)


class Classifier(Estimator):
    """A model learned from a sample of the corpus."""

    libraries = (LIBRARY, "duckdb")
    suffix = ".bin"
    settings: stages.Domain | stages.Quality

    def __init__(self, settings: stages.Domain | stages.Quality, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(include={"sample", "dimensions", "epochs"})

    def trained(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Train on rows of `id`, `label` and `text`. Facts: documents per label, accuracy on a tenth held back, digest
        of the sample. Raises ValueError for fewer than two labels."""
        data, facts = learned(rows, self.settings.dimensions, self.settings.epochs, self.seed)
        return data, facts | {"sample": value_digest(rows["id"])}
