"""A model is the judge: the same small model trained on the same number of tokens of one corpus without rules, by the
rules of the peers, and by ours; bits per byte on fixed texts that are in none of them.

    python -m benchmarks.ablation DATA [--language en|zh] [--seeds 3] [--work FOLDER] [--models N]
                                       [--rules FILE.yaml ...]

English: web pages as WebOrganizer took them from DCLM's pool, evaluated on Wikipedia, Brown, news and the web. Chinese,
of which there are no raw pages in such number: articles, exams, recipes, a wiki, old books and posts of forums,
evaluated on statutes, Wikipedia and technology news. The tokenizer is learned once, without rules, so that bits are of
the same bytes; a seed draws the weights and the order of the documents, the same for each variant. A corpus smaller
than the tokens is read again. Intervals are 95 % by Student's t over the seeds, of each variant less the first.

The model is the demo's with half its vocabulary. What was trained is kept in `--work` by what it was trained on, so a
call goes on where the last one ended (`--models 1`: one model a call), and only variants whose documents changed are
trained anew. Seeds come first: after N variants each has been trained once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.trusted import PAGES, RULES, STAGES, measured, rules_of, sampled
from data_specs.tokenizer import Tokenizer
from data_specs.training import LearningRate, Model
from tasks.decision.verdict import failing
from tasks.tokenization import kinds, tokenizer

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
SEQUENCE, ROWS, VOCABULARY = 256, 4, 4096
CUT = 256
"""Tokens that a document gives, at most, from a place of its own: else the few that a seed reads decide it."""
PEAK = 1.5e-3
"""Learning rate: of two draws of the same documents the scores differ by .01, at the demo's 4e-3 by .05."""
READ = 20_000
"""Characters of a document that this place is in."""
AT_ONCE = 64
"""Documents encoded at once."""
PEERS = tuple(RULES / f"{name}.yaml" for name in ("gopher", "c4", "fineweb"))
OURS = {name: (RULES / f"{name}.yaml",) for name in ("gentle", "default", "web")}
VARIANTS: dict[str, dict[str, tuple[Path, ...]]] = {
    "en": {"no rules": (), "peers": PEERS, **OURS},
    "zh": {"no rules": (), "peers": PEERS, "fineweb2": (RULES / "fineweb2.yaml",), "default": OURS["default"]},
}
T95 = (0.0, 12.71, 4.30, 3.18, 2.78, 2.57)
"""Student's t for 95 %, by degrees of freedom."""


Encode = Callable[[Sequence[str]], list[np.ndarray]]


def as_written(text: str) -> str:
    """A text of which a corpus was made in words and marks, as its author wrote it: WikiText-2's `0 @.@ 7` and `<unk>`,
    Brown's quotes and marks that stand alone are read nowhere else, and a model's luck with them decided a score."""
    text = re.sub(r" @(.)@ ", r"\1", text.replace("<unk>", ""))
    text = text.replace("`` ", '"').replace(" ''", '"').replace("( ", "(")
    return re.sub(r" +(?=[,.;:!?)]|'[a-z])|(?<= ) +", "", text)


def stream(texts: Sequence[str], kept: np.ndarray, encode: Encode, seed: int, wanted: int) -> np.ndarray:
    """Tokens of the documents that are kept, as many as wanted, CUT of each at most; documents come again when all were
    read. A seed puts all documents in one order and says where each is read, so that variants which keep the same ones
    read the same."""
    drawn, parts, count = np.random.default_rng(seed), list[np.ndarray](), 0
    while count < wanted:
        order, place = drawn.permutation(len(texts)), drawn.random(len(texts))
        order = order[kept[order]]
        for first in range(0, len(order), AT_ONCE):
            some = order[first : first + AT_ONCE]
            for number, ids in zip(some, encode([texts[number][:READ] for number in some]), strict=True):
                begin = int(place[number] * max(1, len(ids) - CUT))
                parts.append(np.append(ids[begin : begin + CUT - 1], ids[-1:]))
            count += sum(map(len, parts[-len(some) :]))
            if count >= wanted:
                break
    return np.concatenate(parts)[:wanted].astype(np.int64)


