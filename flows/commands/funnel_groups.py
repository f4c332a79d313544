"""`sluice funnel --by`: documents, bytes and tokens by source, channel or language, and what became of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_specs.groups import named
from data_specs.redaction import escaped
from flows.terminal import cell, console, table
from tasks import registry
from tasks.engine.counts import by_value, totals
from tasks.engine.next_version import tables
from tasks.engine.pipeline import Pipeline


def counted(pipeline: Pipeline, by: str) -> dict[str, Any]:
    """{"by", "values": {value: {"kept" or a reason: [documents, bytes, tokens]}}, "uncounted": documents of shards that
    no version has counted as they are now, "quarantined": of those that none will, as they are quarantined}."""
    counts = registry.counts(pipeline.spec)
    output = pipeline.counted(counts)
    done, lost = output.index.done, pipeline.unavailable(pipeline.columns_read(counts, counts.reads))
    found = totals(tables(pipeline, output, np.flatnonzero(done).tolist()))
    rows = pipeline.outputs["documents"].index.rows
    left_out = {"uncounted": int(rows[~done & ~lost].sum()), "quarantined": int(rows[~done & lost].sum())}
    return {"by": by, "values": by_value(found, by), **left_out}


def show(found: dict[str, Any]) -> None:
    """Print it, what has most documents first."""
    names = (found["by"], "documents", "kept", "bytes", "tokens", "dropped for")
    grid = table(*names, title=f"Documents by {found['by']}")
    for column in grid.columns[1:5]:
        column.justify = "right"
    every = {value: sum(row[0] for row in outcomes.values()) for value, outcomes in found["values"].items()}
    for value in sorted(every, key=lambda name: (-every[name], name)):
        outcomes = dict(found["values"][value])
        kept = outcomes.pop("kept", [0, 0, 0])
        reasons = sorted(outcomes, key=lambda name: (-outcomes[name][0], name))
        why = ", ".join(f"{name} {outcomes[name][0]:,}" for name in reasons)
        grid.add_row(escaped(named(value or None)), cell(every[value]), *map(cell, kept), escaped(why))
    console().print(grid)
    console().print("bytes and tokens are of the documents that are kept")
