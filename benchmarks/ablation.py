"""A model is the judge: the same small model trained on the same number of tokens of a corpus without rules, by the
rules of the peers, and by the default rules; bits per byte on fixed texts that are in none of them.

    python -m benchmarks.ablation DATA [--language en|zh] [--tokens 1500000] [--seeds 3] [--documents 10000]
                                       [--rules FILE.yaml ...]

English: web pages as WebOrganizer took them from DCLM's pool, evaluated on Wikipedia, Brown, news and the web. Chinese,
of which there are no raw pages in such number: articles, exams, recipes, a wiki, old books and posts of forums,
evaluated on statutes, Wikipedia and technology news. The tokenizer is learned once, without rules, so that bits are of
the same bytes; a seed draws the weights and the order of the documents, the same for each variant. A corpus smaller
than the tokens is read again. Intervals are 95 % by Student's t over the seeds, of each variant less the first.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trusted import PAGES, RULES, measured, rules_of, sampled
from data_specs.training import LearningRate, Model, Tokenizer
from tasks.decision.verdict import failing
from tasks.tokenization import tokenizer

CORPUS = {
    "en": [PAGES],
    "zh": [
        "text/zh_tech_news_lctt",
        "text/zh_exam_gaokao",
        "text/zh_recipes",
        "text/zh_algorithms_oiwiki",
        "text/zh_classical_5M",
        "labels/coldataset_train",
    ],
}
JUDGES = {
    "en": {
        "wikipedia": "text/en_wikitext2_valid_test",
        "brown": "text/en_brown_15genres",
        "news": "labels/bbc_news_5class",
        "web": "text/en_webtext",
    },
    "zh": {"law": "text/zh_law", "wikipedia": "text/zh_wiki_cmrc2018", "technology": "text/zh_tech_news_lctt"},
}
LONGEST = 4000
"""Characters of a document that models are judged by; where its set is learned from, too, it is taken out of that."""
SEQUENCE, ROWS = 256, 32
T95 = (0.0, 12.71, 4.30, 3.18, 2.78, 2.57)
"""Student's t for 95 %, by degrees of freedom."""


def stream(ids: Sequence[np.ndarray], seed: int, wanted: int) -> np.ndarray:
    """Tokens of documents in an order drawn by the seed, as many as wanted; documents come again when all were read."""
    drawn, parts, count = np.random.default_rng(seed), list[np.ndarray](), 0
    while count < wanted:
        for number in drawn.permutation(len(ids)):
            parts.append(ids[number])
            count += len(ids[number])
            if count >= wanted:
                break
    return np.concatenate(parts)[:wanted].astype(np.int64)


def batches(tokens: np.ndarray, end: int) -> Iterator[tuple[Any, Any, Any]]:
    """Inputs, positions and labels of ROWS rows at a time; a document's positions begin at 0."""
    import torch

    size = SEQUENCE * ROWS
    for first in range(0, len(tokens) - size, size):
        inputs = tokens[first : first + size].reshape(ROWS, SEQUENCE)
        labels = tokens[first + 1 : first + size + 1].reshape(ROWS, SEQUENCE)
        place = np.arange(SEQUENCE)
        begins = np.zeros((ROWS, SEQUENCE), np.int64)
        begins[:, 1:] = np.where(inputs[:, :-1] == end, place[1:], 0)
        positions = place - np.maximum.accumulate(begins, axis=1)
        yield torch.from_numpy(inputs), torch.from_numpy(positions), torch.from_numpy(labels)


def trained(tokens: np.ndarray, end: int, vocabulary: int, seed: int) -> Any:
    """The demo's model after one pass over the tokens."""
    import torch

    from training import models
    from training.schedule import learning_rate

    settings, rate = Model(), LearningRate()
    built = models.build(settings, vocabulary, SEQUENCE, seed)
    optimizer = torch.optim.AdamW(models.groups(built, 0.1), lr=rate.peak, betas=(0.9, 0.95))
    steps = (len(tokens) - 1) // (SEQUENCE * ROWS)
    for step, (inputs, positions, labels) in enumerate(batches(tokens, end)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, rate, settings.hidden)
        logits = built(inputs, positions)
        torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return built


