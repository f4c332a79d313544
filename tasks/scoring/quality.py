"""Quality of documents: how much they are like reference documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from data_specs.expressions import normalised, parse
from tasks.arrays.sampling import smallest
from tasks.engine.sql import evaluate
from tasks.scoring.kind import prose
from tasks.text.fasttext_model import CHARACTERS, Classified, Classifier, features, probability

REFERENCE, RAW = "reference", "raw"


class Quality(Classified):
    """`quality`: probability in [0, 1] that a document is of the reference rather than of the raw corpus, by a fastText
    classifier (DCLM; Li et al. 2024). Null for a text without a word or mark.

    Learned from pages of three formats of WebOrganizer (academic, knowledge, nonfiction) and as many of the others, it
    ranks other pages of these formats above the rest with an AUC of .82 (TF-IDF with logistic regression: .88); 19,000
    documents/s on one core."""

    name, version = "quality", 1
    settings: stages.Quality

    def __init__(self, settings: stages.Quality, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, files)
        self.reads = ("text", *(["kind"] if settings.skip else []))
        share = [("quality_line_share", pa.float32())] if settings.lines else []
        self.writes = pa.schema([("quality", pa.float32()), *share])

    def hashed_settings(self) -> dict[str, Any]:
        lines = {"lines": True} if self.settings.lines else {}
        return super().hashed_settings() | _skipped(self.settings) | lines

    def __call__(self, batch: pa.Table) -> pa.Table:
        lines = features(batch["text"]).combine_chunks()
        scores = pa.array(probability(self.model, lines.to_pylist(), REFERENCE), pa.float32())
        judged = pc.and_(pc.not_equal(lines, ""), prose(batch, self.settings.skip))
        share = [pc.if_else(judged, self._line_share(batch["text"]), None)] if self.settings.lines else []
        return pa.table([pc.if_else(judged, scores, None), *share], schema=self.writes)

    def _line_share(self, text: pa.ChunkedArray) -> pa.Array:
        """The share of letters in lines that are rather of the reference than of the raw corpus, of the lines among the
        characters that are judged; of a text without a letter null."""
        parts = pc.split_pattern(pc.utf8_slice_codeunits(text, 0, CHARACTERS).combine_chunks(), "\n")
        page, line = pc.list_parent_indices(parts).to_numpy(), parts.flatten()
        letters = pc.count_substring_regex(line, r"\p{L}").to_numpy()
        rows = np.flatnonzero(letters)
        page, letters = page[rows], letters[rows]
        lines = features(pa.chunked_array([line.take(pa.array(rows))])).to_pylist()
        good = np.array(probability(self.model, lines, REFERENCE)) >= 0.5
        total = np.bincount(page, letters, len(text))
        share = np.bincount(page, letters * good, len(text)) / np.maximum(total, 1)
        return pa.array(share, pa.float32(), mask=total == 0)


def _skipped(settings: stages.Quality) -> dict[str, Any]:
    return {"skip": settings.skip} if settings.skip else {}


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
            raise ValueError(f"stages.{self.label}.reference is null: there is nothing to learn quality from")
        self.reference = normalised(settings.reference)
        self.raw = normalised(settings.raw or "true")
        kind = {"kind"} if settings.skip else set[str]()
        read = parse(self.reference).columns | parse(self.raw).columns
        self.reads = tuple(sorted(read | {"id", "text", "language"} | kind))

    def hashed_settings(self) -> dict[str, Any]:
        raw = {"raw": self.raw} if self.settings.raw else {}
        return super().hashed_settings() | {"reference": self.reference} | raw | _skipped(self.settings)

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `label`, `language` (empty where unknown), `text` (features) of documents with words; at most half of
        `settings.sample` of each label and language."""
        batch = batch.filter(prose(batch, self.settings.skip)) if self.settings.skip else batch
        found = evaluate({REFERENCE: self.reference, RAW: self.raw}, batch)
        wanted, other = (pc.fill_null(found[name], False) for name in (REFERENCE, RAW))
        label = pc.if_else(wanted, REFERENCE, pc.if_else(other, RAW, None))
        language, text = pc.fill_null(batch["language"], ""), features(batch["text"])
        rows = pa.table({"id": batch["id"], "label": label, "language": language, "text": text})
        return self.downsample(rows.filter(pc.and_(pc.not_equal(rows["text"], ""), pc.is_valid(rows["label"]))))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` may use of samples put together; may be called on any part of them, any number of times."""
        return smallest(rows, self.settings.sample // 2, ("language", "label"), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts, besides: pairs per language, and of languages with one side alone ("one_sided") how many it has,
        [reference, raw]. Raises ValueError where no language has both reference and raw documents."""
        rows, half, key = self.downsample(rows), self.settings.sample // 2, (self.seed, self.name)
        found = Counter(zip(rows["language"].to_pylist(), rows["label"].to_pylist(), strict=True))
        pairs = {name: min(found[name, REFERENCE], found[name, RAW]) for name in sorted({name for name, _ in found})}
        total = sum(pairs.values())
        if not total:
            sides = {name: [found[name, REFERENCE], found[name, RAW]] for name in pairs}
            raise ValueError(
                f"stages.{self.label}.reference: no language has both reference and raw documents "
                f"(reference, raw: {sides})"
            )
        alone = {name: [found[name, REFERENCE], found[name, RAW]] for name, count in pairs.items() if not count}
        pairs = {name: count * min(half, total) // total for name, count in pairs.items() if count}
        parts = [
            smallest(rows.filter(pc.equal(rows["language"], name)), count, ("label",), *key)
            for name, count in pairs.items()
        ]
        data, facts = self.trained(smallest(pa.concat_tables(parts), rows.num_rows, (), *key))
        return data, facts | {"pairs": pairs, "one_sided": alone}

    def caution(self, facts: Mapping[str, Any]) -> str:
        """Which languages, of a hundredth of the sample or more, it scores and was not learned in."""
        alone = facts.get("one_sided", {})
        sampled = 2 * sum(facts["pairs"].values()) + sum(map(sum, alone.values()))
        cautions = [
            f"{name or 'unknown'} has {'reference' if sides[0] else 'raw'} documents alone, and is scored all the same"
            for name, sides in alone.items()
            if sum(sides) * 100 >= sampled
        ]
        return "; ".join([f"learned in {', '.join(facts['pairs'])}", *cautions]) if cautions else ""
