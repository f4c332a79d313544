"""What a classifier that was learned from labelled texts (`sluice learn`) says of documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from data_specs import stages
from data_specs.document import SpecError
from tasks.engine.stage import Stage
from tasks.scoring.labelled import load, probabilities
from tasks.text.fasttext_model import LIBRARY


class Classify(Stage):
    """The label of a text, and how likely each is.

    `classify`: the likeliest label; `classify_<label>`: the probability of each, 0 to 1. All are null for a text
    without a word or mark (and without an address, where the model reads addresses).
    """

    name, version = "classify", 1
    libraries = (LIBRARY,)
    unhashed = frozenset({"model", "where"})  # the model's digest is in the fingerprint, and so is the gate
    settings: stages.Classify

    def __init__(self, settings: stages.Classify) -> None:
        """Raises SpecError where the model, or what is beside it, is missing."""
        path = Path(settings.model).expanduser().resolve()
        facts = _facts(settings.model, path)
        super().__init__(settings, {str(path): facts["sha256"]})
        self.where = settings.where
        self.labels: list[str] = facts["labels"]
        self.reads = ("text", "url") if facts["url"] else ("text",)
        self._facts = {name: facts[name] for name in ("labels", "url")}
        names = [f"classify_{re.sub('[^a-z0-9]+', '_', label.lower()).strip('_')}" for label in self.labels]
        if len({*names}) < len(names):
            raise SpecError(f"{settings.model}: two of its labels make one column: {', '.join(self.labels)}")
        self.writes = pa.schema([("classify", pa.string()), *((name, pa.float32()) for name in names)])

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | self._facts

    def setup(self) -> None:
        """Raises ValueError where the model is not the one that was learned."""
        [(path, sha256)] = self.files.items()
        self.model = load(path, sha256)

    def __call__(self, batch: pa.Table) -> pa.Table:
        urls = batch["url"].to_pylist() if "url" in self.reads else [None] * len(batch)
        texts = [text or "" for text in batch["text"].to_pylist()]
        chances = probabilities(self.model, texts, [url or "" for url in urls], len(self.labels))
        none = chances.sum(axis=1) == 0
        likeliest = pa.array(np.array(self.labels, object)[chances.argmax(axis=1)], pa.string(), mask=none)
        columns = [pa.array(column.astype(np.float32), mask=none) for column in chances.T]
        return pa.table([likeliest, *columns], schema=self.writes)


def _facts(named: str, path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    try:
        facts: dict[str, Any] = orjson.loads(beside.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SpecError(f"{named}: {beside.name}, which says what the model is, cannot be read: {error}") from None
    if not path.is_file() or not {"labels", "url", "sha256"} <= facts.keys():
        raise SpecError(f"{named} is no model that `sluice learn` made, with its {beside.name}; learn it again")
    return facts
