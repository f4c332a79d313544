"""Settings of the stages between a source and the verdict. What is here belongs to a stage's recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from data_specs.base import Bytes, Count, Expression, Name, Settings, Share


class Extract(Settings):
    """Main text and metadata of HTML pages, with trafilatura (Barbaresi 2021) in a watched child process."""

    cpu_seconds: Annotated[float, Field(gt=0)] = 5.0
    """CPU seconds one document may cost."""
    memory: Bytes = 2**30
    """Bytes one document may cost above the child's baseline."""
    wall_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wall seconds after which a child is taken for hung."""
    largest: Bytes = 8 * 2**20
    """Largest HTML in bytes, after decoding."""
    deepest: Annotated[int, Field(ge=8, le=255)] = 200
    """Deepest nesting of elements; libxml2 gives up silently at 255."""
    fast: bool = True
    """Without trafilatura's fallback extractors: a fifth faster, F1 .920 instead of .926 on its evaluation pages."""


class Language(Settings):
    """Language identification with a fastText model (Joulin et al. 2016)."""

    model: str = "lid.176.ftz"
    """`lid.176.ftz` (from the locked package), or the path of a fastText model."""
    sha256: str | None = None
    """Expected digest of the model file; required for a model by path."""
    characters: Annotated[int, Field(ge=50)] = 1000
    """Leading characters of the text that are judged."""

    @model_validator(mode="after")
    def _digest(self) -> Language:
        if self.model != "lid.176.ftz" and self.sha256 is None:
            raise ValueError("a model by path needs its digest, `sha256`")
        return self


Code = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
"""A language as the stage `language` writes it: ISO 639-1, else 639-3."""


class Signals(Settings):
    """The numbers that the Gopher, C4 and FineWeb rules need, from one tokenisation."""

    words: dict[Code, Literal["jieba", "characters", "spaces", "datatrove"]] = {}
    """Word splitter per language. Where none is named: datatrove's tokenizer for ar, de, en, es, fr, it, pt and ru,
    which the rules' counts are of; jieba for zh; else Unicode's word boundaries (`spaces`: three times as fast, but
    `/etc/apt` is four words)."""
    where: Expression | None = None
    """Gate: rows for which this is not true are skipped (their columns are null)."""


class Domain(Settings):
    """A fastText classifier of the kind of text, learned from labelled documents, pinned."""

    labels: dict[Name, Expression] = {}
    """Label -> expression over documents' columns; the first that is true. Two or more; empty: no domain."""
    sample: Annotated[Count, Field(ge=2)] = 20_000
    """Documents learned from, at most."""
    dimensions: Annotated[int, Field(ge=2, le=300)] = 32
    """Size of the embedding."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 10
    """Passes over the sample."""
    where: Expression | None = None
    """Gate: rows for which this is not true are skipped (their columns are null)."""

    @field_validator("labels")
    @classmethod
    def _several(cls, labels: dict[str, str]) -> dict[str, str]:
        if len(labels) == 1:
            raise ValueError("a classifier needs two labels or more")
        return labels


class Quality(Settings):
    """A fastText scorer learned from reference against raw documents (DCLM; Li et al. 2024), pinned."""

    reference: Expression | None = None
    """Documents to be like; null: no quality stage."""
    per: Literal["language", "corpus"] = "language"
    """Percentiles are taken per language or over the corpus."""
    sample: Annotated[Count, Field(ge=2)] = 20_000
    """Documents learned from, at most, half reference and half raw."""
    dimensions: Annotated[int, Field(ge=2, le=300)] = 32
    """Size of the embedding."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    """Passes over the sample."""
    where: Expression | None = None
    """Gate: rows for which this is not true are skipped (their columns are null)."""


class Duplicates(Settings):
    """Exact and near duplicates: MinHash-LSH (Broder 1997; Leskovec et al. ch. 3), candidates verified."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """True Jaccard similarity of the shingle sets from which two documents are alike. With 128 hashes, 87 % of the
    pairs right at .8 are found, 97 % of those at .85."""
    hashes: Annotated[int, Field(ge=16, le=1024)] = 128
    """Length of a signature; bands and rows follow from the threshold by datasketch's optimum, where a missed pair
    weighs nine times one compared in vain. More hashes tell pairs apart more sharply."""
    words: Annotated[int, Field(ge=1, le=32)] = 5
    """Words in a shingle of spaced scripts."""
    characters: Annotated[int, Field(ge=1, le=64)] = 5
    """Characters in a shingle of Chinese, Japanese, Thai and other scripts without spaces."""
    keep: tuple[Literal["quality", "length", "date"], ...] = ("quality", "length")
    """Which member of a cluster survives: the best by these, in order; then the smallest id."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the corpus stages: more need less memory each."""
    where: Expression | None = None
    """Gate: rows for which this is not true take no part."""

    @field_validator("keep")
    @classmethod
    def _once(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(keep)) < len(keep):
            raise ValueError("a preference is named twice")
        return keep


class Stages(Settings):
    """In the order people think of them; columns decide what runs when."""

    extract: Extract = Extract()
    language: Language = Language()
    signals: Signals = Signals()
    domain: Domain = Domain()
    quality: Quality = Quality()
    duplicates: Duplicates = Duplicates()


class Gates(Settings):
    """What stops a run (exit code 3) instead of letting it go on with a bad corpus."""

    removed_per_source: Share = 0.9
    """Largest share of any source's documents that may go as duplicates, or as copies of held-out ones."""
    quarantined: Share = 0.01
    """Largest share of a stage's shards that may be quarantined."""
    skipped: bool = False
    """Documents may be kept although a stage's `where` skipped them."""