def batches(tokens: np.ndarray, end: int, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Inputs, positions and labels of ROWS rows at a time; a document's positions begin at 0. Rows are shuffled, as a
    step that reads one document says little of the corpus: without, what a seed draws moved a score by .1."""
    import torch

    count = (len(tokens) - 1) // SEQUENCE
    rows, targets = (tokens[first : first + count * SEQUENCE].reshape(count, SEQUENCE) for first in (0, 1))
    order = np.random.default_rng(seed).permutation(count)
    for first in range(0, count - ROWS + 1, ROWS):
        inputs, labels = (side[order[first : first + ROWS]] for side in (rows, targets))
        place = np.arange(SEQUENCE)
        begins = np.zeros((ROWS, SEQUENCE), np.int64)
        begins[:, 1:] = np.where(inputs[:, :-1] == end, place[1:], 0)
        positions = place - np.maximum.accumulate(begins, axis=1)
        yield torch.from_numpy(inputs), torch.from_numpy(positions), torch.from_numpy(labels)


def trained(tokens: np.ndarray, end: int, vocabulary: int, seed: int) -> Any:
    """The model after one pass over the tokens, in bfloat16 but for weights and loss."""
    import torch

    from training import models, optimizers
    from training.schedule import learning_rate

    settings, rate = Model(), LearningRate(peak=PEAK)
    built = models.build(settings, vocabulary, SEQUENCE, seed)
    optimizer = torch.optim.AdamW(optimizers.groups(built, 0.1), lr=PEAK, betas=(0.9, 0.95))
    steps = (len(tokens) - 1) // SEQUENCE // ROWS
    for step, (inputs, positions, labels) in enumerate(batches(tokens, end, seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, rate, settings.hidden)
        with torch.autocast("cpu", torch.bfloat16):
            logits = built(inputs, positions)
        torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return built


def bits_per_byte(built: Any, ids: Sequence[np.ndarray], size: int) -> float:
    """Bits of the model for some texts of `size` bytes, each read in pieces of SEQUENCE tokens by itself."""
    import torch

    pieces = [each[first : first + SEQUENCE + 1] for each in ids for first in range(0, len(each) - 1, SEQUENCE)]
    pieces.sort(key=len)
    nats = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for first in range(0, len(pieces), 2 * ROWS):
            some = pieces[first : first + 2 * ROWS]
            rows = np.zeros((len(some), len(some[-1])), np.int64)
            labels = np.full((len(some), len(some[-1]) - 1), -100)
            for number, piece in enumerate(some):
                rows[number, : len(piece)] = piece
                labels[number, : len(piece) - 1] = piece[1:]
            places = torch.arange(labels.shape[1])[None].expand(len(some), -1)
            logits = built(torch.from_numpy(rows[:, :-1]), places).float().flatten(0, 1)
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).flatten(), reduction="sum")
            nats += float(loss)
    return nats / math.log(2) / size


def interval(values: Sequence[float]) -> str:
    """Mean and half of the 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    half = T95[min(len(values) - 1, len(T95) - 1)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):+.3f} ± {half:.3f}"


def digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def corpus(data: Path, language: str, documents: int, held: set[str], work: Path) -> pa.Table:
    """The documents with the columns that rules read, kept in the work folder."""
    key = digest(language, documents, sorted(held), [(stage.name, stage.version) for stage in STAGES])
    path = work / f"corpus-{key}.parquet"
    if not path.exists():
        each = documents // len(CORPUS[language])
        rows = [row for file in CORPUS[language] for row in sampled(data / f"{file}.jsonl.gz", each)]
        rows = [row for row in rows if row["text"][:LONGEST] not in held]
        pq.write_table(measured("corpus", rows).table, path)
    return pq.read_table(path)


