"""What is in a shard, counted: documents, bytes of text and tokens by source, channel, language and outcome; how scores
are spread; how many kept documents each host has; of which shards' documents its duplicates are.

Counts are for people, versions and gates; no stage reads them. They are computed like a column, a file per shard, from
what the stages have written, so a shard is counted again only where that changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.base import Settings
from tasks.engine.hosts import sites
from tasks.engine.stage import Fingerprinted

COUNTED = pa.schema(
    [
        ("by", pa.string()),
        ("value", pa.string()),
        ("outcome", pa.string()),
        ("documents", pa.int64()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
    ]
)
"""`by`: channel, language, host, duplicate_of or a score's name; `outcome`: `kept`, or the reason of the verdict."""
GROUPS = ("channel", "language")
"""Columns whose values are counted with every outcome."""
BINS = 40
"""Bins of a score on each side of one half."""

Totals = dict[str, dict[str, dict[str, dict[str, list[int]]]]]
"""source -> by -> value -> outcome -> [documents, bytes, tokens]."""


class Counts(Fingerprinted):
    """Counts the documents of a shard. `scores` are columns of numbers from 0 to 1."""

    name, version = "counts", 1

    def __init__(self, text: str, scores: Sequence[str]) -> None:
        super().__init__(Settings())
        self.scores = tuple(scores)
        self.reads = ("channel", "language", "reason", "kept", "url", "text", "tokens", "duplicate_of", *self.scores)
        self.bound = {"text": text}
        self.writes = COUNTED

    def count(self, batch: pa.Table) -> pa.Table:
        """One row per value and outcome."""
        outcome = pc.if_else(pc.fill_null(batch["kept"], False), "kept", pc.fill_null(batch["reason"], "unknown"))
        facts = {
            "outcome": outcome,
            "bytes": pc.fill_null(pc.cast(pc.binary_length(batch["text"]), pa.int64()), 0),
            "tokens": pc.fill_null(pc.cast(pc.list_value_length(batch["tokens"]), pa.int64()), 0),
        }
        everything = pa.table(facts)
        kept = pc.equal(outcome, "kept")
        parts = [_grouped(name, pc.fill_null(batch[name], ""), everything) for name in GROUPS]
        whole = everything.filter(kept)
        parts.append(_grouped("host", sites(batch["url"].filter(kept)), whole))
        parts += [_grouped(name, _bins(batch[name].filter(kept)), whole) for name in self.scores]
        shards = pc.cast(pc.struct_field(batch["duplicate_of"], "shard"), pa.string())
        parts.append(_grouped("duplicate_of", shards, everything))
        return pa.concat_tables(parts).cast(COUNTED)


def _grouped(by: str, values: pa.ChunkedArray, facts: pa.Table) -> pa.Table:
    """Rows of COUNTED, of the values that are not null, in order."""
    known = facts.append_column("value", values).filter(pc.is_valid(values))
    found = known.group_by(["value", "outcome"]).aggregate([([], "count_all"), ("bytes", "sum"), ("tokens", "sum")])
    found = found.sort_by([("value", "ascending"), ("outcome", "ascending")])
    names = ["value", "outcome", "count_all", "bytes_sum", "tokens_sum"]
    columns = [pa.array([by] * found.num_rows, pa.string()), *(found[name] for name in names)]
    return pa.table(columns, names=COUNTED.names).cast(COUNTED)


def _bins(scores: pa.ChunkedArray) -> pa.Array:
    """The bin of each score from 0 to 1, by its log-odds in quarters: near 0 and near 1, where most are, they are fine.
    0.5 is in bin 0, 0.56 in 1, 0.9 in 9, 0.99 in 18."""
    known = scores.is_valid().to_numpy()
    value = np.clip(pc.fill_null(scores, 0.5).to_numpy().astype(np.float64), 1e-9, 1 - 1e-9)
    odds = np.clip(np.round(4 * np.log(value / (1 - value))), -BINS, BINS).astype(np.int64)
    return pc.cast(pa.array(odds, mask=~known), pa.string())


def totals(tables: Iterable[tuple[str, pa.Table]]) -> Totals:
    """The counts of many shards, by source; without hosts, of which there are many, and whose duplicates they are."""
    found: Totals = {}
    for source, table in tables:
        of_source = found.setdefault(source, {})
        for row in table.filter(pc.invert(pc.is_in(table["by"], pa.array(["host", "duplicate_of"])))).to_pylist():
            outcomes = of_source.setdefault(row["by"], {}).setdefault(row["value"], {})
            counted = [row["documents"], row["bytes"], row["tokens"]]
            outcomes[row["outcome"]] = _sum(outcomes.get(row["outcome"]), counted)
    return found


def added(*some: Totals) -> Totals:
    """The sum of totals."""
    found: Totals = {}
    for each in some:
        for source, by, value, outcome, counted in flat(each):
            outcomes = found.setdefault(source, {}).setdefault(by, {}).setdefault(value, {})
            outcomes[outcome] = _sum(outcomes.get(outcome), counted)
    return found


def _sum(one: list[int] | None, other: Sequence[int]) -> list[int]:
    return [*other] if one is None else [a + b for a, b in zip(one, other, strict=True)]


def flat(found: Totals) -> Iterator[tuple[str, str, str, str, list[int]]]:
    """(source, by, value, outcome, [documents, bytes, tokens])."""
    for source, groups in found.items():
        for by, values in groups.items():
            for value, outcomes in values.items():
                for outcome, counted in outcomes.items():
                    yield source, by, value, outcome, counted


def by_value(found: Totals, by: str, kept: bool = False) -> dict[str, dict[str, list[int]]]:
    """value -> outcome -> [documents, bytes, tokens], over all sources; `by` may be source, too."""
    result: dict[str, dict[str, list[int]]] = {}
    for source, group, value, outcome, counted in flat(found):
        if group == ("language" if by == "source" else by) and (outcome == "kept" or not kept):
            name = source if by == "source" else value
            outcomes = result.setdefault(name, {})
            outcomes[outcome] = _sum(outcomes.get(outcome), counted)
    return result
