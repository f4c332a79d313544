"""The records of an address that reading made no document of, and why."""

from __future__ import annotations

from typing import Any

from pyarrow import dataset

from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import URL
from tasks.engine.views import views


def records(pipeline: Pipeline, url: str) -> list[dict[str, Any]]:
    """Rows of the view `refused` that have the address, in order of sources. Raises DamagedError."""
    view = views(pipeline)["refused"]
    tables = (table for _, table in view.scan(view.schema.names, dataset.field("url") == url[:URL]))
    return [row for table in tables for row in table.to_pylist()]


def missed(pipeline: Pipeline) -> int:
    """Shards of which fewer refused records have rows than are counted: read by an earlier version, or very many."""
    index = pipeline.outputs["documents"].index
    ledgers = {place: index.ledger(place) or {} for place in range(len(index.keys))}
    counted = {
        place: sum(sum(ledger.get(kind, {}).values()) for kind in ("dropped", "quarantined"))
        for place, ledger in ledgers.items()
    }
    return sum(count > index.refused.get(place, (0, ""))[0] for place, count in counted.items())
