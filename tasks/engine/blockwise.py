"""A kind of corpus stage whose partitions may have more rows than memory holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from tasks.engine.stage import CorpusStage

Blocks = Iterable[pa.RecordBatch]


class BlockwiseStage(CorpusStage):
    """A corpus stage that reads a partition block by block, and gives what it says of it block by block."""

    @abstractmethod
    def reduce_blocks(self, blocks: Blocks) -> Iterator[pa.Table]:
        """What `reduce` does; what it returns is sorted by `shard` and `position`."""

    def remember_blocks(self, read: Callable[[], Blocks]) -> Iterator[pa.Table]:
        """What `remember` does of the rows that `read` gives, each time that it is called."""
        return (pa.table(batch) for batch in read())

    def reduce(self, rows: pa.Table) -> pa.Table:
        schema = pa.schema([*self.reduced, ("shard", pa.uint64()), ("position", pa.uint32())])
        blocks = (each.select(schema.names) for each in self.reduce_blocks(rows.to_batches()))
        return pa.concat_tables([schema.empty_table(), *blocks])

    def remember(self, rows: pa.Table) -> pa.Table:
        return pa.concat_tables([rows.schema.empty_table(), *self.remember_blocks(rows.to_batches)])
