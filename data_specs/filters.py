"""Settings of the stages that identify languages, measure texts, rewrite them, and compare them with lists."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from data_specs.base import Code, Label, Name, Settings, Share, is_empty
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
