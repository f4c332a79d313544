"""The stages of a pipeline, and what it learns, in the order that their columns and pins ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from tasks.engine.stage import DOCUMENTS, Estimator


@dataclass(frozen=True)
class Node:
    """A stage, or something learned, in its place in a pipeline."""

    name: str
    stage: Any
    """A Stage, CorpusStage or Estimator."""
    pins: tuple[str, ...] = ()
    """What it needs that estimators learned."""
    ready: bool = True
    """Whether those are pinned; until then its fingerprint, and all that reads its columns, is unknown."""

    @property
    def writes(self) -> tuple[str, ...]:
        """The columns that it writes."""
        return () if isinstance(self.stage, Estimator) else tuple(map(self.stage.written_as, self.stage.writes.names))

    @property
    def schema(self) -> pa.Schema:
        """The columns that it writes, and their types."""
        return pa.schema([field.with_name(self.stage.written_as(field.name)) for field in self.stage.writes])

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return tuple(map(self.stage.read_from, self.stage.inputs))


def ordered(nodes: Sequence[Node], given: Collection[str] = DOCUMENTS.names) -> list[Node]:
    """Nodes in the order that their columns and pins ask for, else as they stand; documents have the columns `given`.
    Raises ValueError where a column or pin comes from nowhere or from two nodes, or where they need each other."""
    source: dict[str, str] = {}
    for node in nodes:
        made = [f"pin {node.stage.label}"] if isinstance(node.stage, Estimator) else node.writes
        for name in made:
            if name in source or name in given:
                raise ValueError(f"{name} is written by {source.get(name, 'documents')} and by {node.name}")
            source[name] = node.name
    needs: dict[str, dict[str, str]] = {}
    for node in nodes:
        wanted = [
            *(name for name in node.inputs if name not in given),
            *(f"pin {p}" for p in node.pins),
        ]
        if missing := [name for name in wanted if name not in source]:
            raise ValueError(f"{node.name} needs {', '.join(missing)}, which no stage writes")
        needs[node.name] = {source[name]: name for name in wanted}
    by_name = {node.name: node for node in nodes}
    result: dict[str, Node] = {}
    while len(result) < len(nodes):
        free = next((name for name in by_name if name not in result and needs[name].keys() <= result.keys()), None)
        if free is None:
            raise ValueError(f"stages need each other: {_circle(needs, result)}")
        result[free] = by_name[free]
    return [*result.values()]


def _circle(needs: Mapping[str, Mapping[str, str]], made: Collection[str]) -> str:
    """Who needs what of whom, once round, among those that are not made."""
    name = next(name for name in needs if name not in made)
    way: list[str] = []
    while name not in way:
        way.append(name)
        name = next(other for other in needs[name] if other not in made)
    way = [*way[way.index(name) :], name]
    return ", ".join(f"{one} needs {needs[one][other]} of {other}" for one, other in pairwise(way))
