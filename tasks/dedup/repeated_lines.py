"""Lines, or paragraphs, that repeat across the corpus: notices, licences, quotations, what sites take from each other.
All but the first of each are cut from a new text.

Only documents that the verdict keeps take part, so the one copy that stays is read by the model, and rules have judged
texts as they were; held-out documents stay whole. A refrain inside one document is its own. Memory is bounded by
`partitions`, over which lines are spread.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.arrays.addresses import arrays, true
from tasks.arrays.groups import changes, numbers_within, runs
from tasks.dedup.lines import Lines, texts_with
from tasks.engine.stage import CorpusStage


class RepeatedLines(CorpusStage):
    """`repeated_lines`: the text without them; `repeated_lines_emptied`: whether that left nothing of a text that had
    something; `repeated_lines_cut`, `repeated_lines_characters`: how much was cut.

    The first of a line is that of the first document by generation, shard and position. What later shards repeat is cut
    of them; older texts stay as they are."""

    name, version = "repeated_lines", 1
    libraries = ("xxhash",)
    unhashed = frozenset({"partitions"})
    rewrites = True
    reads = ("text", "kept")
    scatters = ("text",)
    shuffled = pa.schema([("position", pa.uint32()), ("line", pa.uint64())])
    reduced = pa.schema([("line", pa.uint64())])
    writes = pa.schema(
        [
            ("repeated_lines", pa.string()),
            ("repeated_lines_emptied", pa.bool_()),
            ("repeated_lines_cut", pa.int32()),
            ("repeated_lines_characters", pa.int32()),
        ]
    )
    state_key = "line"
    settings: stages.RepeatedLines

    def __init__(self, settings: stages.RepeatedLines) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where

    def map(self, batch: pa.Table) -> pa.Table:
        """A row for each different line of a kept document."""
        kept = np.flatnonzero(true(batch["kept"]))
        lines = self._lines(batch["text"].take(pa.array(kept)))
        line, text = lines.distinct(lines.letters >= self.settings.letters)
        found = {
            "position": kept[text].astype(np.uint32),
            "line": line,
            "partition": (line % np.uint64(self.partitions)).astype(np.int32),
        }
        return pa.table(found)

    def reduce(self, rows: pa.Table) -> pa.Table:
        line, shard, position = arrays(rows, "line", "shard", "position")
        order = np.argsort(line, kind="stable")  # and rows come by generation, shard and position
        again = np.zeros(len(line), bool)
        again[order] = ~changes(line[order])
        cut = again & (texts_with(line) >= self.settings.documents)
        return pa.table({"line": line[cut], "shard": shard[cut], "position": position[cut]})

    def remember(self, rows: pa.Table) -> pa.Table:
        """Of each line as many documents as make it one that is cut."""
        line = rows["line"].to_numpy()
        order = np.argsort(line, kind="stable")
        starts, ends = runs(line[order])
        return rows.take(np.sort(order[numbers_within(ends - starts) < self.settings.documents]))

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        texts = batch["text"].to_pylist()
        cut, characters = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
        positions, repeated = arrays(rows, "position", "line")
        about, starts = np.unique(positions, return_index=True)
        ends = np.append(starts, len(positions))[1:]
        lines = self._lines(batch["text"].take(pa.array(about)))
        own = lines.of_texts(len(about))
        for position, start, end, part in zip(about.tolist(), starts.tolist(), ends.tolist(), own, strict=True):
            gone = np.isin(lines.hash[part], repeated[start:end])
            made = lines.without(part, gone)
            cut[position], characters[position] = gone.sum(), len(texts[position]) - len(made)
            texts[position] = made
        text = pa.array(texts, pa.string())
        emptied = pc.and_(pc.equal(text, ""), pc.not_equal(batch["text"].combine_chunks(), ""))
        return pa.table([text, emptied, cut, characters], schema=self.writes)

    def _lines(self, texts: pa.ChunkedArray) -> Lines:
        return Lines(texts.combine_chunks(), paragraphs=self.settings.unit == "paragraph")
