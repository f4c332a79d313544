"""Documents a second on one core that language, quality and harmful text are told of; each should be 5,000 or more.

`python -m benchmarks.filters_rates SHARED`: pages are 2,000 of the labelled web pages of the folder of real data;
quality learns from others of three formats against the rest, harmful from 4,000 of COLD's posts, and scores others of
these, and the pages, which are twenty times as long. Returns 1 where one is slower.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa

from benchmarks.classifiers import cold
from data_specs import stages
from tasks.filters.language import Language
from tasks.scoring import labelled
from tasks.scoring.quality import Quality
from tasks.text.fasttext_model import features, learned

PAGES = 2000
FLOOR = 5000
GOOD = ("Academic Writing", "Knowledge Article", "Nonfiction Writing")


def rate(work: Callable[[], object], documents: int) -> float:
    """Documents a CPU second, the better of two passes."""
    taken = []
    for _ in range(2):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return documents / min(taken)


def main(shared: str) -> int:
    """Print each."""
    labels = Path(shared) / "labels"
    with gzip.open(labels / "weborganizer_dclm_pages.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in islice(file, 2 * PAGES)]
    texts = pa.chunked_array([pa.array([row["text"] for row in rows])])
    batch = pa.table({"text": texts.slice(PAGES)})
    language = Language(stages.Language())
    language.setup()
    with tempfile.TemporaryDirectory() as folder:
        lessons = features(texts.slice(0, PAGES))
        good = ["reference" if row["format"] in GOOD else "raw" for row in rows[:PAGES]]
        data, _ = learned(pa.table({"label": good, "text": lessons}), 32, 5, 1)
        path = Path(folder) / "quality.bin"
        path.write_bytes(data)
        quality = Quality(stages.Quality(skip=()), {str(path): hashlib.sha256(data).hexdigest()})
        quality.setup()
        train, dev, test = cold(labels)
        data, facts = labelled.learn(train[:4000], dev[:500], test[:500], 1)
        path = Path(folder) / "harmful.bin"
        path.write_bytes(data)
        harmful = labelled.load(str(path), hashlib.sha256(data).hexdigest())
    posts = [text for text, _, _ in train[4000 : 4000 + PAGES]]
    pages = batch["text"].to_pylist()
    rates = {
        "language of pages": rate(lambda: language(batch), PAGES),
        "quality of pages": rate(lambda: quality(batch), PAGES),
        "harmful, of posts": rate(
            lambda: labelled.probabilities(harmful, posts, [""] * PAGES, len(facts["labels"])), PAGES
        ),
        "harmful, of pages": rate(
            lambda: labelled.probabilities(harmful, pages, [""] * PAGES, len(facts["labels"])), PAGES
        ),
    }
    for name, found in rates.items():
        print(f"{name}: {found:,.0f} documents/s on one core (at least {FLOOR:,})")
    return int(min(rates.values()) < FLOOR)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
