"""Settings of the stages that find duplicates, and of those that cut what repeats across documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from data_specs.amounts import plural
from data_specs.base import Count, Expression, Label, Name, Share, is_empty, is_unset
from data_specs.stage import Stage

FLOOR = 0.5
"""Similarity down to which pairs are kept unless a spec says otherwise."""


class Duplicates(Stage):
    """Exact and near duplicates: MinHash-LSH (Broder 1997; Leskovec et al. ch. 3), candidates verified."""

    kind: Literal["duplicates"] = "duplicates"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """True Jaccard similarity of the shingle sets from which two documents are alike."""
    floor: Annotated[float, Field(gt=0, lt=1)] = FLOOR
    """Similarity from which pairs are looked for and kept, in a column `pairs`, or the threshold where that is lower:
    another threshold from there on reads no text, and `sluice whatif` knows what it would keep. At .5, 32 bands of 4
    hashes find 87 % of the pairs right there, and 99.9 % of those at .7. A threshold above .5 that the floor reaches
    compares less, and keeps no others."""
    hashes: Annotated[int, Field(ge=16, le=1024)] = 128
    """Length of a signature; bands and rows follow from the threshold by datasketch's optimum, where a missed pair
    weighs nine times one compared in vain. More hashes tell pairs apart more sharply."""
    words: Annotated[int, Field(ge=1, le=32)] = 5
    """Words in a shingle of spaced scripts."""
    characters: Annotated[int, Field(ge=1, le=64)] = 5
    """Characters in a shingle of Chinese, Japanese, Thai and other scripts without spaces."""
    symbols: Annotated[Expression | None, Field(exclude_if=is_unset)] = None
    """Documents in which symbols count, such as `kind = 'code'`: each is a unit as a word is, and copies are those of
    the same text. Elsewhere `a + b` and `a - b` are the same."""
    per: Annotated[tuple[Name, ...], Field(exclude_if=is_empty)] = ()
    """Columns, such as `source`, `language` or a crawl's name, by whose values documents are apart: copies and near
    duplicates are looked for among those that agree in all of them. Empty: in the whole corpus."""
    keep: tuple[Name, ...] = ("quality", "length")
    """Which member of a cluster survives: the best by these, in order; then the smallest id. `length` is the longest,
    `date` the earliest, `source` the first of `sources`, `url` the plainest address (without parameters, then of fewer
    parts, then shorter), the name of a stage that scores, but for perplexity and buckets, its highest."""
    sources: Annotated[tuple[Label, ...], Field(exclude_if=is_empty)] = ()
    """Sources in the order in which documents of them stay, for `source` in `keep`; those not named come last."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the corpus stages: more need less memory each."""

    @property
    def compared_from(self) -> float:
        """The similarity down to which pairs are known."""
        return min(self.floor, self.threshold)

    @property
    def keeps_pairs(self) -> bool:
        """Whether pairs are kept for other thresholds: unless a floor above the default is all that this one asks."""
        return not FLOOR < self.threshold <= self.floor

    @field_validator("keep")
    @classmethod
    def _once(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(keep)) < len(keep):
            raise ValueError("a preference is named twice")
        return keep


class SameUrl(Stage):
    """Which pages are of one address, and which of them stays: a column for a rule to drop the others by. Scheme,
    `www.`, fragment, order of parameters and parameters that track visitors make no other address."""

    kind: Literal["same_url"] = "same_url"
    keep: Literal["latest", "first", "longest"] = "latest"
    """Which page of an address stays: the last or the first in the order of files' names and places in them (crawls
    name files by time), or that of the longest text. With later shards, the one that an earlier version has."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the corpus's addresses: more need less memory each."""


class DuplicatesOf(Stage):
    """Which document of an index of others, such as an older corpus or evaluation sets, a document is most alike to:
    columns by which a rule drops duplicates of those. Nothing of theirs is touched."""

    kind: Literal["duplicates_of"] = "duplicates_of"
    index: str
    """The folder that `sluice index` wrote. Every node reads it."""
    symbols: Annotated[Expression | None, Field(exclude_if=is_unset)] = None
    """Documents in which symbols count; null: as `duplicates` says. The index has to count them, too."""


class Embedding(Stage):
    """What a text is about, as a vector: for semantic duplicates, and for an order by similarity."""

    kind: Literal["embedding"] = "embedding"
    model: str
    """A folder on every node with an encoder and its tokenizer, as `save_pretrained` writes it, in safetensors; such as
    one of sentence-transformers."""
    tokens: Annotated[int, Field(ge=16, le=8192)] = 256
    """Leading tokens of a text that are looked at."""
    prefix: str = ""
    """What is put before each text, such as `passage: ` for E5."""


