"""Settings of the stages that make other texts of kept documents, which the mixture reads beside these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from data_specs.base import Code, Count, Share
from data_specs.endpoint import Asking
from data_specs.stage import Stage


class Augmentation(Stage):
    """A stage that makes another text of some of the kept documents. It is read under a weight of its own: in
    `mixture`, and in losses, the stage's name is a channel's."""

    share: Annotated[Share, Field(gt=0)] = 0.1
    """Of the kept documents for which `where` is true, those of which another text is made, chosen by a hash."""


class ShuffleSentences(Augmentation):
    """Another text of some documents: their sentences in another order."""

    kind: Literal["shuffle_sentences"] = "shuffle_sentences"
    within: Literal["line", "document"] = "line"
    """Inside what sentences change places: a line, which in prose is a paragraph; or the whole text, whose lines keep
    their numbers of sentences."""


class Synonyms(Augmentation):
    """Another text of some documents: words replaced by synonyms of a table."""

    kind: Literal["synonyms"] = "synonyms"
    tables: Annotated[dict[Code, str], Field(min_length=1)]
    """Language -> a file with a word and its synonyms a line, separated by tabs, or by spaces where a line has no tab;
    in UTF-8, plain or .gz; lines that begin with # are comments. Every node reads it."""
    words: Share = 0.2
    """Share of the words that have synonyms which are replaced, each by one of these."""


class Rephrase(Augmentation, Asking):
    """Another text of some documents: what a language model behind an OpenAI-compatible endpoint makes of them
    (WRAP; Maini et al. 2024). Learned once and pinned; no answer is asked for twice."""

    kind: Literal["rephrase"] = "rephrase"
    template: Annotated[str, Field(min_length=1)]
    """What is asked: `{text}` stands for the document."""
    share: Annotated[Share, Field(gt=0)] = 1.0
    """Of the kept documents for which `where` is true, those that may be rewritten, chosen by a hash."""
    sample: Annotated[Count, Field(ge=1)] = 1000
    """Documents that are rewritten, at most."""
    answer_tokens: Annotated[int | None, Field(ge=1)] = None
    """Tokens of an answer, at most (`max_tokens`); one that breaks off there is no answer. null: the endpoint's."""

    @field_validator("template")
    @classmethod
    def _of_a_text(cls, template: str) -> str:
        if template.count("{text}") != 1:
            raise ValueError("`{text}`, which stands for the document, has to be in it once")
        return template
