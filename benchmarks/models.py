"""Language, kinds, domain and quality on real data: accuracy and documents per second of one core.

`python -m benchmarks.models DATA`: a folder laid out as `language/udhr2.zip`, `labels/*.jsonl.gz`, `text/*.jsonl.gz`.
Classifiers learn from 9 documents in 10 and are tested on the others. Rates are by CPU time, which a busy machine
slows little.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from data_specs import stages
from tasks.engine.stage import Estimator, Stage
from tasks.filters.language import Language
from tasks.scoring.domain import Domain, DomainEstimator
from tasks.scoring.kind import KINDS, recognised
from tasks.scoring.perplexity import Perplexity, PerplexityEstimator
from tasks.scoring.quality import Quality, QualityEstimator
from tasks.text.fasttext_model import CHARACTERS
from tests.tasks.filters.test_language import UDHR

SEED = 20260101
PROSE = ("en_brown_15genres", "en_wikitext2_valid_test", "zh_wiki_cmrc2018", "zh_hant_wiki_drcd", "zh_classical_5M")
MARKDOWN = ("zh_algorithms_oiwiki", "zh_recipes", "zh_tech_news_lctt", "zh_law")
CHINESE = ("zh_law", "zh_classical_5M", "zh_exam_gaokao", "zh_wiki_cmrc2018", "zh_recipes", "zh_poetry_30k")
REFERENCE = ("Academic Writing", "Knowledge Article", "Nonfiction Writing")


def read(path: Path, count: int = 10**9) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def documents(rows: list[dict[str, Any]]) -> pa.Table:
    ids = [hashlib.md5(f"{number}:{row['text']}".encode()).digest() for number, row in enumerate(rows)]
    columns = {key: [row.get(key) for row in rows] for key in rows[0]}
    fixed = {"id": pa.array(ids, pa.binary(16)), "kind": ["text"] * len(rows), "language": ["en"] * len(rows)}
    return pa.table({**columns, **fixed})


def timed(call: Callable[[], Any], count: int) -> tuple[Any, str]:
    started = time.process_time()
    result = call()
    return result, f"{count / (time.process_time() - started):,.0f}/s"


def language(data: Path) -> None:
    stage = Language(stages.Language())
    stage.setup()
    archive = zipfile.ZipFile(data / "language" / "udhr2.zip")
    right = total = 0
    for name, label in UDHR.items():
        lines = [line.strip() for line in archive.read(f"udhr2/{name}.txt").decode().split("\n")]
        lines = [line for line in lines if len(line) >= 50]
        found = stage(pa.table({"text": lines}))["language"].to_pylist()
        right, total = right + found.count(label), total + len(lines)
    pages = documents(read(data / "labels" / "weborganizer_dclm_pages.jsonl.gz", 4000))
    _, rate = timed(lambda: stage(pages), pages.num_rows)
    print(f"language: {right / total:.1%} of {total:,} paragraphs in 30 languages; pages {rate}")


def kinds(data: Path) -> None:
    stdlib = [path.read_text(errors="replace") for path in Path(sysconfig.get_path("stdlib")).glob("*.py")]
    sets = {"standard library": [text for text in stdlib if len(text) > 1000]}
    sets["web pages"] = [row["text"] for row in read(data / "labels" / "weborganizer_dclm_pages.jsonl.gz")]
    sets |= {name: [row["text"] for row in read(data / "text" / f"{name}.jsonl.gz", 400)] for name in PROSE + MARKDOWN}
    for name, texts in sets.items():
        column, said = pa.chunked_array([texts]), pa.chunked_array([["html"] * len(texts)])
        found, rate = timed(lambda column=column, said=said: recognised(column, said), len(texts))  # type: ignore[misc]
        counts = Counter(found.to_pylist())
        shares = ", ".join(f"{kind} {counts[kind] / len(texts):.2%}" for kind in KINDS)
        print(f"kind: {name}, {len(texts):,} texts: {shares}; {rate}")


def fitted(
    learned: Estimator, stage: type[Domain] | type[Quality] | type[Perplexity], table: pa.Table, tests: pa.Table
) -> tuple[Stage, str]:
    """The stage with a model learned from the table, and what is known of it."""
    rows = learned.sample(table.select(list(learned.reads))).sort_by("id")
    started = time.process_time()
    model, _ = learned.fit(rows)
    seconds = time.process_time() - started
    with tempfile.NamedTemporaryFile() as file:
        file.write(model)
        file.flush()
        made = stage(learned.settings, {file.name: hashlib.sha256(model).hexdigest()})  # type: ignore[arg-type]
        made.setup()
    _, rate = timed(lambda: made(tests), tests.num_rows)
    return made, f"{rows.num_rows:,} documents in {seconds:.1f} s, {len(model) / 2**20:.1f} MiB, {rate}"


def baseline(table: pa.Table, tests: pa.Table, label: str) -> tuple[list[Any], LogisticRegression]:
    """TF-IDF with logistic regression on the same characters."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    leading = [text[:CHARACTERS] for text in table["text"].to_pylist()]
    model = LogisticRegression(C=10, max_iter=300).fit(words.fit_transform(leading), table[label].to_pylist())
    return words.transform([text[:CHARACTERS] for text in tests["text"].to_pylist()]), model


