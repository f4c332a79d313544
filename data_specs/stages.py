"""Settings of the stages between a source and the verdict: a spec names its stages, and each is of a kind.

What is here belongs to a stage's fingerprint, but for what `Stage` says. Stages of one kind have names of their own:
`edu: {kind: quality, reference: ...}`. Where a name is a kind's, `kind` may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, JsonValue, field_validator, model_validator

from data_specs.base import Count, Expression, Label, Name, Settings, Share, is_empty, is_unset
from data_specs.extract import Extract
from data_specs.labels import Judge, Labels
from data_specs.scoring import Buckets, Encoder, Ensemble, Perplexity, Quality
from data_specs.stage import Stage


class Language(Stage):
    """Language identification with a fastText model (Joulin et al. 2016)."""

    kind: Literal["language"] = "language"
    model: str = "lid.176.ftz"
    """`lid.176.ftz` (from the locked package), or the path of a fastText model."""
    sha256: str | None = None
    """Expected digest of the model file; required for a model by path."""
    characters: Annotated[int, Field(ge=50)] = 1000
    """Leading characters of the text that are judged."""
    capitals: Annotated[Literal["as_written", "lower"], Field(exclude_if=lambda case: case == "as_written")] = (
        "as_written"
    )
    """Whether a text of which most letters are capitals is judged in lower case. lid.176 takes English ones for German
    or Japanese."""

    @model_validator(mode="after")
    def _digest(self) -> Self:
        _known_model(self.model, self.sha256)
        return self


def _known_model(model: str, sha256: str | None) -> None:
    if model != "lid.176.ftz" and sha256 is None:
        raise ValueError("a model by path needs its digest, `sha256`")


class Languages(Stage):
    """The languages of which a document has parts, each paragraph judged by itself."""

    kind: Literal["languages"] = "languages"
    model: str = "lid.176.ftz"
    """`lid.176.ftz` (from the locked package), or the path of a fastText model."""
    sha256: str | None = None
    """Expected digest of the model file; required for a model by path."""
    shortest: Annotated[int, Field(ge=10)] = 60
    """Characters of a paragraph that is judged, at least; one of Chinese, Japanese or Korean counts as three."""
    share: Share = 0.1
    """Share of the characters judged from which a language is named."""

    @model_validator(mode="after")
    def _digest(self) -> Self:
        _known_model(self.model, self.sha256)
        return self


class Script(Stage):
    """The script of most letters of a text, Chinese told apart into simplified and traditional."""

    kind: Literal["script"] = "script"
    characters: Annotated[int, Field(ge=50)] = 1000
    """Leading characters of the text that are judged."""


Code = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
"""A language as the stage `language` writes it: ISO 639-1, else 639-3."""


class Signals(Stage):
    """The numbers that the Gopher, C4 and FineWeb rules need, from one tokenisation."""

    kind: Literal["signals"] = "signals"
    words: dict[Code, Literal["jieba", "characters", "spaces", "datatrove"]] = {}
    """Word splitter per language. Where none is named: datatrove's tokenizer for ar, de, en, es, fr, it, pt and ru,
    which the rules' counts are of; jieba for zh; else Unicode's word boundaries (`spaces`: half as fast again, but
    `/etc/apt` is four words)."""
    stop_words: Annotated[dict[str, tuple[str, ...]], Field(exclude_if=is_empty)] = {}
    """Language -> its stop words, beside those of en (Gopher) and zh (FineWeb-2); FineWeb-2's of any language are
    written by `python -m data_specs.fineweb2`."""


class Composition(Stage):
    """What a text is made of: sentences, lists, tables, code, verse, repetition, and furniture of its site."""

    kind: Literal["composition"] = "composition"


class Style(Stage):
    """How a text speaks: words that hold sentences together, that sell, that stand at a door; lengths of its lines."""

    kind: Literal["style"] = "style"


class Surface(Stage):
    """What a text looks like, character by character: lengths of lines, letters, ideographs, encoded data, repetition;
    for published rules on code and on Chinese web text."""

    kind: Literal["surface"] = "surface"


class Dolma(Stage):
    """Gopher's signals as Dolma's taggers count them."""

    kind: Literal["dolma"] = "dolma"
    empty_lines: bool = False
    """Whether an empty line is a line (`gopher_v1`) or not (`gopher_v2`)."""


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


class Duplicates(Stage):
    """Exact and near duplicates: MinHash-LSH (Broder 1997; Leskovec et al. ch. 3), candidates verified."""

    kind: Literal["duplicates"] = "duplicates"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """True Jaccard similarity of the shingle sets from which two documents are alike. With 128 hashes, 87 % of the
    pairs right at .8 are found, 97 % of those at .85."""
    floor: Annotated[float | None, Field(gt=0, lt=1, exclude_if=is_unset)] = None
    """Similarity from which pairs are looked for and kept, in a column `pairs`; by default the threshold. With a
    floor below it another threshold reads no text, and `sluice whatif` knows what it would keep. More pairs are
    compared: at .5, 32 bands of 4 hashes find 87 % of those right there, and 99.9 % of those at .7."""
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
    keep: tuple[Name, ...] = ("quality", "length")
    """Which member of a cluster survives: the best by these, in order; then the smallest id. `length` is the longest,
    `date` the earliest, `source` the first of `sources`, `url` the plainest address (without parameters, then of fewer
    parts, then shorter), the name of a column of numbers its highest."""
    sources: Annotated[tuple[Label, ...], Field(exclude_if=is_empty)] = ()
    """Sources in the order in which documents of them stay, for `source` in `keep`; those not named come last."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the corpus stages: more need less memory each."""

    @property
    def compared_from(self) -> float:
        """The similarity down to which pairs are known."""
        return self.threshold if self.floor is None else self.floor

    @model_validator(mode="after")
    def _floor_is_lower(self) -> Duplicates:
        if self.compared_from > self.threshold:
            raise ValueError(f"floor: {self.floor:g} is above the threshold of {self.threshold:g}")
        return self

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


