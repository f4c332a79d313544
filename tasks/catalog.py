"""The catalog: which stages a spec asks for, in the order that their columns ask for.

A node is ready once its pins exist; until then its recipe, and all that reads its columns, is unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from data_specs.expressions import bind, parse
from data_specs.spec import Spec
from tasks.channel import Channel
from tasks.domain import Domain, DomainLearned
from tasks.duplicates import Alike, Candidates, Clusters, Exact
from tasks.held_out import HeldOut, HeldOutColumn
from tasks.language import Language
from tasks.percentiles import PercentilesLearned
from tasks.pins import Pins
from tasks.quality import Quality, QualityLearned
from tasks.signals import Signals
from tasks.stage import DOCUMENTS, CorpusStage, Learned, Stage
from tasks.tokenizer import TokenizerLearned
from tasks.tokens import Tokens
from tasks.verdict import Verdict


@dataclass(frozen=True)
class Node:
    """A stage, or something learned, in the order of a pipeline."""

    name: str
    stage: Any
    pins: tuple[str, ...] = ()
    """Pins it needs."""
    ready: bool = True
    """Whether those pins exist."""

    @property
    def reads(self) -> tuple[str, ...]:
        return reads(self.stage)

    @property
    def writes(self) -> tuple[str, ...]:
        return () if isinstance(self.stage, Learned) else tuple(self.stage.writes.names)
