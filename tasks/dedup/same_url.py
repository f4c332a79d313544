"""Pages of one address: a crawl that comes again, and links with other parameters of tracking, give a page many times.

Their texts need not be alike: a front page is another one every day. So this is no part of `duplicates` but a column of
its own, by which a rule drops all but one of each address.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from data_specs.dedup import SameUrl
from tasks.arrays.addresses import ADDRESS, addresses, arrays
from tasks.arrays.groups import changes, scatter_by_position
from tasks.engine.stage import CorpusStage
from tasks.sources.canonical_url import NOTHING, canonical_url


class PagesOfOneUrl(CorpusStage):
    """`same_url`: the document that stays for the address of this one; null for that one itself, and for documents
    without an address. One of an earlier generation stays before all others."""

    name, version = "same_url", 2  # an address of which nothing is left to compare, as an empty one, is none
    libraries = ("xxhash",)
    unhashed = frozenset({"partitions"})
    reads = ("url", "file", "offset", "text")
    scatters = ("url",)
    shuffled = pa.schema(
        [
            ("position", pa.uint32()),
            ("low", pa.uint64()),
            ("high", pa.uint64()),
            ("file", pa.string()),
            ("offset", pa.int64()),
            ("length", pa.uint32()),
            ("stands", pa.bool_()),
        ]
    )
    reduced = pa.schema([("same_url", ADDRESS)])
    writes = pa.schema([("same_url", ADDRESS)])
    state_key = "low"
    settings: SameUrl

    def __init__(self, settings: SameUrl) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where

    def map(self, batch: pa.Table) -> pa.Table:
        named = [canonical_url(url or "") for url in batch["url"].to_pylist()]
        position = np.array([place for place, each in enumerate(named) if each != NOTHING], np.int64)
        batch = batch.take(position)
        digests = [xxhash.xxh3_128_digest(named[place].encode(errors="surrogateescape")) for place in position.tolist()]
        low, high = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2).T
        found = {
            "position": position.astype(np.uint32),
            "low": low,
            "high": high,
            "file": batch["file"],
            "offset": batch["offset"],
            "length": pc.utf8_length(batch["text"]).cast(pa.uint32()),
            "stands": np.zeros(len(position), bool),
            "partition": (low % np.uint64(self.partitions)).astype(np.int32),
        }
        return pa.table(found)

    def reduce(self, rows: pa.Table) -> pa.Table:
        order, first = self._by_page(rows)
        shard, position = arrays(rows, "shard", "position")
        goes, stays = order[~first], order[first][np.cumsum(first) - 1][~first]
        same = addresses(shard[stays], position[stays])
        return pa.table({"shard": shard[goes], "position": position[goes], "same_url": same})

    def remember(self, rows: pa.Table) -> pa.Table:
        """Of each address the page that stays, whatever comes: so nothing is told of it but where it is."""
        order, first = self._by_page(rows)
        kept = rows.take(pa.array(order[first]))
        blank = {
            "file": pa.array([""] * len(kept), pa.string()),
            "offset": pa.array(np.zeros(len(kept), np.int64)),
            "length": pa.array(np.zeros(len(kept), np.uint32)),
            "stands": pa.array(np.ones(len(kept), bool)),
        }
        return pa.table({name: blank.get(name, kept[name]) for name in kept.column_names})

    def _by_page(self, rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows by address, of each the one that stays first -> (their order, which of them are the first). Rows of
        earlier generations come before others, and among themselves as they are."""
        low, high, stands, length, offset = arrays(rows, "low", "high", "stands", "length", "offset")
        file = pc.rank(rows["file"], tiebreaker="dense").to_numpy().astype(np.int64)
        shortest = -length.astype(np.int64)
        preference = {"latest": (-offset, -file), "first": (offset, file), "longest": (-offset, -file, shortest)}
        place = [np.where(stands, 0, each) for each in (*arrays(rows, "position", "shard"),)]
        order = np.lexsort((*place, *preference[self.settings.keep], ~stands, high, low))
        return order, changes(low[order], high[order])

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        return pa.table([scatter_by_position(rows, rows["same_url"], batch.num_rows)], schema=self.writes)
