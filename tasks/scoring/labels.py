"""Labels of documents: numbers that files give them, or that a language model gave by a rubric.

Both write the same columns, so that a reference (`edu >= 3`) or the target of an encoder can be of either: `labels`,
the mean of what was found; `labels_count`, how many labels that is of; `labels_spread`, how far they are apart.
"""

from __future__ import annotations

import glob
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from data_specs import stages
from data_specs.document import SpecError
from tasks.arrays.sampling import smallest
from tasks.engine.stage import Estimator, Stage
from tasks.sources.files import escaping
from tasks.storage.columns import value_digest
from tasks.text.endpoint import Asked, Endpoint, Question, Reply, is_of, sent_of
from tasks.text.rows import rows_of, text_of

FORM = 'End with one line of the form "score: N", where N is a number from {lowest:g} to {highest:g}.'
_NUMBER = r"[-\u2212\u2013+]?(?:\d+(?:\.\d+)?|\.\d+)(?![.,]?\d|[A-Za-z%]|\s*(?:[-\u2013\u2014~]|to\b)\s*\d)"
"""A number that is whole: not 3 of `3,5`, of `3-4` or of `3e2`; a sign stands right before it."""
_SCORE = re.compile(
    r"score(?:\s*\([^()\n]{0,30}\))?(?:[^\w.,+\-\u2212\u2013]|[-\u2013](?=\s)){0,8}"
    r"(?=([-\u2212\u2013+.,]?\d[^\n]{0,40}))",
    re.IGNORECASE,
)
"""What stands behind the word, where that begins as a number; a scale may stand between, `Score (0-5): 4`."""


EXACT = 2**53
"""Below it a number of 64 bits keeps every whole one."""


def _columns(name: str, number: pa.DataType) -> pa.Schema:
    return pa.schema([(name, number), (f"{name}_count", pa.int16()), (f"{name}_spread", number)])


def _table(found: Iterable[list[float]], writes: pa.Schema) -> pa.Table:
    """What is written of the labels of each document; null of one that has none."""
    rows = [(sum(each) / len(each), len(each), max(each) - min(each)) if each else (None, 0, None) for each in found]
    columns = zip(*rows, strict=True) if rows else [[]] * len(writes)
    return pa.table([pa.array(list(each), field.type) for each, field in zip(columns, writes, strict=True)], writes)


