"""The catalog: which stages a spec asks for, in the order that their columns ask for.

Adding a stage is one module and one line here.
"""

from __future__ import annotations

import orjson

from data_specs.expressions import bind, parse
from data_specs.spec import Rule, Spec
from tasks.channel import Channel
from tasks.domain import Domain, DomainLearned
from tasks.duplicates import Alike, Candidates, Clusters, Exact
from tasks.held_out import HeldOut, HeldOutColumn
from tasks.language import Language
from tasks.percentiles import PercentilesLearned
from tasks.pins import Pins
from tasks.quality import Quality, QualityLearned
from tasks.signals import Signals
from tasks.stage import Learned, Node, Recipe, ordered
from tasks.tokenizer import TokenizerLearned
from tasks.tokens import Tokens
from tasks.verdict import Verdict


def nodes(spec: Spec, pins: Pins) -> list[Node]:
    """The stages of a spec, with what is pinned. Raises ValueError where a column is written by no stage."""
    stages, seed = spec.stages, spec.seed
    found = [
        _learn(HeldOut(spec.training.evaluate, seed)),
        _node(HeldOutColumn(pins.files("held_out")), pins, "held_out"),
        _node(Language(stages.language), pins),
        _node(Signals(stages.signals), pins),
        _learn(DomainLearned(stages.domain, seed)),
        _node(Domain(stages.domain, pins.files("domain")), pins, "domain"),
    ]
    if stages.quality.reference:
        found.append(_learn(QualityLearned(stages.quality, seed)))
        found.append(_node(Quality(stages.quality, pins.files("quality")), pins, "quality"))
    found += [_node(stage(stages.duplicates), pins) for stage in (Exact, Candidates, Alike, Clusters)]
    found.append(_node(Channel(spec.channels), pins))
    return found