EACH = 100
"""Documents that a cluster of k-means is learned from, at least: with one for each document no two would meet."""


def _enough(settings: Semantic | Neighbours) -> Semantic | Neighbours:
    if settings.sample < EACH * settings.clusters and "clusters" in settings.model_fields_set:
        raise ValueError(
            f"sample: {plural(settings.sample, 'document is', 'documents are')} too few for {settings.clusters:,} "
            f"clusters: {EACH} for each are {EACH * settings.clusters:,}"
        )
    return settings


class Semantic(Stage):
    """Which documents say the same in other words (SemDeDup; Abbas et al. 2023), by the cosine of their embeddings, and
    which of them stays: a column for a rule to drop the others by."""

    kind: Literal["semantic"] = "semantic"
    similarity: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Cosine from which two documents are alike; a rule may ask for more."""
    clusters: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Clusters of k-means, inside which all are compared with all: as many as leave some 1,000 documents to each. Of
    fewer than 100 documents for each, as many fewer are learned."""
    sample: Annotated[Count, Field(ge=1)] = 100_000
    """Documents that the clusters are learned from, at most, 100 for each; they are pinned."""
    keep: Name | None = None
    """The column of numbers whose highest stays, such as `quality` or `text_length`; null: the one farthest from its
    cluster's centre."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the clusters: more need less memory each."""

    _sample_is_enough = model_validator(mode="after")(_enough)


class Neighbours(Stage):
    """An order in which documents stand beside what is about the same (in-context pretraining; Shi et al. 2023), by the
    cosine of their embeddings: a column for `mixture.phases.order`."""

    kind: Literal["neighbours"] = "neighbours"
    apart: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine from which two documents do not follow each other, as long as there are others."""
    clusters: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Clusters of k-means; the order goes through one after the other. Of fewer than 100 documents for each, as many
    fewer are learned."""
    sample: Annotated[Count, Field(ge=1)] = 100_000
    """Documents that the clusters are learned from, at most, 100 for each; they are pinned."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the clusters: more need less memory each."""

    _sample_is_enough = model_validator(mode="after")(_enough)


class Boilerplate(Stage):
    """A new text, named as the stage, without the lines that repeat across pages of a site (its host), and how much was
    cut of each. What came with later shards is held against earlier pages, too, whose text stays."""

    kind: Literal["boilerplate"] = "boilerplate"
    pages: Annotated[int, Field(ge=2)] = 5
    """Pages of a site, different ones, from which a line that they have is boilerplate."""
    inside: Annotated[int, Field(ge=1)] = 40
    """Letters from which such a line is cut wherever it stands; shorter ones, such as headings, at the beginning and
    the end of a text alone."""
    most: Share = 0.5
    """Largest share of the letters of a text that may be cut; a text of which more repeats is a copy of others, and
    stays."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the corpus's lines: more need less memory each."""


class RepeatedLines(Stage):
    """A new text, named as the stage, without lines, or paragraphs, that repeat across the corpus. It is made of kept
    documents, after the rules, which read the text before the cut; of what repeats, the first stays. Where `text` of
    the spec is this one, the tokenizer and the model read it, and all others what it is cut from."""

    kind: Literal["repeated_lines"] = "repeated_lines"
    unit: Literal["line", "paragraph"] = "line"
    """What is compared and cut: a line, or what stands between blank lines. Case and spaces around it count for
    nothing."""
    letters: Annotated[int, Field(ge=1)] = 40
    """Letters from which a line is cut; shorter ones are headings, names and signs of code."""
    documents: Annotated[int, Field(ge=2)] = 2
    """Kept documents from which on a line that they have is cut of all but the first: 2 leaves every line once, Llama 3
    let six stand."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the corpus's lines: more need less memory each."""


class RepeatedSpans(Stage):
    """A new text, named as the stage, without spans of words that stand earlier in the corpus, or in the document
    (exact substrings; Lee et al. 2022). It is made of kept documents, after the rules, as `repeated_lines` is."""

    kind: Literal["repeated_spans"] = "repeated_spans"
    words: Annotated[int, Field(ge=5, le=1000)] = 50
    """Words from which a span is cut; characters of scripts without spaces are words, case and marks are nothing."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 64
    """Partitions of the corpus's spans, of which there are as many as words, 28 bytes each: more need less memory."""
