"""Lines that repeat across pages of a site: menus, notices on cookies, "related articles", footers.

A line counts for the pages of its site that have it; pages of the same text are one, as are crawls of one page. Numbers
count for nothing ("12 comments"), nor case and indentation, and lines without a letter are never boilerplate. A short
line that repeats may be a heading ("Examples"), so short ones are cut at the beginning and the end of a text alone,
where a site's furniture is.

A page most of whose text repeats is no page with furniture but a copy of others, which is for `duplicates` to judge: it
stays whole. Memory is bounded by `partitions`, also of a large site, as its lines are spread over all of them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from data_specs.dedup import Boilerplate
from tasks.arrays.addresses import arrays
from tasks.arrays.groups import I64, changes, runs
from tasks.dedup.lines import Lines, texts_with
from tasks.engine.hosts import sites
from tasks.engine.stage import CorpusStage


class BoilerplateLines(CorpusStage):
    """`boilerplate`: the text without such lines; `boilerplate_emptied`: whether that left nothing of a text that had
    something; `boilerplate_lines`, `boilerplate_characters`: how much was cut."""

    name, version = "boilerplate", 2  # a host is one site however addresses spell it
    libraries = ("xxhash",)
    unhashed = frozenset({"partitions"})
    rewrites = True
    reads = ("text", "url")
    scatters = ("text", "url")
    shuffled = pa.schema([("position", pa.uint32()), ("line", pa.uint64()), ("page", pa.uint64())])
    reduced = pa.schema([("line", pa.uint64())])
    writes = pa.schema(
        [
            ("boilerplate", pa.string()),
            ("boilerplate_emptied", pa.bool_()),
            ("boilerplate_lines", pa.int32()),
            ("boilerplate_characters", pa.int32()),
        ]
    )
    state_key = "line"
    settings: Boilerplate

    def __init__(self, settings: Boilerplate) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where

    def map(self, batch: pa.Table) -> pa.Table:
        """A row for each different line of a page."""
        lines = _lines(batch)
        line, position = lines.distinct(lines.hash != 0)
        content = np.zeros(batch.num_rows, np.uint64)
        np.add.at(content, position, line)  # the same whatever the order; sums of hashes wrap
        found = {
            "position": position.astype(np.uint32),
            "line": line,
            "page": content[position],
            "partition": (line % np.uint64(self.partitions)).astype(np.int32),
        }
        return pa.table(found)

    def reduce(self, rows: pa.Table) -> pa.Table:
        line, page, shard, position = arrays(rows, "line", "page", "shard", "position")
        often = texts_with(line, page) >= self.settings.pages
        return pa.table({"line": line[often], "shard": shard[often], "position": position[often]})

    def remember(self, rows: pa.Table) -> pa.Table:
        """Of each line as many pages as make it boilerplate."""
        line, page = arrays(rows, "line", "page")
        order = np.lexsort((page, line))
        order = order[changes(line[order], page[order])]
        starts, ends = runs(line[order])
        place = np.arange(len(order)) - np.repeat(starts, ends - starts)
        return rows.take(np.sort(order[place < self.settings.pages]))

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        texts = batch["text"].to_pylist()
        cut, characters = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
        positions, repeated = arrays(rows, "position", "line")
        starts, ends = runs(positions)
        about = positions[starts]
        lines = _lines(batch.take(pa.array(about)))
        own_lines = lines.of_texts(len(about))
        for position, start, end, own in zip(about.tolist(), starts.tolist(), ends.tolist(), own_lines, strict=True):
            flagged = np.isin(lines.hash[own], repeated[start:end])
            gone = self._gone(flagged, lines.letters[own])
            share = lines.letters[own][gone].sum() / max(lines.letters[own].sum(), 1)
            if not gone.any() or share > self.settings.most:
                continue
            made = lines.without(own, gone)
            cut[position], characters[position] = flagged[gone].sum(), len(texts[position]) - len(made)
            texts[position] = made
        text = pa.array(texts, pa.string())
        emptied = pc.and_(pc.equal(text, ""), pc.not_equal(batch["text"].combine_chunks(), ""))
        return pa.table([text, emptied, cut, characters], schema=self.writes)

    def _gone(self, flagged: NDArray[np.bool_], letters: I64) -> NDArray[np.bool_]:
        """Lines that are cut: those that repeat and are long, and from either end of the text to the last of a row of
        lines that repeat or have no letter."""
        gone = flagged & (letters >= self.settings.inside)
        staying = np.flatnonzero(~flagged & (letters > 0))
        if not len(staying):
            return flagged | (letters == 0)
        repeats = np.flatnonzero(flagged)
        head, tail = repeats[repeats < staying[0]], repeats[repeats > staying[-1]]
        if len(head):
            gone[: head[-1] + 1] = True
        if len(tail):
            gone[tail[0] :] = True
        return gone


def _lines(batch: pa.Table) -> Lines:
    """The lines of some documents, told apart by their sites."""
    seeds = [xxhash.xxh3_64_intdigest(host) if host else None for host in sites(batch["url"]).to_pylist()]
    return Lines(batch["text"].combine_chunks(), seeds, numbers=False)
