"""From the columns of a corpus to what a run plan is made of: one table of numbers per document shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_specs.expressions import parse
from data_specs.sql_parser import ExpressionError
from tasks.arrays.numbers import as_float
from tasks.arrays.repetitions import repeated
from tasks.engine import job
from tasks.engine.corpus import Corpus
from tasks.engine.hosts import sites
from tasks.engine.sql import evaluate
from tasks.engine.stage import digest
from tasks.planning.borders import Borders
from tasks.planning.files import token_checksum
from tasks.planning.objectives import RowShape

REPEATED = "repeated_tokens"
"""The column of which texts that were made of documents have values of their own."""


@dataclass(frozen=True)
class PlanInputs:
    """The shards of a pipeline or a version, as `run_plan` wants them."""

    pipeline: Corpus
    wheres: dict[str, str]
    """Column `where_<number>` -> the condition of that phase, percentiles bound, of the phases that have one; column
    `repeat_<number>` -> the condition of that cell; `repetitive` -> which documents are left out as such."""
    loss_by: tuple[str, ...] = ()
    """Columns of `training.loss_by`."""
    orders: Mapping[str, str] = field(default_factory=dict)
    """Column `order_<number>` -> the column that a phase is ordered by; of the phases that have an order."""
    more: tuple[str, ...] = ()
    """Of `cluster_size` and `url`, of which the host is taken, those that the mixture asks for."""
    cuts: Mapping[str, RowShape] = field(default_factory=dict)
    """Column `cut_<number>` -> the rows for which that phase cuts documents at the ends of lines or sentences."""
    borders: Callable[[], Borders] | None = None
    """What ends those; where there are `cuts`."""
    augmented: tuple[str, ...] = ()
    """Stages that made texts of documents. These come after the documents: with ids and tokens of their own, the
    stage as their channel, repetitions counted in their tokens, and all else as their document has it, in whose row
    they stand."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Of the token files whose tables were taken, by path."""

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that are read."""
        return tuple(dict.fromkeys(name for stage in ("", *self.augmented) for name in self._names(stage)))

    def _names(self, stage: str = "") -> tuple[str, ...]:
        """Columns that are read of documents, or of the texts that a stage made."""
        columns = (f"{stage}_id", f"{stage}_tokens") if stage else ("id", "channel", "held_out", "tokens")
        asked = sorted(frozenset[str]().union(*(parse(text).columns for text in self.wheres.values())))
        return tuple(dict.fromkeys((*columns, *asked, *self.loss_by, *self.orders.values(), *self.more)))

    def digests(self) -> Iterator[tuple[str, str]]:
        """(token file, digest of the values read), per shard, from manifests."""
        outputs, provider, role = self.pipeline.outputs, self.pipeline.provider, self.pipeline.role
        for stage in ("", *self.augmented):
            names = self._names(stage)
            for place, _ in self.pipeline.files(names):
                found = [outputs[provider[name]].index.digests[role[name]][place].tobytes().hex() for name in names]
                yield self._file(stage, place), digest([found, self.wheres])

    def _file(self, stage: str, place: int) -> str:
        """The token file of a shard."""
        column = f"{stage}_tokens" if stage else "tokens"
        return self.pipeline.outputs[self.pipeline.provider[column]].path(place)

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """(token file, its `collect.INPUT` table), per shard."""
        borders = self.borders() if self.borders and self.cuts else None
        for stage in ("", *self.augmented):
            yield from self._tables(stage, borders)

    def _tables(self, stage: str, borders: Borders | None) -> Iterator[tuple[str, pa.Table]]:
        names = self._names(stage)
        for place, files in self.pipeline.files(names):
            table = job.read(self.pipeline.store, files, None, None, self.pipeline.recorded(place, names))
            columns, path = _texts(table, stage) if stage else table, self._file(stage, place)
            self.checksums[path] = token_checksum(columns["tokens"])
            length = pc.list_value_length(columns["tokens"]).cast(pa.int32())
            result = columns.select(["id", "channel", "held_out"]).append_column("length", length)
            for name in self.loss_by:
                result = result.append_column(f"by_{name}", table[name])
            for name, by in self.orders.items():
                result = result.append_column(name, as_float(table[by]))
            if borders:
                for name, shape in self.cuts.items():
                    result = result.append_column(name, borders.cuts(columns["tokens"], shape))
            if "cluster_size" in self.more:
                result = result.append_column("cluster_size", table["cluster_size"].cast(pa.int64()))
            if "url" in self.more:
                result = result.append_column("host", hosts(table["url"]))
            if self.wheres:
                if stage and REPEATED in names:
                    table = table.set_column(table.column_names.index(REPEATED), REPEATED, repeated(columns["tokens"]))
                try:
                    judged = evaluate(self.wheres, table)
                except ExpressionError as error:
                    raise ExpressionError(f"mixture: {error}") from None
                for name in self.wheres:
                    result = result.append_column(name, judged[name])
            yield path, result

    def verify(self) -> None:
        """Hold the token files against their manifests, for a plan that does not know their checksums. Raises
        DamagedError."""
        for stage in ("", *self.augmented):
            column = f"{stage}_tokens" if stage else "tokens"
            for place, files in self.pipeline.files((column,)):
                job.read(self.pipeline.store, files, None, None, self.pipeline.recorded(place, (column,)))


def _texts(table: pa.Table, stage: str) -> pa.Table:
    """What documents have of their own, of the texts that a stage made. A row without one has no tokens, and any id."""
    ids = [bytes.fromhex(each) if each else bytes(16) for each in table[f"{stage}_id"].to_pylist()]
    return pa.table(
        {
            "id": pa.array(ids, pa.binary(16)),
            "channel": pa.array([stage] * len(table), pa.string()),
            "held_out": pa.array(np.zeros(len(table), bool)),
            "tokens": table[f"{stage}_tokens"],
        }
    )


def hosts(urls: pa.ChunkedArray) -> pa.Array:
    """uint64: a number for the host of each URL, without `www.`; 0 where there is none."""
    found = sites(urls).dictionary_encode()
    numbers = [xxhash.xxh3_64_intdigest(host) or 1 for host in found.dictionary.to_pylist()]
    return pc.fill_null(pa.array(numbers, pa.uint64()).take(found.indices), 0)
