"""Settings of the stages between a source and the verdict: a spec names its stages, and each is of a kind.

What is here belongs to a stage's fingerprint, but for what `Stage` says. Stages of one kind have names of their own:
`edu: {kind: quality, reference: ...}`. Where a name is a kind's, `kind` may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, JsonValue

from data_specs.augmentation import Rephrase, ShuffleSentences, Synonyms
from data_specs.dedup import (
    Boilerplate,
    Duplicates,
    DuplicatesOf,
    Embedding,
    Neighbours,
    RepeatedLines,
    RepeatedSpans,
    SameUrl,
    Semantic,
)
from data_specs.extract import Extract
from data_specs.filters import (
    Allowed,
    BlockedWords,
    Composition,
    Contamination,
    Dolma,
    Language,
    Languages,
    LineFilter,
    Listed,
    Normalise,
    PersonalData,
    Script,
    Signals,
    Style,
    Surface,
)
from data_specs.labels import Judge, Labels
from data_specs.scoring import Buckets, Classify, Domain, Encoder, Ensemble, Perplexity, Quality
from data_specs.stage import Stage


class Custom(Stage):
    """A stage of your own: a class in a module that Python finds on every node (docs/rewriting_text.md). What the
    module's file holds is part of the fingerprint, so a changed one computes anew."""

    kind: Literal["custom"] = "custom"
    code: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`module:Class`, of a subclass of `Stage` or `Rewriting` in tasks/engine/stage.py."""
    settings: dict[str, JsonValue] = {}
    """What the class's `Options` take."""


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
    | ShuffleSentences
    | Synonyms
    | Rephrase
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