def bits_per_byte(built: Any, ids: Sequence[np.ndarray], size: int) -> float:
    """Bits of the model for some texts of `size` bytes, each read in pieces of SEQUENCE tokens by itself."""
    import torch

    nats = 0.0
    with torch.no_grad():
        for each in ids:
            for first in range(0, len(each) - 1, SEQUENCE):
                piece = torch.from_numpy(each[first : first + SEQUENCE + 1].astype(np.int64))[None]
                logits = built(piece[:, :-1], torch.arange(piece.shape[1] - 1)[None])
                nats += float(torch.nn.functional.cross_entropy(logits[0].float(), piece[0, 1:], reduction="sum"))
    return nats / math.log(2) / size


def interval(values: Sequence[float]) -> str:
    """Mean and half of the 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    half = T95[min(len(values) - 1, len(T95) - 1)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):+.3f} ± {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--language", choices=sorted(CORPUS), default="en")
    parser.add_argument("--tokens", type=int, default=1_500_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--judged", type=int, default=60, help="documents of each set that models are judged by")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rules", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    judges: dict[str, list[str]] = {}
    for name, file in JUDGES[given.language].items():
        judges[name] = [row["text"][:LONGEST] for row in sampled(given.data / f"{file}.jsonl.gz", given.judged)]
    held = {text for texts in judges.values() for text in texts}
    each = given.documents // len(CORPUS[given.language])
    rows = [row for file in CORPUS[given.language] for row in sampled(given.data / f"{file}.jsonl.gz", each)]
    corpus = measured("corpus", [row for row in rows if row["text"][:LONGEST] not in held]).table
    data = tokenizer.learn(corpus["text"].to_pylist(), Tokenizer())
    loaded = tokenizer.load(data, "the ablation's tokenizer")
    texts = {name: (loaded.encode(found), sum(len(text.encode()) for text in found)) for name, found in judges.items()}
    peers = [RULES / f"{name}.yaml" for name in ("gopher", "c4", "fineweb")]
    variants: dict[str, list[Path]] = {
        "no rules": [],
        "peers": peers,
        "default": [RULES / "default.yaml"],
        "web": [RULES / "web.yaml"],
    }
    variants |= {file.stem: [file] for file in given.rules}
    print(f"{given.language}: {corpus.num_rows:,} documents, {given.tokens:,} tokens a model, {given.seeds} seeds")
    print(f"{'':12}{'documents':>10}{'mean':>8}" + "".join(f"{name:>12}" for name in judges) + "  less the first, mean")
    ids = loaded.encode(corpus["text"].to_pylist())
    first: list[float] = []
    for name, files in variants.items():
        drops = [*failing(rules_of(*files), corpus).values()] if files else [np.zeros(corpus.num_rows, bool)]
        kept = [ids[number] for number in np.flatnonzero(~np.logical_or.reduce(drops))]
        scores: list[list[float]] = []
        for seed in range(1, given.seeds + 1):
            built = trained(stream(kept, seed, given.tokens), loaded.end, loaded.size, seed)
            scores.append([bits_per_byte(built, *text) for text in texts.values()])
        means = [statistics.mean(row) for row in scores]
        first = first or means
        less = interval([mean - other for mean, other in zip(means, first, strict=True)])
        cells = "".join(f"{statistics.mean(column):12.3f}" for column in zip(*scores, strict=True))
        print(f"{name:12}{len(kept):10,}{statistics.mean(means):8.3f}{cells}  {less}", flush=True)
        print(f"{'':12}by seed: {', '.join(f'{mean:.3f}' for mean in means)}", flush=True)


if __name__ == "__main__":
    main()
