"""Learn which blocks of a page are main text: `tasks/extraction/weights.json`, from WCXB's development pages.

`python -m benchmarks.extraction_weights wcxb_dev_1497.tar.xz [weights.json]`. A block is main text where the page's
gold text holds it; the model is linear, its weights shared by all types of pages and moved for each. What it
comes to is measured across: the weights of one half of the pages are tried on the other, word F1 by type. Without a
path to write to, that is all. The pages are Murrough-Foley's (Web Content Extraction Benchmark, CC-BY-4.0).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from scipy.optimize import minimize
from trafilatura.utils import load_html

from benchmarks.extraction_pages import WORD, Page, f1, half, wcxb
from data_specs.extract import Extractor
from tasks.extraction.blocks import blocks
from tasks.extraction.features import FEATURES, features, letters
from tasks.extraction.html import taken_from
from tasks.extraction.judge import LIMIT
from tasks.extraction.main_text import beneath
from tasks.extraction.page_type import TYPES, PageType, page_type

SHARED, MOVED = 3.0, 3.0
"""How strongly the weights that all types share are drawn towards zero, and those of a type towards these."""
ROWS = 120
"""Blocks of a page that are learned from, at most."""
THRESHOLDS = np.arange(0.25, 0.5, 0.05)
PAGES = 40
"""Pages of a type by which its threshold is chosen, at most."""


@dataclass
class Example:
    page: Page
    kind: PageType
    texts: list[str]
    measured: np.ndarray
    wanted: np.ndarray
    part: int
    """Which half of the pages it is in."""


def wanted(texts: Sequence[str], gold: str) -> np.ndarray:
    """Of each block whether the gold text has it: as a line, somewhere if it is long, or most of its four-word runs."""
    squashed, lines = letters(gold), {letters(line) for line in gold.split("\n")}
    words = WORD.findall(gold.lower())
    runs = set(zip(words, words[1:], words[2:], words[3:], strict=False))

    def has(text: str) -> bool:
        own = letters(text)
        if own in lines or (len(own) >= 20 and own in squashed):
            return True
        inner = WORD.findall(text.lower())
        found = [run in runs for run in zip(inner, inner[1:], inner[2:], inner[3:], strict=False)]
        return sum(found) > len(found) / 2

    return np.array([has(text) for text in texts], bool)


def examples(pages: Iterable[Page], extractor: Extractor) -> list[Example]:
    found = []
    for page in pages:
        tree = load_html(page.html)
        if tree is None:
            continue
        inside = blocks(tree)
        if not inside.blocks:
            continue
        kind = page_type(tree, inside, page.url)
        texts = [block.text for block in inside.blocks]
        taken = taken_from(tree, page.html, beneath(extractor, kind))
        measured = features(inside, [*map(letters, texts)], taken, tree.findtext(".//title") or "")
        found.append(Example(page, kind, texts, measured.astype(np.float16), wanted(texts, page.gold), half(page.name)))
    return found


class Model:
    """Standardised features to log odds: weights that all types share, and those of each type drawn towards them."""

    def __init__(self, learned_from: Sequence[Example]) -> None:
        drawn = [(each, _drawn(each)) for each in learned_from]
        every = np.concatenate([each.measured[rows] for each, (rows, _) in drawn]).astype(np.float32)
        self.mean, self.deviation = every.mean(0), every.std(0) + 1e-3
        x = np.hstack([self._standard(every), np.ones((len(every), 1), np.float32)])
        y = np.concatenate([each.wanted[rows] for each, (rows, _) in drawn]).astype(np.float32)
        weight = np.concatenate([weights for _, (_, weights) in drawn]).astype(np.float32)
        kinds = np.concatenate([np.repeat(TYPES.index(each.kind), len(rows)) for each, (rows, _) in drawn])
        shared = _fitted(x, y, weight, np.zeros(x.shape[1]), SHARED)
        self.weights: dict[PageType, np.ndarray] = {}
        for place, kind in enumerate(TYPES):
            of_kind = kinds == place
            own = _fitted(x[of_kind], y[of_kind], weight[of_kind], shared, MOVED)
            self.weights[kind] = own
            pages = [each for each in learned_from if each.kind == kind][:PAGES]
            best = max(THRESHOLDS, key=lambda limit: sum(self.f1(each, limit) for each in pages))
            own[-1] -= np.log(best / (1 - best))

    def _standard(self, measured: np.ndarray) -> np.ndarray:
        return np.clip((measured.astype(np.float32) - self.mean) / self.deviation, -LIMIT, LIMIT)

    def chosen(self, example: Example, limit: float = 0.5) -> list[str]:
        odds = self._standard(example.measured) @ self.weights[example.kind][:-1] + self.weights[example.kind][-1]
        return [text for text, each in zip(example.texts, odds > np.log(limit / (1 - limit)), strict=True) if each]

    def f1(self, example: Example, limit: float = 0.5) -> float:
        return f1("\n".join(self.chosen(example, limit)), example.page.gold)


def _drawn(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a page that are learned from, and what each weighs: by its words, all of a page about as much."""
    words = np.array([len(WORD.findall(text)) + 0.3 for text in example.texts]) ** 0.75
    weight = words / words.sum() ** 0.8
    if len(words) <= ROWS:
        return np.arange(len(words)), weight
    chance = np.random.default_rng(len(words))
    rows = np.sort(chance.choice(len(words), ROWS, replace=False))
    return rows, weight[rows] * len(words) / ROWS


def _fitted(x: np.ndarray, y: np.ndarray, weight: np.ndarray, towards: np.ndarray, strength: float) -> np.ndarray:
    """Weights of a logistic regression that are drawn towards others; the last is the intercept."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ w.astype(np.float32)
        away = w - towards
        slope = x.T @ (weight * (1 / (1 + np.exp(-odds)) - y)) + strength * away
        return float(weight @ (np.logaddexp(0, odds) - y * odds)) + strength / 2 * float(away @ away), slope

    start = towards.copy()
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 80}).x


def across(found: Sequence[Example]) -> dict[str, float]:
    """Mean F1 by the type that the pages are labelled with, each half by the weights of the other."""
    scores = defaultdict(list)
    for part in (0, 1):
        model = Model([each for each in found if each.part != part])
        for each in found:
            if each.part == part:
                score = model.f1(each)
                scores[each.page.kind].append(score)
                scores["all"].append(score)
    return {kind: float(np.mean(values)) for kind, values in sorted(scores.items())}


def main(archive: str, path: str | None = None) -> int:
    values: dict[str, dict[str, list[float]]] = {}
    for extractor in get_args(Extractor):
        found = examples(wcxb(archive), extractor)
        print(extractor, " ".join(f"{kind} {score:.3f}" for kind, score in across(found).items()))
        if path:
            model = Model(found)
            learned = {"mean": model.mean, "deviation": model.deviation}
            learned |= {str(kind): weights for kind, weights in model.weights.items()}
            values[extractor] = {name: [float(f"{value:.4g}") for value in vector] for name, vector in learned.items()}
    if path:
        Path(path).write_text(json.dumps({"features": FEATURES, "values": values}, indent=None) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
