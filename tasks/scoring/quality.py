"""Quality of documents: how much they are like reference documents."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from data_specs.expressions import normalised, parse
from tasks.arrays.sampling import smallest
from tasks.engine.sql import evaluate
from tasks.text.fasttext_model import Classified, Classifier, features, probability

REFERENCE, RAW = "reference", "raw"


class Quality(Classified):
    """`quality`: probability in [0, 1] that a document is of the reference rather than of the raw corpus, by a fastText
    classifier (DCLM; Li et al. 2024). Null for a text without a word or mark.

    Learned from pages of three formats of WebOrganizer (academic, knowledge, nonfiction) and as many of the others, it
    ranks other pages of these formats above the rest with an AUC of .82 (TF-IDF with logistic regression: .88); 19,000
    documents/s on one core."""

    name, version = "quality", 1
    reads = ("text",)
    writes = pa.schema([("quality", pa.float32())])

    def __call__(self, batch: pa.Table) -> pa.Table:
        lines = features(batch["text"]).combine_chunks()
        scores = pa.array(probability(self.model, lines.to_pylist(), REFERENCE), pa.float32())
        return pa.table([pc.if_else(pc.not_equal(lines, ""), scores, None)], schema=self.writes)


class QualityEstimator(Classifier):
    """The scorer of `Quality`: learned from documents for which `settings.reference` is true against the others.

    Of each language as many reference as raw documents are taken, so that a score tells nothing of the language; a
    language that has only one of the two is left out."""

    name, version = "quality", 1
    settings: stages.Quality

    def __init__(self, settings: stages.Quality, seed: int) -> None:
        """Raises ValueError without a reference: there is no quality stage then."""
        super().__init__(settings, seed)
        if settings.reference is None:
            raise ValueError("stages.quality.reference is null: there is nothing to learn quality from")
        self.reference = normalised(settings.reference)
        self.reads = tuple(sorted(parse(self.reference).columns | {"id", "text", "language"}))

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | {"reference": self.reference}

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `label`, `language` (empty where unknown), `text` (features) of documents with words; at most half of
        `settings.sample` of each label and language."""
        wanted = pc.fill_null(evaluate({REFERENCE: self.reference}, batch)[REFERENCE], False)
        label = pc.if_else(wanted, REFERENCE, RAW)
        language, text = pc.fill_null(batch["language"], ""), features(batch["text"])
        rows = pa.table({"id": batch["id"], "label": label, "language": language, "text": text})
        return self.downsample(rows.filter(pc.not_equal(rows["text"], "")))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` may use of samples put together; may be called on any part of them, any number of times."""
        return smallest(rows, self.settings.sample // 2, ("language", "label"), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts, besides: pairs per language. Raises ValueError where no language has both reference and raw
        documents."""
        rows, half, key = self.downsample(rows), self.settings.sample // 2, (self.seed, self.name)
        found = Counter(zip(rows["language"].to_pylist(), rows["label"].to_pylist(), strict=True))
        pairs = {name: min(found[name, REFERENCE], found[name, RAW]) for name in sorted({name for name, _ in found})}
        total = sum(pairs.values())
        if not total:
            sides = {name: [found[name, REFERENCE], found[name, RAW]] for name in pairs}
            raise ValueError(
                f"stages.quality.reference: no language has both reference and raw documents (reference, raw: {sides})"
            )
        pairs = {name: count * min(half, total) // total for name, count in pairs.items() if count}
        parts = [
            smallest(rows.filter(pc.equal(rows["language"], name)), count, ("label",), *key)
            for name, count in pairs.items()
        ]
        data, facts = self.trained(smallest(pa.concat_tables(parts), rows.num_rows, (), *key))
        return data, facts | {"pairs": pairs}
