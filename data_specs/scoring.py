"""Settings of the stages that score documents: how good, how fluent, how alike to a reference a text is."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_specs.base import Count, Expression, Label, Name, is_empty, is_unset
from data_specs.stage import Stage

Recognised = Literal["code", "markdown", "latex"]
"""A kind of text that is no prose."""
EVERY: tuple[Recognised, ...] = ("code", "markdown", "latex")


class Scorer(Stage):
    """What scorers of every kind have: one number a document, named as the stage, by a model that is pinned."""

    per: Literal["language", "corpus", "domain", "language_and_domain"] = "language"
    """Percentiles are taken per language, or over the corpus."""


class Quality(Scorer):
    """A fastText scorer learned from reference against raw documents (DCLM; Li et al. 2024), pinned."""

    kind: Literal["quality"] = "quality"
    reference: Expression | None = None
    """Documents to be like; null: no quality stage."""
    raw: Annotated[Expression | None, Field(exclude_if=is_unset)] = None
    """Documents that these are told from; null: all others. With labels of a sample, those of low ones: others have
    none."""
    per: Literal["language", "corpus"] = "language"
    """Percentiles are taken per language or over the corpus."""
    skip: Annotated[tuple[Recognised, ...], Field(exclude_if=is_empty)] = ()
    """Kinds of text that are neither learned from nor scored, as the source's `kind` says or as they are recognised by
    their lines: `[code, markdown, latex]`."""
    lines: Annotated[bool, Field(exclude_if=is_empty)] = False
    """Whether lines are scored by themselves, too, so that a good text in bad company is seen: column
    `quality_line_share`. Costs about what the document does once more."""
    sample: Annotated[Count, Field(ge=2)] = 20_000
    """Documents learned from, at most, half reference and half raw."""
    dimensions: Annotated[int, Field(ge=2, le=300)] = 32
    """Size of the embedding."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    """Passes over the sample."""


class Perplexity(Scorer):
    """How far a text is from what an n-gram model of its language expects, in bits per byte: the lower, the more
    like the reference (CCNet; Wenzek et al. 2020). The models are learned from the reference and pinned."""

    kind: Literal["perplexity"] = "perplexity"
    reference: Expression = "true"
    """Documents that models are learned from, one of each language that has enough of them."""
    per: Literal["language", "corpus"] = "language"
    """Whether each language has a model, and percentiles, of its own, or the whole corpus has one."""
    skip: tuple[Recognised, ...] = EVERY
    """Kinds of text that are neither learned from nor scored, as the source's `kind` says or as they are recognised by
    their lines."""
    order: Annotated[int, Field(ge=1, le=6)] = 3
    """Words of an n-gram, at most; marks, and characters of scripts without spaces, are words."""
    sample: Annotated[Count, Field(ge=2)] = 20_000
    """Documents of each language that are learned from, at most."""


class Encoder(Scorer):
    """A small transformer encoder that gives a text one number (FineWeb-Edu; Penedo et al. 2024): a model of Hugging
    Face's as it is, with a head that is learned, or one that is trained here, pinned."""

    kind: Literal["encoder"] = "encoder"
    model: str | None = None
    """A folder on every node, as `save_pretrained` writes it, with its tokenizer and weights in safetensors; null: a
    model of two layers that is trained here."""
    target: Name | None = None
    """The column of numbers that is learned, such as one of labels; null: the folder's model gives a number itself."""
    per: Literal["language", "corpus"] = "language"
    """Percentiles are taken per language or over the corpus."""
    skip: tuple[Recognised, ...] = EVERY
    """Kinds of text that are neither learned from nor scored, as the source's `kind` says or as they are recognised by
    their lines."""
    tokens: Annotated[int, Field(ge=16, le=8192)] = 256
    """Leading tokens of a text that are looked at."""
    sample: Annotated[Count, Field(ge=20)] = 5_000
    """Documents with a target that are learned from, at most."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 4
    """Passes over the sample, of a model that is trained here."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.model is None and self.target is None:
            raise ValueError("name a `target`, a column of numbers to learn, or a `model` that gives a number itself")
        return self


class Ranking(Scorer):
    """What is common to stages that rank documents by columns of numbers."""

    per: Literal["language", "corpus", "domain", "language_and_domain"] = "language"
    """Ranks are among the documents of the same language, of the same domain (column `domain`), of both, or of all.
    Where there are fewer than a hundred, those of the language stand for them, and then all."""


class Ensemble(Ranking):
    """Scores of several columns as one, named as the stage: each value by its percentile rank, then the highest or the
    mean (FineWeb-HQ and Ultra-FineWeb combine scorers so). Ranks are of the corpus as it was first seen, pinned."""

    kind: Literal["ensemble"] = "ensemble"
    of: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Columns of numbers."""
    take: Literal["max", "mean"] = "mean"
    """Of the ranks of one document, the highest, or the mean of those there are; null where there is none."""
    lower: Annotated[tuple[Name, ...], Field(exclude_if=is_empty)] = ()
    """Of these columns, those of which lower values are better, so that their ranks are counted from the top; those of
    stages of the kind `perplexity` always are."""

    @field_validator("of")
    @classmethod
    def _once(cls, of: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(of)) < len(of):
            raise ValueError("a column is named twice")
        return of

    @model_validator(mode="after")
    def _known(self) -> Self:
        if strange := sorted({*self.lower} - {*self.of}):
            raise ValueError(f"lower: {strange[0]} is none of the columns in `of`")
        return self


class Buckets(Ranking):
    """The corpus in parts of equal size by a column of numbers, from 0, the worst, named as the stage (Nemotron-CC; Su
    et al. 2024). The bounds are of the corpus as it was first seen, pinned."""

    kind: Literal["buckets"] = "buckets"
    of: Name
    """The column."""
    count: Annotated[int, Field(ge=2, le=1000)] = 20
    """How many: 20 are vigintiles."""
    lower: bool = False
    """Whether lower values are better; those of stages of the kind `perplexity` always are."""


class Domain(Stage):
    """A fastText classifier of the kind of text, learned from labelled documents, pinned."""

    kind: Literal["domain"] = "domain"
    labels: dict[Label, Expression] = {}
    """Label -> expression over documents' columns; the first that is true. Two or more; empty: no domain."""
    sample: Annotated[Count, Field(ge=2)] = 20_000
    """Documents learned from, at most."""
    dimensions: Annotated[int, Field(ge=2, le=300)] = 32
    """Size of the embedding."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 10
    """Passes over the sample."""

    @field_validator("labels")
    @classmethod
    def _several(cls, labels: dict[str, str]) -> dict[str, str]:
        if len(labels) == 1:
            raise ValueError("a classifier needs two labels or more")
        return labels


class Classify(Stage):
    """What a classifier that `sluice learn` made of labelled texts says of documents: harmful posts, topics, formats. A
    column for each label; rules decide."""

    kind: Literal["classify"] = "classify"
    model: Annotated[str, Field(pattern=r"\.bin$")]
    """The model's path, `.json` beside it. Every node reads them."""
