"""Duplicates of corpora ten times as large as one another: what they cost, what their global steps hold in memory, and
whether near duplicates of known similarity are found.

`python -m benchmarks.duplicates_growth DATA [DOCUMENTS ...]`: 10,000, 100,000 and 1,000,000 documents by default, put
together of spans of real English texts (`DATA/text/en_*.jsonl.gz` and the web pages of `DATA/labels`), which share no
more than a span or two; every tenth document has a twin with some words replaced, whose similarity is counted. Each job
runs in a process of its own; its memory is its peak above that of one that does nothing.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson

from benchmarks.clusters import Watched, alone
from benchmarks.duplicates import true_shingles
from flows.commands.query import select
from flows.corpus_run import CorpusRun
from tasks.dedup import minhash
from tests.whole import direct

SHARD = 10_000
SPANS, SPAN = 6, 25
"""Spans of a document, and words of a span."""
STAGES = ("exact", "candidates", "pairs", "alike", "clusters", "verdict")
BEFORE = ("documents", "learn_held_out", "held_out", "channel")
SPEC = """
name: growth
store: {folder}/store
sources: {{web: {{kind: jsonl, paths: "{folder}/web/*.jsonl"}}}}
stages: {{duplicates: {{keep: [length]}}}}
channels: {{all: "true"}}
gates: {{removed_per_source: 100%}}
training: {{evaluate: {{held_out: 0.01%}}}}
"""


def vocabulary(data: Path) -> list[str]:
    """The words of real texts in ASCII, one after the other."""
    words: list[str] = []
    for path in [*sorted((data / "text").glob("en_*.jsonl.gz")), data / "labels" / "weborganizer_dclm_pages.jsonl.gz"]:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)["text"].split()
                words += [word for word in found if word.isascii() and word.isprintable()]
    return words


def documents(words: list[str], count: int, seed: int) -> Iterator[tuple[str, str, float | None]]:
    """(address, text, similarity to the document before it, of a twin)."""
    rng = random.Random(seed)
    for number in range(count):
        starts = [rng.randrange(len(words) - SPAN) for _ in range(SPANS)]
        own = [word for start in starts for word in words[start : start + SPAN]]
        text = " ".join(own)
        yield f"https://e{number % 1000}.org/{number}", text, None
        if number % 10 == 9:
            for _ in range(rng.choice((1, 1, 2, 3, 4, 6))):
                own[rng.randrange(len(own))] = rng.choice(words)
            twin = " ".join(own)
            one, other = true_shingles(text), true_shingles(twin)
            yield f"https://e{number % 1000}.org/{number}?twin", twin, len(one & other) / len(one | other)


def write(folder: Path, data: Path, count: int) -> dict[str, float]:
    """Files of about so many documents, twins among them in files of their own; the similarity of each twin to its
    original, by address."""
    words = vocabulary(data)
    (folder / "web").mkdir()
    similar: dict[str, float] = {}
    rows = documents(words, round(count / 1.1), count)
    number = 0
    while part := list(itertools.islice(rows, SHARD)):
        similar |= {url: similarity for url, _, similarity in part if similarity is not None}
        originals = [(url, text) for url, text, similarity in part if similarity is None]
        twins = [(url, text) for url, text, similarity in part if similarity is not None]
        for name, some in (("web", originals), ("twins", twins)):
            lines = b"\n".join(orjson.dumps({"url": url, "text": text}) for url, text in some)
            (folder / "web" / f"{name}-{number:04d}.jsonl").write_bytes(lines)
        number += 1
    return similar


def found(run: CorpusRun, similar: dict[str, float]) -> None:
    """Print which share of the twins is found, beside theory, and whether similarities are the true ones."""
    run.resolve()
    with select(
        run.pipeline,
        "with pair as (select url, unnest(alike) as other from corpus where url like '%?twin' and alike is not null) "
        "select pair.url, other.similarity from pair join corpus on corpus.shard = other.shard and "
        "corpus.position = other.position where corpus.url || '?twin' = pair.url",
    ) as answer:
        known = dict(answer.rows)
    with select(run.pipeline, "select count(*) from corpus where alike is not null") as answer:
        [[paired]] = answer.rows
    wrong = sum(np.float32(similar[url]) != np.float32(value) for url, value in known.items())
    bands, rows = minhash.bands_and_rows(run.spec.duplicates.compared_from, run.spec.duplicates.hashes)
    print(
        f"  {paired:,} documents are in a pair, {2 * len(known):,} of them twins; similarities that are wrong: {wrong}"
    )
    for low, high in itertools.pairwise([0.8, 0.85, 0.9, 0.95, 1.0]):
        inside = [url for url, value in similar.items() if low <= value < high]
        theory = float(np.mean([minhash.found_share(similar[url], bands, rows) for url in inside] or [0]))
        share = sum(url in known for url in inside) / max(1, len(inside))
        print(f"  similarity from {low:.2f}: {len(inside):6,} twins, found {share:.3f}, in theory {theory:.3f}")


def main() -> None:
    data = Path(sys.argv[1])
    for count in [int(each) for each in sys.argv[2:]] or [10_000, 100_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            similar = alone(lambda: write(folder, data, count))[0]  # noqa: B023 (it is called here)
            spec = folder / "spec.yaml"
            spec.write_text(SPEC.format(folder=folder))
            run = CorpusRun.of(str(spec))
            print(f"{count:,} documents of {SPANS * SPAN} words", flush=True)
            total = 0.0
            for stage in (each for each in run.corpus_stages(until="verdict") if each in (*BEFORE, *STAGES)):
                watched = Watched()
                run.execution.run_jobs = watched if stage in STAGES else direct
                run.stage(stage, lambda *_: None, False, False)
                if stage in STAGES:
                    spent = sum(seconds for _, _, seconds in watched.jobs)
                    total += spent
                    peaks = {kind: 0.0 for kind, _, _ in watched.jobs}
                    for kind, peak, _ in watched.jobs:
                        peaks[kind] = max(peaks[kind], peak / 2**20)
                    told = ", ".join(f"{kind} {peak:,.0f}" for kind, peak in peaks.items())
                    print(f"  {stage:10} {spent:8.1f} CPU s; peak memory in MiB: {told}", flush=True)
            print(f"  text to verdict: {total:.1f} CPU s, {1e6 * total / count:.0f} a million documents")
            found(run, similar)


if __name__ == "__main__":
    main()