class Labels(Stage):
    """`labels`: the mean of the numbers that files give a document."""

    name, version = "labels", 5  # addresses and texts that Parquet has as bytes join, too
    writes = _columns("labels", pa.float64())
    settings: stages.Labels

    def __init__(self, settings: stages.Labels) -> None:
        """Raises SpecError where there is no file."""
        paths = sorted(glob.glob(escaping(settings.path), recursive=True))
        if not paths:
            raise SpecError(f"stages.{self.label}.path: {settings.path} is no file")
        super().__init__(settings, {path: _digest(path) for path in paths})
        self.where = settings.where
        self.reads = (settings.by,)

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"by", "value"})

    def setup(self) -> None:
        """Raises SpecError where a file cannot be read, or is not what the run began with."""
        self.known: dict[str, list[float]] = {}
        for path, digest in self.files.items():
            try:
                for name, value in self._lines(path):
                    self.known.setdefault(name, []).append(value)
            finally:  # once it is read, and before what an error says of a file that is another one now
                if _digest(path) != digest:
                    raise SpecError(f"{path} has changed since this run began; run again")

    def _lines(self, path: str) -> Iterator[tuple[str, float]]:
        wanted, first, found = (self.settings.by, self.settings.value), None, False
        for number, row in enumerate(rows_of(path, numbered=False)):
            row = row if isinstance(row, dict) else {}
            first = first or f"{', '.join(map(str, row)) or 'nothing'}"
            name, value = map(row.get, wanted)
            if name in (None, "") or value in (None, ""):
                continue
            found = True
            of_an_id = self.settings.by == "id" and isinstance(name, bytes)
            yield name.hex() if of_an_id else text_of(name, path, number), self._number(path, number, value)
        if first and not found:
            raise SpecError(f"stages.{self.label}: no row of {path} has both {' and '.join(wanted)}: {first}")

    def _number(self, path: str, row: int, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if abs(number) < EXACT:
            return number
        if math.isfinite(number):
            raise SpecError(
                f"stages.{self.label}.value: row {row} of {path} has {value!r}, 2^53 or more, where neighbours become "
                "one; divide the numbers"
            )
        raise SpecError(f"stages.{self.label}.value: row {row} of {path} has {value!r}, which is no number")

    def __call__(self, batch: pa.Table) -> pa.Table:
        names = batch[self.settings.by].to_pylist()
        if self.settings.by == "id":
            names = [name.hex() for name in names]
        return _table([self.known.get(name, []) for name in names], self.writes)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Judge(Stage):
    """`judge`: the mean of the numbers that a language model gave a document; null of those that it was not asked
    about, or gave none, and where the text is another one since."""

    name, version = "judge", 2  # another text in a document's place has no number of the earlier one
    reads = ("id", "text")
    writes = _columns("judge", pa.float32())

    def __init__(self, settings: stages.Judge, files: dict[str, str] | None = None) -> None:
        """`files`: path and sha256 of the pinned answers."""
        super().__init__(settings, files)

    def hashed_settings(self) -> dict[str, Any]:
        """Nothing: the values are in the file."""
        return {}

    def setup(self) -> None:
        [path] = self.files
        self.known = orjson.loads(Path(path).read_bytes())

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [self.known.get(name.hex(), []) for name in batch["id"].to_pylist()]
        for place, found in enumerate(rows):
            if isinstance(found, dict):  # a list, where an earlier version pinned it and the text is not known
                rows[place] = found["numbers"] if is_of(found["of"], batch["text"][place].as_py() or "") else []
        return _table(rows, self.writes)


class JudgeEstimator(Estimator):
    """Asks about a sample of the documents. The artefact is JSON: a document's id -> the `numbers` it was given, and
    what was sent `of` it. Answers are kept in the store as they come, by what was asked: a run that was stopped goes
    on, and what is learned anew asks about new documents alone."""

    name, version = "judge", 2  # numbers below 0 are read, and what is no whole number is none
    suffix = ".json"
    reads = ("id", "language", "text")
    settings: stages.Judge

    def __init__(self, settings: stages.Judge, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().hashed_settings().items() if name not in stages.Judge.ASKING}

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `language` and `text` (its leading characters)."""
        texts = [text[: self.settings.characters] for text in batch["text"].to_pylist()]
        rows = batch.select(["id", "language"]).append_column("text", pa.array(texts, pa.string()))
        return self.downsample(rows.filter(pa.array(np.array([bool(text.strip()) for text in texts], bool))))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        return smallest(rows, self.settings.sample, ("language",), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        return self.fit_in(None, rows)

    def fit_in(self, store: Any, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: documents; questions asked, and answered before; failures by kind, retries, tokens and what they cost;
        of documents with several numbers the share whose numbers differ, and the mean of how far. Raises EndpointError
        where too many questions fail."""
        rows = self.downsample(rows).sort_by("id")
        ids, texts = [name.hex() for name in rows["id"].to_pylist()], rows["text"].to_pylist()
        asked, numbers = self._asked(texts, store)
        given = {
            name: {"of": sent_of(text, self.settings.characters), "numbers": found}
            for name, text, found in zip(ids, texts, numbers, strict=True)
            if found
        }
        several = [max(each) - min(each) for each in numbers if len(each) > 1]
        facts = {
            "documents": len(ids),
            "labelled": len(given),
            "disagreements": round(sum(map(bool, several)) / len(several), 4) if several else None,
            "spread": round(sum(several) / len(several), 4) if several else None,
            "sample": value_digest(rows["id"]),
        }
        return orjson.dumps(given, option=orjson.OPT_SORT_KEYS), asked.facts() | facts

    def _asked(self, texts: Sequence[str], store: Any) -> tuple[Asked, list[list[float]]]:
        """What came of asking about texts, and the numbers that each was given. Answers are kept by a digest of
        endpoint, model, rubric and text: texts that are the same are asked about once."""
        settings = self.settings
        system = f"{settings.rubric.strip()}\n\n{FORM.format(lowest=settings.lowest, highest=settings.highest)}"
        about = {"model": settings.model, "system": system, "temperature": settings.temperature}
        questions: dict[str, Question] = {}
        names = []
        for text in texts:
            key = hashlib.sha256(text.encode()).hexdigest()[:32]
            names.append([f"{key}-{vote}" for vote in range(settings.votes)])
            messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
            questions |= dict.fromkeys(names[-1], Question(messages))
        asked = Endpoint(settings, self.label, store, about, "number", self._number).ask(questions)
        return asked, [[asked.answers[name] for name in votes if name in asked.answers] for votes in names]

    def _number(self, reply: Reply) -> float | None:
        """The number in an answer, where it is one of the scale."""
        scores = _SCORE.findall(reply.text)
        found = re.match(_NUMBER, scores[-1]) if scores else re.fullmatch(rf"\s*({_NUMBER})\s*\.?\s*", reply.text)
        if found is None:
            return None
        number = float(re.sub("[\u2212\u2013]", "-", found[0].strip().rstrip(".")))
        return number if self.settings.lowest <= number <= self.settings.highest else None
