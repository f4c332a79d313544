"""How fluent documents are: the bits that an n-gram model of their language needs for a byte of them.

A model's words are those of `features`: between spaces and in lower case; marks, and characters of scripts without
spaces, are words of their own. A word that the model does not know is spelled, by a model of characters learned from
rare words, so that every text has a price, and noise a high one: what a text costs is the length of a code for it.

Bits are divided by bytes of UTF-8, white space left out: not by words, of which a text of unknown ones has few, nor by
characters, as one of Chinese says what three letters do and has as many bytes. Of 1,200 Chinese articles on software
bits per character went with their share of Latin letters (correlation -.67), bits per byte hardly do (.20). Languages
still differ, so values are compared within one, as percentiles and ranks do.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs import stages
from data_specs.expressions import normalised, parse
from tasks.arrays.sampling import smallest
from tasks.engine.sql import evaluate
from tasks.engine.stage import Estimator, Stage
from tasks.scoring import ngrams
from tasks.scoring.kind import prose
from tasks.scoring.ngrams import START, UNKNOWN, Model
from tasks.storage.columns import value_digest
from tasks.text.fasttext_model import features
from tasks.text.held_back import held_back

FEWEST = 10_000
"""Words from which a language has a model."""
SPELLING = 4
"""Characters of an n-gram by which unknown words are spelled, at most."""
END = "\n"
"""Ends a word that is spelled."""
UNICODE = np.log2(0x110000)
"""Bits of a character that was never seen."""
CORPUS = ""
_PART = pa.schema(
    [
        ("language", pa.string()),
        ("symbols", pa.list_(pa.string())),
        *((field.name, pa.list_(field.type)) for field in ngrams.NODES),
    ]
)
"""The models of a language, a row each: of its words, then of the characters that spell others. Their symbols are
numbered from 2."""


class Perplexity(Stage):
    """`perplexity`: bits per byte, the lower, the more like the reference; null for a text without a word or mark,
    of a kind that is skipped, or of a language without a model."""

    name, version = "perplexity", 1
    writes = pa.schema([("perplexity", pa.float32())])
    settings: stages.Perplexity

    def __init__(self, settings: stages.Perplexity, files: dict[str, str] | None = None) -> None:
        """`files`: path and sha256 of the pinned models."""
        super().__init__(settings, files)
        self.where = settings.where
        self.reads = ("text", *(["kind"] if settings.skip else []), *(["language"] if _by_language(settings) else []))

    def hashed_settings(self) -> dict[str, Any]:
        """What is scored, and by which model; all else is in the models' digest."""
        return self.settings.model_dump(mode="json", include={"skip", "per"})

    def setup(self) -> None:
        [path] = self.files
        with pa.memory_map(path) as file:
            rows = pa.ipc.open_file(file).read_all().to_batches()
        parts = [batch.slice(row, 1) for batch in rows for row in range(batch.num_rows)]
        self.models = {
            words["language"][0].as_py(): Fluency(words, spelling)
            for words, spelling in zip(parts[::2], parts[1::2], strict=True)
        }

    def __call__(self, batch: pa.Table) -> pa.Table:
        lines = features(batch["text"]).combine_chunks()
        judged = pc.and_(prose(batch, self.settings.skip), pc.not_equal(lines, ""))
        language = _languages(batch, self.settings).to_numpy(zero_copy_only=False)
        found = np.full(batch.num_rows, np.nan)
        for name, model in self.models.items():
            rows = np.flatnonzero(judged.to_numpy(zero_copy_only=False) & (language == name))
            found[rows] = model.bits_per_byte(lines.take(pa.array(rows)))
        return pa.table([pa.array(found, pa.float32(), from_pandas=True)], schema=self.writes)


def _by_language(settings: stages.Perplexity) -> bool:
    return settings.per == "language"


def _languages(batch: pa.Table, settings: stages.Perplexity) -> pa.Array:
    """Whose model judges each document; empty where that is the corpus's, or nobody's."""
    if not _by_language(settings):
        return pa.array([CORPUS] * batch.num_rows, pa.string())
    return pc.fill_null(batch["language"].combine_chunks(), CORPUS)


class Fluency:
    """What a language's words cost."""

    def __init__(self, words: pa.RecordBatch, spelling: pa.RecordBatch) -> None:
        self._words, self._vocabulary = Model(_nodes(words)), words["symbols"].flatten()
        self._spelling, self._characters = Model(_nodes(spelling)), spelling["symbols"].flatten()

    def bits_per_byte(self, lines: pa.Array) -> NDArray[np.float64]:
        """Lines of `features`, none of them empty -> the bits of each, by its bytes that are no white space."""
        words, line = _split(lines)
        symbols = _symbols(words, self._vocabulary)
        unknown = np.flatnonzero(symbols == UNKNOWN)
        sequences, at = _begun(symbols, line, len(lines))
        bits = self._words.bits(sequences)[at].astype(np.float64)
        distinct = pc.dictionary_encode(words.take(pa.array(unknown)))
        bits[unknown] += self._spelled(distinct.dictionary)[distinct.indices.to_numpy()]
        size = np.bincount(line, pc.binary_length(words).to_numpy(), len(lines))
        return np.asarray(np.bincount(line, bits, len(lines)) / size)

    def _spelled(self, words: pa.Array) -> NDArray[np.float64]:
        """What words cost that are spelled."""
        characters, word = _letters(words)
        symbols = _symbols(characters, self._characters)
        sequences, at = _begun(symbols, word, len(words))
        bits = self._spelling.bits(sequences)[at] + UNICODE * (symbols == UNKNOWN)
        return np.asarray(np.bincount(word, bits, len(words)), np.float64)


def _nodes(part: pa.RecordBatch) -> pa.Table:
    return pa.table([part[name].flatten() for name in ngrams.NODES.names], ngrams.NODES)