class Semantic(Stage):
    """Which documents say the same in other words (SemDeDup; Abbas et al. 2023), by the cosine of their embeddings, and
    which of them stays: a column for a rule to drop the others by."""

    kind: Literal["semantic"] = "semantic"
    similarity: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Cosine from which two documents are alike; a rule may ask for more."""
    clusters: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Clusters of k-means, inside which all are compared with all: as many as leave some 1,000 documents to each."""
    sample: Annotated[Count, Field(ge=1)] = 100_000
    """Documents that the clusters are learned from, at most; they are pinned."""
    keep: Name | None = None
    """The column of numbers whose highest stays, such as `quality` or `text_length`; null: the one farthest from its
    cluster's centre."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the clusters: more need less memory each."""


class Neighbours(Stage):
    """An order in which documents stand beside what is about the same (in-context pretraining; Shi et al. 2023), by the
    cosine of their embeddings: a column for `mixture.phases.order`."""

    kind: Literal["neighbours"] = "neighbours"
    apart: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine from which two documents do not follow each other, as long as there are others."""
    clusters: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Clusters of k-means; the order goes through one after the other."""
    sample: Annotated[Count, Field(ge=1)] = 100_000
    """Documents that the clusters are learned from, at most; they are pinned."""
    partitions: Annotated[int, Field(ge=1, le=4096)] = 16
    """Partitions of the clusters: more need less memory each."""


class Normalise(Stage):
    """A new text, named as the stage: broken characters mended, forms of characters made one. Every step is a choice;
    what is not chosen stays as it is."""

    kind: Literal["normalise"] = "normalise"
    repair: bool = True
    """Mend what a wrong encoding made of characters, such as `cafÃ©`, with ftfy (Speer 2019)."""
    width: bool = True
    """Full-width Latin letters, digits and spaces become plain ones; Chinese punctuation stays."""
    blank_lines: bool = True
    """Of blank lines in a row, one is kept."""
    chinese: Literal["simplified", "traditional"] | None = None
    """Script of Chinese, by OpenCC's tables of phrases; null: as it is."""


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


class EvaluationSet(Settings):
    """An evaluation set that is looked for."""

    path: str
    """A JSONL, CSV or Parquet file on every node, the first two plain or in gzip; or a pattern of such."""
    fields: Annotated[tuple[str | int, ...], Field(min_length=1)] = ("question",)
    """Fields of an item that are looked for, each by itself; of a list or an object each part. Numbers, from 0, of a
    CSV file without a line of names."""


class Contamination(Stage):
    """How much of an item of an evaluation set a document holds. Documents that hold at least `threshold` of one are
    kept out of the held-out table, the tokenizer and every classifier; a rule drops them from training."""

    kind: Literal["contamination"] = "contamination"
    sets: Annotated[dict[Label, EvaluationSet], Field(min_length=1)]
    """Name -> evaluation set."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of a field's n-grams from which nothing is learned from a document."""


Identifying = Literal["key", "email", "iban", "id_number", "bank_card", "phone", "ip_address"]
"""A kind of personal data, in the order in which they are looked for."""


class PersonalData(Stage):
    """A new text, named as the stage, with marks in the place of what identifies a person or opens a door, and how many
    of each kind there were (`email_count`, ...)."""

    kind: Literal["personal_data"] = "personal_data"
    replace: Annotated[dict[Identifying, str], Field(min_length=1)] = {
        "key": "<KEY>",
        "email": "<EMAIL>",
        "iban": "<IBAN>",
        "id_number": "<ID_NUMBER>",
        "bank_card": "<BANK_CARD>",
        "phone": "<PHONE>",
        "ip_address": "<IP_ADDRESS>",
    }
    """Kind -> its mark, of the kinds that are looked for: keys and tokens (by the prefixes that services give them,
    private keys, what is assigned to names such as `password`), e-mail addresses, IBANs, Chinese identity numbers, bank
    cards, phone numbers (international, and of mainland China), public IP addresses."""

    def marks(self) -> dict[str, str]:
        """Kind -> mark, in the order in which they are looked for, whatever the order they are written in."""
        return {kind: self.replace[kind] for kind in get_args(Identifying) if kind in self.replace}


