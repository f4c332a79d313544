"""Signals against datatrove's four filters (Gopher quality and repetition, C4, FineWeb) on one core, tokenisation
included on both sides, in turns in one run: documents per second of CPU time, medians, and their ratio.

    python -m benchmarks.signals [FILE.jsonl.gz LANGUAGE]

The first MOST documents of a file. Without one: English of 1,000 words a document from the standard library's own
documentation, 65 documents of many names, and Chinese drawn from jieba's dictionary by frequency. datatrove's filters
run text after text, so that three of them share one tokenisation, as in its pipelines. Ours is a stage set up anew,
which knows no word yet, and then the same stage once more, as in the later batches of a shard.
"""

from __future__ import annotations

import gzip
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pydoc_data.topics import topics

import jieba
import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from data_specs import stages
from tasks.filters.signals import Signals

ROUNDS = 3
MOST = 4000
DATATROVE = {"en": "eng_Latn", "zh": "cmn_Hani"}
FILTERS = (GopherRepetitionFilter, GopherQualityFilter, FineWebQualityFilter, C4QualityFilter)


def english(count: int) -> list[str]:
    """Documents of about 1,000 words; whole lines."""
    documents, lines, words = [], [], 0
    for line in "\n\n".join(topics.values()).splitlines():
        lines.append(line)
        words += len(line.split())
        if words >= 1000:
            documents.append("\n".join(lines))
            lines, words = [], 0
    return documents[:count]


def chinese(count: int) -> list[str]:
    """Documents of 1,000 words in lines of four sentences."""
    jieba.setLogLevel("WARNING")
    jieba.initialize()
    drawn = random.Random(1)
    words, weights = zip(*((word, weight) for word, weight in jieba.dt.FREQ.items() if weight), strict=True)
    documents = []
    for _ in range(count):
        chosen = drawn.choices(words, weights, k=1000)
        sentences = ["".join(chosen[start : start + 20]) + "。" for start in range(0, 1000, 20)]
        documents.append("\n".join("".join(sentences[start : start + 4]) for start in range(0, len(sentences), 4)))
    return documents


def ours(texts: list[str], language: str, kind: str) -> Callable[[], object]:
    """A stage set up anew, which knows no word yet."""
    stage = Signals(stages.Signals.model_validate({"words": {language: kind}}))
    stage.setup()
    batch = pa.table({"text": texts, "language": [language] * len(texts)})
    return lambda: stage(batch)


def theirs(texts: list[str], language: str) -> Callable[[], object]:
    filters = [each(language=DATATROVE.get(language, language)) for each in FILTERS]

    def run() -> None:
        for text in texts:
            for each in filters:
                each.filter(Document(text=text, id="0"))

    return run


def measure(texts: list[str], language: str) -> None:
    own = ("jieba", "characters") if language == "zh" else ("spaces",)
    made: dict[str, Callable[[], Callable[[], object]]] = {"datatrove": lambda: theirs(texts, language)}
    made |= {f"ours, {kind}": partial(ours, texts, language, kind) for kind in (*own, "datatrove")}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    later: dict[str, list[float]] = {name: [] for name in made}
    for make in made.values():
        make()()
    for _ in range(ROUNDS):
        for name, make in made.items():
            run = make()
            for passes in (seconds, later)[: 1 if name == "datatrove" else 2]:
                started = time.process_time()
                run()
                passes[name].append(time.process_time() - started)
    base = statistics.median(seconds["datatrove"])
    print(f"{language}: {len(texts)} documents of {sum(map(len, texts)) // len(texts):,} characters")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        known = f", {base / statistics.median(later[name]):.1f} with words known" if later[name] else ""
        print(f"  {name:18} {len(texts) / median:8,.0f} documents/s {base / median:6.1f} times datatrove's{known}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        with gzip.open(sys.argv[1], "rt") as lines:
            measure([json.loads(line)["text"] for _, line in zip(range(MOST), lines, strict=False)], sys.argv[2])
    else:
        measure(english(100), "en")
        measure(chinese(100), "zh")
