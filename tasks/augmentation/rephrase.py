"""Texts that a language model behind an endpoint makes of documents (WRAP; Maini et al. 2024).

The model is asked once, for what is learned: the pinned table of ids and texts. So a run that comes later, on whatever
machine, has the same texts to the byte; new documents are rewritten when it is learned anew, for which those that were
answered before cost nothing. Table and answers hold texts, of which those of documents that are taken down are purged.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from data_specs import stages
from tasks.arrays.sampling import smallest
from tasks.augmentation.base import Augmenting, chosen
from tasks.engine.stage import Estimator
from tasks.sources.text import normalise
from tasks.storage.columns import value_digest
from tasks.storage.pinned_texts import SUFFIX, written
from tasks.text.endpoint import Endpoint, Question, Reply, is_of, sent_of

TABLE = pa.schema([("id", pa.binary(16)), ("text", pa.string()), ("of", pa.string())])
"""What is pinned, sorted by id, with what was sent `of` each; the text of one that was taken down is empty."""


class Rephrase(Augmenting):
    """`rephrase`: the text that the pinned table has of a kept document; none where the text that it was made of is
    another one since, as after a change of the file, or once personal data are replaced in it."""

    name, version = "rephrase", 2  # another text in a document's place has no text that was made of the earlier one

    def hashed_settings(self) -> dict[str, Any]:
        """Nothing: the values are in the file."""
        return {}

    def setup(self) -> None:
        [path] = self.files
        with pa.memory_map(path) as file:
            table = pa.ipc.open_file(file).read_all()
        self.known = {row.pop("id"): row for row in table.to_pylist()}

    def __call__(self, batch: pa.Table) -> pa.Table:
        made = [""] * len(batch)
        for place, (name, kept) in enumerate(zip(batch["id"].to_pylist(), batch["kept"].to_pylist(), strict=True)):
            found = self.known.get(name) if kept else None
            if found and is_of(found["of"], batch["text"][place].as_py()):
                made[place] = found["text"]
        return self.table(batch, made)


class RephraseEstimator(Estimator):
    """Asks for the texts. Facts: documents that were asked about and those that have a text; questions, failures by
    kind (`unreadable`: an answer that is empty or breaks off), retries, tokens and what they cost."""

    name, version = "rephrase", 2  # what was sent is pinned, too
    suffix = SUFFIX
    reads = ("id", "text", "kept")
    settings: stages.Rephrase

    def __init__(self, settings: stages.Rephrase, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().hashed_settings().items() if name not in stages.Rephrase.ASKING}

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id` and `text` (its leading characters)."""
        batch = batch.filter(pa.array(chosen(batch, self.settings.share, self.seed, self.name)))
        texts = [text[: self.settings.characters] for text in batch["text"].to_pylist()]
        return self.downsample(pa.table({"id": batch["id"], "text": pa.array(texts, pa.string())}))

    def downsample(self, rows: pa.Table) -> pa.Table:
        return smallest(rows, self.settings.sample, (), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        return self.fit_in(None, rows)

    def fit_in(self, store: Any, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Raises EndpointError where too many questions fail."""
        settings = self.settings
        rows = self.downsample(rows).sort_by("id")
        about = {name: getattr(settings, name) for name in ("model", "template", "temperature", "answer_tokens")}
        more = {"max_tokens": settings.answer_tokens} if settings.answer_tokens else {}
        endpoint = Endpoint(settings, self.label, store, about, "text", _text, **more)
        questions, names = {}, []
        for document, text in zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True):
            # By document and text: an answer goes with the document that it was made of, and with no other.
            names.append(f"{document.hex()}-{sent_of(text, settings.characters).rpartition('-')[2]}")
            asked = settings.template.replace("{text}", text)
            questions[names[-1]] = Question([{"role": "user", "content": asked}], {"id": document.hex()})
        found = endpoint.ask(questions)
        given = [found.answers.get(name) for name in names]
        sent = pa.array([sent_of(text, settings.characters) for text in rows["text"].to_pylist()], pa.string())
        table = pa.table([rows["id"], pa.array(given, pa.string()), sent], schema=TABLE).drop_null()
        facts = {"documents": len(names), "rephrased": len(table), "sample": value_digest(rows["id"])}
        return written(table), found.facts() | facts


def _text(reply: Reply) -> str | None:
    """The text of an answer, as texts of sources are; None of one that breaks off or holds nothing."""
    return (normalise(reply.text) or None) if reply.whole else None
