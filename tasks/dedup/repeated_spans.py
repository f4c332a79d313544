"""Spans of words that stand earlier in the corpus, or earlier in the same document: exact substrings (Lee et al. 2022).
All but the first of each are cut from a new text.

A repeated span of at least `words` words is all of its windows of so many words, each of which stands earlier; so the
windows whose hash was seen before, put together, are what a suffix array of the corpus would find, and they meet in
partitions. As in tasks/dedup/repeated_lines.py only kept documents take part. Words are units (tasks/text/units.py),
so case, marks and spacing count for nothing. A window that overlaps its own first one, in a text that repeats less than
a window again and again, is no repetition of it: so the first stays whole.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.arrays.addresses import arrays, true
from tasks.arrays.groups import changes, runs
from tasks.dedup import minhash
from tasks.engine.stage import CorpusStage
from tasks.text import units


class RepeatedSpans(CorpusStage):
    """`repeated_spans`: the text without them; `repeated_spans_emptied`: whether that left nothing of a text that had
    something; `repeated_spans_cut`, `repeated_spans_characters`: how much was cut."""

    name, version = "repeated_spans", 2  # words on both sides of a span stay two words
    unhashed = frozenset({"partitions"})
    rewrites = True
    reads = ("text", "kept")
    scatters = ("text",)
    shuffled = pa.schema([("position", pa.uint32()), ("first", pa.uint32()), ("window", pa.uint64())])
    reduced = pa.schema([("first", pa.uint32())])
    writes = pa.schema(
        [
            ("repeated_spans", pa.string()),
            ("repeated_spans_emptied", pa.bool_()),
            ("repeated_spans_cut", pa.int32()),
            ("repeated_spans_characters", pa.int32()),
        ]
    )
    state_key = "window"
    settings: stages.RepeatedSpans

    def __init__(self, settings: stages.RepeatedSpans) -> None:
        super().__init__(settings)
        self.partitions = settings.partitions
        self.where = settings.where

    def map(self, batch: pa.Table) -> pa.Table:
        """A row for each window of a kept document: the number of its first word, and its hash."""
        kept = np.flatnonzero(true(batch["kept"]))
        texts = batch["text"].take(pa.array(kept)).to_pylist()
        size, number = self.settings.words, 0
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))]
        for hashes, offsets, _ in units.units(texts):
            windows, ends = minhash.windows(hashes, offsets, np.full(len(offsets) - 1, size))
            count = np.diff(ends)
            text = np.repeat(np.arange(len(count)), count)
            whole = np.diff(offsets)[text] >= size
            first = np.arange(len(windows)) - ends[:-1][text]
            found.append((number + text[whole], first[whole], windows[whole]))
            number += len(offsets) - 1
        text, first, window = (np.concatenate(part) for part in zip(*found, strict=True))
        made = {
            "position": kept[text].astype(np.uint32),
            "first": first.astype(np.uint32),
            "window": window,
            "partition": (window % np.uint64(self.partitions)).astype(np.int32),
        }
        return pa.table(made)

    def reduce(self, rows: pa.Table) -> pa.Table:
        window, shard, position, first = arrays(rows, "window", "shard", "position", "first")
        order = np.argsort(window, kind="stable")  # and rows come by generation, shard, position and place
        new = changes(window[order])
        origin = order[new][np.cumsum(new) - 1]
        same = (shard[order] == shard[origin]) & (position[order] == position[origin])
        overlaps = same & (first[order] < first[origin].astype(np.int64) + self.settings.words)
        again = np.sort(order[~overlaps])
        return pa.table({"shard": shard[again], "position": position[again], "first": first[again]})

    def remember(self, rows: pa.Table) -> pa.Table:
        """The first of each."""
        window = rows["window"].to_numpy()
        order = np.argsort(window, kind="stable")
        return rows.take(pa.array(np.sort(order[changes(window[order])])))

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        texts = batch["text"].to_pylist()
        spans, characters = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
        positions, firsts = arrays(rows, "position", "first")
        starts, ends = runs(positions)
        about = positions[starts].tolist()
        located = self._located([texts[position] for position in about])
        for position, start, end, (begins, stops) in zip(about, starts.tolist(), ends.tolist(), located, strict=True):
            text = texts[position]
            texts[position], spans[position] = self._without(text, begins, stops, firsts[start:end].astype(np.int64))
            characters[position] = len(text) - len(texts[position])
        text = pa.array(texts, pa.string())
        emptied = pc.and_(pc.equal(text, ""), pc.not_equal(batch["text"].combine_chunks(), ""))
        return pa.table([text, emptied, spans, characters], schema=self.writes)

    @staticmethod
    def _located(texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the words of each text begin and end."""
        found = []
        for _, offsets, begins, stops in units.located(texts):
            found += [(begins[a:b], stops[a:b]) for a, b in pairwise(offsets)]
        return found

    def _without(self, text: str, begins: np.ndarray, stops: np.ndarray, firsts: np.ndarray) -> tuple[str, int]:
        """A text without the windows that begin with the words `firsts`, and how many spans these are together. What
        stands between a span and the next word goes with it; a break of a line there stays, and where none is and no
        space before the span, as between words among ideographs, a space keeps the words around it apart."""
        inside = np.zeros(len(begins) + 1, np.int64)
        np.add.at(inside, firsts, 1)
        np.add.at(inside, firsts + self.settings.words, -1)
        cut = np.flatnonzero(np.diff(np.r_[0, np.cumsum(inside) > 0].astype(np.int8)))
        pieces, here = [], 0
        for first, after in cut.reshape(-1, 2).tolist():
            pieces.append(text[here : int(begins[first])])
            here = int(begins[after]) if after < len(begins) else len(text)
            pieces.append(_between(pieces[-1], text[int(stops[after - 1]) : here], text[here : here + 1]))
        pieces.append(text[here:])
        return "".join(pieces).strip(), len(cut) // 2


def _between(before: str, gap: str, after: str) -> str:
    """What stands in the place of a span and of the gap behind it."""
    if not before or before.endswith("\n"):
        return ""
    breaks = "\n" * min(gap.count("\n"), 2)
    return breaks or (" " if after and units.one_word(before[-1], after) else "")