def split(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    tested = np.random.default_rng(0).random(table.num_rows) < 0.1
    return table.filter(~tested), table.filter(tested)


def domain(data: Path) -> None:
    pages = read(data / "labels" / "weborganizer_dclm_pages.jsonl.gz")
    pieces = [
        {"text": row["text"][len(row["text"]) // 2 :][:100], "label": name}
        for name in CHINESE
        for row in read(data / "text" / f"{name}.jsonl.gz", 380)
    ]
    tasks = {
        "news, 5 classes": read(data / "labels" / "bbc_news_5class.jsonl.gz"),
        "web topics, 24": [{"text": row["text"], "label": row["topic"]} for row in pages],
        "web formats, 24": [{"text": row["text"], "label": row["format"]} for row in pages],
        "100 characters of Chinese, 6 kinds": pieces,
    }
    for name, rows in tasks.items():
        names = sorted({row["label"] for row in rows})
        numbered = [{**row, "label": f"l{names.index(row['label'])}"} for row in rows]
        table, tests = split(documents(numbered))
        labels = {f"l{number}": f"label = 'l{number}'" for number in range(len(names))}
        stage, facts = fitted(DomainEstimator(stages.Domain(labels=labels), SEED), Domain, table, tests)
        right = pc.mean(pc.equal(stage(tests)["domain"], tests["label"]).cast(pa.int8())).as_py()
        features, model = baseline(table, tests, "label")
        print(f"domain: {name}: {right:.3f} (TF-IDF {model.score(features, tests['label'].to_pylist()):.3f}); {facts}")


def quality(data: Path) -> None:
    rows = read(data / "labels" / "weborganizer_dclm_pages.jsonl.gz")
    table, tests = split(documents([{**row, "wanted": row["format"] in REFERENCE} for row in rows]))
    stage, facts = fitted(QualityEstimator(stages.Quality(reference="wanted"), SEED), Quality, table, tests)
    wanted = tests["wanted"].to_pylist()
    features, model = baseline(table, tests, "wanted")
    ours = roc_auc_score(wanted, stage(tests)["quality"].to_pylist())
    theirs = roc_auc_score(wanted, model.predict_proba(features)[:, 1])
    print(f"quality: AUC {ours:.3f} (TF-IDF on all pages {theirs:.3f}); {facts}")


def fluency(data: Path) -> None:
    """A model of good pages, asked about others of these formats, and of spam and tables."""
    pages = read(data / "labels" / "weborganizer_dclm_pages.jsonl.gz")
    good = [row for row in pages if row["format"] in REFERENCE]
    bad = [row for row in pages if row["format"] in ("Spam / Ads", "Structured Data")]
    learned, tests = documents(good[::2]), documents(good[1::2] + bad)
    stage, facts = fitted(PerplexityEstimator(stages.Perplexity(), SEED), Perplexity, learned, tests)
    found = stage(tests)["perplexity"].to_pylist()
    wanted = [True] * len(good[1::2]) + [False] * len(bad)
    judged = [(is_good, -bits) for is_good, bits in zip(wanted, found, strict=True) if bits is not None]
    print(f"perplexity: AUC {roc_auc_score(*zip(*judged, strict=True)):.3f}; {facts}")


if __name__ == "__main__":
    for part in (language, kinds, domain, quality, fluency):
        part(Path(sys.argv[1]))