def _split(lines: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The words of all lines, and the line of each."""
    parts = pc.utf8_split_whitespace(lines)
    return parts.flatten(), pc.list_parent_indices(parts).to_numpy()


def _letters(words: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The characters of all words, each word with `END` at its end, and the word of each."""
    joined = END.join([*words.to_pylist(), ""])
    characters = pa.array(list(joined), pa.string())
    ends = pc.equal(characters, END).to_numpy(zero_copy_only=False)
    return characters, np.cumsum(ends) - ends


def _symbols(words: pa.Array, known: pa.Array) -> NDArray[np.int64]:
    found = pc.index_in(words, known).cast(pa.int64())
    return pc.fill_null(pc.add(found, UNKNOWN + 1), UNKNOWN).to_numpy(zero_copy_only=False)


def _begun(
    symbols: NDArray[np.int64], sequence: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Symbols of some sequences, none of them empty, each after a `START`, and where each symbol is now."""
    starts = np.searchsorted(sequence, np.arange(count))
    return np.insert(symbols, starts, START), np.arange(len(symbols)) + sequence + 1


class PerplexityEstimator(Estimator):
    """The models of `Perplexity`, of the words of documents for which `settings.reference` is true. The artefact is an
    Arrow file, two rows a language."""

    name, version = "perplexity", 1
    libraries = ("duckdb",)
    suffix = ".arrow"
    settings: stages.Perplexity

    def __init__(self, settings: stages.Perplexity, seed: int) -> None:
        super().__init__(settings, seed)
        self.where = settings.where
        self.reference = normalised(settings.reference)
        self.reads = tuple(sorted(parse(self.reference).columns | {"id", "text", "language", "kind"}))

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"per", "skip", "order", "sample"}) | {
            "reference": self.reference
        }

    def sample(self, batch: pa.Table) -> pa.Table:
        """`id`, `language` (empty where unknown, or one model is of all), `text` (features) of the reference."""
        wanted = pc.fill_null(evaluate({"wanted": self.reference}, batch)["wanted"], False)
        batch = batch.filter(pc.and_(wanted, prose(batch, self.settings.skip)))
        language, text = _languages(batch, self.settings), features(batch["text"])
        rows = pa.table({"id": batch["id"], "language": language, "text": text})
        return self.downsample(rows.filter(pc.not_equal(rows["text"], "")))

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` would use of samples put together; may be called on any part of them, any number of times."""
        return smallest(rows, self.settings.sample, ("language",), self.seed, self.name)

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Of each language a tenth of the texts is held back. Facts: per language documents, words, nodes, and bits per
        byte of what was learned from and of what was held back, which tell how much better a text is found for being
        known; digest of the sample. Raises ValueError where no language has enough words."""
        rows = self.downsample(rows)
        made, facts, words = [], {}, {}
        for name in sorted(set(rows["language"].to_pylist())):
            if name == CORPUS and _by_language(self.settings):
                continue
            lines = rows.filter(pc.equal(rows["language"], name))["text"].combine_chunks()
            learned, held = (lines.filter(pa.array(part)) for part in held_back(lines.to_pylist()))
            words[name] = len(_split(learned)[0])
            if words[name] < FEWEST:
                continue
            parts = [_learned(name, *part) for part in self._parts(learned)]
            model = Fluency(*parts)
            facts[name] = {
                "documents": len(learned),
                "words": words[name],
                "nodes": len(parts[0]["key"].flatten()),
                "bits": round(float(np.median(model.bits_per_byte(learned))), 4),
                "held_back_bits": round(float(np.median(model.bits_per_byte(held))), 4) if len(held) else None,
            }
            made += parts
        if not made:
            raise ValueError(
                f"stages.{self.label}.reference: no language has the {FEWEST:,} words of reference text that a model "
                f"needs ({', '.join(f'{name or CORPUS!r}: {count:,}' for name, count in words.items()) or 'none'})"
            )
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, _PART, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
            for part in made:
                file.write(part)
        return sink.getvalue(), {"languages": facts, "sample": value_digest(rows["id"])}

    def _parts(self, lines: pa.Array) -> list[tuple[pa.Array, pa.Array, NDArray[np.int64], int]]:
        """What is learned from, of words and of characters: symbols, the text in them, its sequences, the order."""
        words, line = _split(lines)
        several, rare = _in_several(words, line)
        characters, word = _letters(rare if len(rare) else several)
        return [
            (several, words, line, self.settings.order),
            (_in_several(characters, word)[0], characters, word, SPELLING),
        ]


def _in_several(words: pa.Array, sequence: NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
    """The words that two sequences or more have, in order of their letters, and those that one has."""
    found = pc.dictionary_encode(words)
    pairs = np.unique(found.indices.to_numpy().astype(np.int64) * (int(sequence[-1]) + 1) + sequence)
    counts = np.bincount(pairs // (int(sequence[-1]) + 1), minlength=len(found.dictionary))
    several = found.dictionary.filter(pa.array(counts > 1))
    return several.take(pc.sort_indices(several)), found.dictionary.filter(pa.array(counts == 1))


def _learned(
    language: str, known: pa.Array, words: pa.Array, sequence: NDArray[np.int64], order: int
) -> pa.RecordBatch:
    """A row of the artefact."""
    symbols, _ = _begun(_symbols(words, known), sequence, int(sequence[-1]) + 1)
    nodes = ngrams.learned(symbols, len(known) + UNKNOWN + 1, order)
    lists = [known, *(nodes[name].combine_chunks() for name in nodes.column_names)]
    columns = [pa.ListArray.from_arrays(pa.array([0, len(each)], pa.int32()), each) for each in lists]
    return pa.record_batch([pa.array([language]), *columns], _PART)