class LineFilter(Stage):
    """A new text, named as the stage, without single lines that are no text, how many were dropped, and their share of
    the words."""

    kind: Literal["line_filter"] = "line_filter"
    like: Literal["c4", "fineweb", "dolma", "refinedweb"] = "c4"
    """Whose lines: C4's (three words and the end of a sentence, nothing of cookies and JavaScript, marks of citations
    taken out), FineWeb's (the same without the end of a sentence), Dolma's (three words and an end, no more), or
    RefinedWeb's (no capitals, numbers, counters and single words). All are made for English."""


class Custom(Stage):
    """A stage of your own: a class in a module that Python finds on every node (docs/rewriting_text.md). What the
    module's file holds is part of the fingerprint, so a changed one computes anew."""

    kind: Literal["custom"] = "custom"
    code: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`module:Class`, of a subclass of `Stage` or `Rewriting` in tasks/engine/stage.py."""
    settings: dict[str, JsonValue] = {}
    """What the class's `Options` take."""


class Allowed(Stage):
    """Whether a document may be used, by what its site's `robots.txt` and lists of those who opted out say: columns
    for rules, which drop nothing by themselves."""

    kind: Literal["allowed"] = "allowed"
    robots: str | tuple[str, ...] = ()
    """Pattern(s) of WARC files with responses of `robots.txt`, as of a source; Common Crawl keeps them in files of
    their own (`robotstxt/*.warc.gz`). Every node reads them; each worker holds what they say, some 100 bytes a host."""
    agents: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Names of crawlers all of which have to be allowed a page, such as CCBot, GPTBot and Google-Extended; where a site
    does not name one, what it says of `*` is meant."""
    lists: tuple[Name, ...] = ()
    """Names of `lists` of the spec: what is in one of them is not allowed."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.robots and not self.lists:
            raise ValueError("`robots`, `lists` or both say what is not allowed")
        return self


class Listed(Stage):
    """Which lists of domains, addresses, and words in addresses a document's address is in: a column for each."""

    kind: Literal["listed"] = "listed"
    lists: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of `lists` of the spec, such as categories of UT1."""


class BlockedWords(Stage):
    """Words of a text that are in a list of its language, such as LDNOOBW's; columns for rules."""

    kind: Literal["blocked_words"] = "blocked_words"
    words: Annotated[dict[Code, str], Field(min_length=1)]
    """Language -> a file of words or phrases, one a line, in UTF-8, plain or .gz; lines that begin with # are comments.
    Every node reads it."""


Kind = Annotated[
    Extract
    | Language
    | Languages
    | Script
    | Signals
    | Composition
    | Style
    | Surface
    | Dolma
    | Domain
    | Quality
    | Perplexity
    | Encoder
    | Classify
    | Duplicates
    | Normalise
    | PersonalData
    | LineFilter
    | Contamination
    | Boilerplate
    | RepeatedLines
    | RepeatedSpans
    | SameUrl
    | DuplicatesOf
    | Embedding
    | Semantic
    | Neighbours
    | Labels
    | Judge
    | Ensemble
    | Allowed
    | Listed
    | BlockedWords
    | Buckets
    | Custom,
    Field(discriminator="kind"),
]
"""A stage of any kind."""

KINDS = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Kind)[0]))
ALWAYS: dict[str, Kind] = {
    "extract": Extract(),
    "language": Language(),
    "signals": Signals(),
    "duplicates": Duplicates(),
}
"""Stages that every spec has, whether it names them or not."""
SINGLE = frozenset({"extract", "duplicates"})
"""Kinds of which a spec has one stage."""


def with_kinds(stages: Any) -> Any:
    """Stages as they are written, each with its kind where its name is one."""
    if not isinstance(stages, Mapping):
        return stages
    return {
        name: {"kind": name, **settings} if name in KINDS and isinstance(settings, Mapping) else settings
        for name, settings in stages.items()
    }


def column(stage: str, kind: str, role: str) -> str:
    """What a column is called that a stage of some kind calls `role`: of the stage `edu` of the kind `quality`,
    `quality` is `edu` and `quality_score` would be `edu_score`; of the stage `raw` of the kind `signals`, `words` is
    `raw_words`."""
    if stage == kind:
        return role
    if role == kind or role.startswith(f"{kind}_"):
        return stage + role.removeprefix(kind)
    return f"{stage}_{role}"
