"""What the stages of a spec may not be called, and what they may not name, beside what their own fields say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from data_specs.dedup import Duplicates
from data_specs.expressions import suggestion
from data_specs.filters import Allowed, Listed
from data_specs.scoring import Ranking
from data_specs.stages import KINDS, SINGLE, Kind, Stage

_TAKEN = frozenset(
    """documents corpus refused held_out exact candidates alike clusters channel verdict outcome tokens
    token_estimate counts version budget plan train""".split()
)
"""Stages and views of Sluice's own, and what else is called like a stage. What learns `x` is called `learn_x`."""


def mistakes(
    stages: Mapping[str, Kind],
    texts: Collection[str],
    lists: Collection[str],
    sources: Collection[str],
    preferences: Collection[str],
) -> Iterator[str]:
    """One line for each mistake, beginning with its dotted key. `texts`: columns of text; `preferences`: what may say
    which of several duplicates stays."""
    for name, stage in stages.items():
        key = f"stages.{name}"
        yield from (f"{key}: {mistake}" for mistake in _name(name, stage))
        chosen = stage.text if isinstance(stage, Stage) else None
        if chosen is not None and chosen not in texts:
            yield f"{key}.text is {chosen}, which is no text{suggestion(chosen, texts, mark='')}"
        if isinstance(stage, Allowed | Listed):
            yield from _unknown(f"{key}.lists", stage.lists, lists, "list")
        if isinstance(stage, Ranking) and name in (stage.of if isinstance(stage.of, tuple) else [stage.of]):
            yield f"{key}.of: a stage is not of its own column"
        if isinstance(stage, Duplicates):
            yield from _duplicates(key, stage, sources, preferences)


def _name(name: str, stage: Kind) -> Iterator[str]:
    if name in KINDS and stage.kind != name:
        yield f"{name} is a kind, so a stage of this name is of it; name this one otherwise"
    if name in _TAKEN or name.startswith("learn_"):
        yield f"{name} is a stage or view of Sluice's own; name the stage otherwise"
    if stage.kind in SINGLE and name != stage.kind:
        yield f"there is one stage of the kind {stage.kind}; call it so"


def _duplicates(
    key: str, settings: Duplicates, sources: Collection[str], preferences: Collection[str]
) -> Iterator[str]:
    for number, wanted in enumerate(settings.keep):
        if wanted not in preferences:
            *some, last = (f"`{each}`" for each in preferences)
            hint = suggestion(wanted, preferences)
            yield f"{key}.keep.{number} is `{wanted}`, but should be {', '.join(some)} or {last}{hint}"
    if ("source" in settings.keep) != bool(settings.sources):
        yield f"{key}.sources: `source` in keep and sources, in order, belong together"
    for number, wanted in enumerate(settings.sources):
        yield from _unknown(f"{key}.sources.{number}", [wanted], sources, "source")


def _unknown(key: str, wanted: Collection[str], known: Collection[str], what: str) -> Iterator[str]:
    for each in wanted:
        if each not in known:
            yield f"{key}: {each} is no {what}{suggestion(each, known, mark='')}"