def learned(texts: list[str], work: Path) -> tokenizer.Loaded:
    """The tokenizer of these texts, kept in the work folder."""
    path = work / f"tokenizer-{digest(texts)}.json"
    if not path.exists():
        path.write_bytes(kinds.learn(texts, Tokenizer(vocabulary=VOCABULARY)))
    return tokenizer.load(path.read_bytes(), "the ablation's tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--language", choices=sorted(CORPUS), default="en")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=10_800)
    parser.add_argument("--judged", type=int, default=60, help="documents of each set that models are judged by")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rules", type=Path, nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[], help="variants that are left out")
    parser.add_argument("--work", type=Path, help="where models' scores are kept; a temporary folder unless given")
    parser.add_argument("--models", type=int, default=10**6, help="models trained by this call, at most")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(exist_ok=True)
        compare(given, work)


def compare(given: argparse.Namespace, work: Path) -> None:
    """Train what is missing, and print what is there."""
    judges: dict[str, list[str]] = {}
    for name, part in JUDGES[given.language].items():
        judges[name] = [row["text"][:LONGEST] for row in sampled(given.data / f"{part}.jsonl.gz", given.judged)]
    held = {text for texts in judges.values() for text in texts}
    judges = {name: list(map(as_written, texts)) for name, texts in judges.items()}
    table = corpus(given.data, given.language, given.documents, held, work)
    loaded = learned(table["text"].to_pylist()[::4], work)
    judged = {name: (loaded.encode(found), sum(len(text.encode()) for text in found)) for name, found in judges.items()}
    kept: dict[str, np.ndarray] = {}
    for name, files in (VARIANTS[given.language] | {file.stem: (file,) for file in given.rules}).items():
        drops = [*failing(rules_of(*files), table).values()] if files else [np.zeros(table.num_rows, bool)]
        if name not in given.without:
            kept[name] = ~np.logical_or.reduce(drops)
    results, left = work / "scores.jsonl", given.models
    lines = results.read_text().splitlines() if results.exists() else []
    scores = {row["key"]: row["scores"] for row in map(json.loads, lines)}
    found: dict[str, list[list[float]]] = {name: [] for name in kept}
    for seed in range(1, given.seeds + 1):
        for name, some in kept.items():
            chosen = table["id"].filter(pa.array(some)).to_pylist()
            made = given.tokens, seed, SEQUENCE, ROWS, VOCABULARY, CUT, PEAK, sorted(judges.items()), chosen
            key = digest(given.language, *made)
            if key not in scores and left > 0:
                tokens = stream(table["text"].to_pylist(), some, loaded.encode, seed, given.tokens)
                built = trained(tokens, loaded.end, loaded.size, seed)
                scores[key] = [bits_per_byte(built, *text) for text in judged.values()]
                row = {"key": key, "language": given.language, "variant": name, "seed": seed, "scores": scores[key]}
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                left -= 1
            found[name] += [scores[key]] if key in scores else []
    print(f"{given.language}: {table.num_rows:,} documents, {given.tokens:,} tokens a model, {given.seeds} seeds")
    print(
        f"{'':12}{'kept':>8}{'models':>8}{'mean':>8}" + "".join(f"{name:>12}" for name in judges) + "  less the first"
    )
    first: list[float] = []
    for name, some in kept.items():
        means = [statistics.mean(row) for row in found[name]]
        first = first or means
        if means:
            less = interval([mean - other for mean, other in zip(means, first, strict=False)])
            cells = "".join(f"{statistics.mean(column):12.3f}" for column in zip(*found[name], strict=True))
            print(
                f"{name:12}{int(some.sum()):8,}{len(means):8}{statistics.mean(means):8.3f}{cells}  {less}", flush=True
            )
            print(f"{'':12}by seed: {', '.join(f'{mean:.3f}' for mean in means)}", flush=True)
    if left < given.models:
        print(f"{given.models - left} trained by this call")


if __name__ == "__main__":
    main()
