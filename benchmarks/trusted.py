"""What rules throw away of text that is known to be good, and of pages that are known not to be.

    python -m benchmarks.trusted DATA [RULES.yaml ...] [--documents N] [--pages N] [--score] [--formats]

DATA is a folder with `text/*.jsonl.gz` (trusted sets: {text} a line) and `labels/weborganizer_dclm_pages.jsonl.gz` (web
pages with WebOrganizer's `format` and `topic`; Wettig et al. 2025). RULES are files of rules; without any, what the
peers do (Gopher, C4 and FineWeb together) beside the default rules and those for crawls. Columns come from the
product's own stages. Every set is cut in halves by a hash of its texts: thresholds were chosen with the first in sight,
the second is what counts. Each cell is documents dropped of the first half / of the second / bytes dropped of both, in
per cent; within one set, bytes stand for tokens.

With `--score` a quality scorer is learned besides, on the first half of the pages, good formats against all others, and
the default rules also drop what scores below the 5th percentile of these good pages. With `--formats` a classifier of
formats is learned of each half of the pages, as `sluice learn` does, and judges the other half, that of the first half
also the trusted sets; `formats.yaml` then stands beside the default rules.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs import stages
from data_specs.load import load
from data_specs.spec import Rule
from tasks.decision.verdict import failing
from tasks.filters.composition import Composition
from tasks.filters.language import Language
from tasks.filters.signals import Signals
from tasks.filters.style import Style
from tasks.scoring import labelled
from tasks.scoring.classify import Classify
from tasks.scoring.quality import Quality, QualityEstimator

RULES = Path(__file__).parents[1] / "data_specs" / "rules"
TRUSTED = {
    "technology, zh": "text/zh_tech_news_lctt",
    "law, zh": "text/zh_law",
    "recipes, zh": "text/zh_recipes",
    "encyclopedia, zh": "text/zh_wiki_cmrc2018",
    "encyclopedia, zh-Hant": "text/zh_hant_wiki_drcd",
    "algorithms, zh": "text/zh_algorithms_oiwiki",
    "exams, zh": "text/zh_exam_gaokao",
    "classical, zh": "text/zh_classical_5M",
    "poetry, zh": "text/zh_poetry_30k",
    "Brown, 15 genres": "text/en_brown_15genres",
    "essays": "text/en_essays_pg",
    "inaugural speeches": "text/en_inaugural",
    "state of the union": "text/en_state_union",
    "technology": "text/en_tech_news_lctt_sources",
    "encyclopedia": "text/en_wikitext2_valid_test",
    "news": "labels/bbc_news_5class",
}
STAGES = Language, Signals, Composition, Style
MARKS = Path(__file__).parent / "stubs.txt"
PAGES = "labels/weborganizer_dclm_pages"
GOOD = ("Academic Writing", "Knowledge Article", "News Article", "Nonfiction Writing", "Tutorial")
BAD = ("Spam / Ads", "Structured Data", "Truncated")
BAD_TOPIC = "Adult"
REFERENCE = f"format in {GOOD}"
PERCENTILE = 5


@dataclass
class Group:
    """Documents of one set, with the columns of the product's stages."""

    name: str
    table: pa.Table
    second: NDArray[np.bool_]
    """Which are of the second half."""
    size: NDArray[np.int64]
    """Bytes of each."""

    def filtered(self, name: str, chosen: NDArray[np.bool_]) -> Group:
        """Some of them, by another name."""
        return Group(name, self.table.filter(pa.array(chosen)), self.second[chosen], self.size[chosen])

    def dropped(self, rules: list[Rule]) -> tuple[float, float, float]:
        """Shares of documents dropped in the first and second half, and of bytes in both."""
        drops = np.logical_or.reduce(list(failing(rules, self.table).values()))
        first, second = drops[~self.second], drops[self.second]
        return float(first.mean()), float(second.mean()), float(self.size[drops].sum() / self.size.sum())


def sampled(file: Path, count: int) -> list[dict[str, Any]]:
    """As many lines of a file, those whose texts have the lowest hashes, in that order."""
    with gzip.open(file, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row["id"] = hashlib.blake2b(row["text"].encode(), digest_size=16).digest()
    return sorted(rows, key=lambda row: row["id"])[:count]


def measured(name: str, rows: list[dict[str, Any]]) -> Group:
    """Rows with the columns of language, signals, composition and style."""
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.binary(16)),
            "text": [row["text"] for row in rows],
            **{key: pa.array([row.get(key) for row in rows], pa.string()) for key in ("format", "topic", "url")},
        }
    )
    for kind in STAGES:
        stage = kind(getattr(stages, kind.__name__)())
        stage.setup()
        for field, column in zip(stage.writes, stage(table).columns, strict=True):
            table = table.append_column(field, column)
    second = np.array([row["id"][-1] % 2 == 1 for row in rows])
    return Group(name, table, second, np.array([len(row["text"].encode()) for row in rows]))


def by_kind(pages: Group) -> Iterator[Group]:
    """Pages by format, and those of the topic that is judged whatever their format."""
    formats, topics = (np.array(pages.table[name].to_pylist()) for name in ("format", "topic"))
    for name in (*GOOD, *BAD, *sorted(set(formats) - {*GOOD, *BAD})):
        yield pages.filtered(f"page: {name}", formats == name)
    yield pages.filtered(f"page on: {BAD_TOPIC}", topics == BAD_TOPIC)


def by_hand(pages: Group) -> Iterator[Group]:
    """Short pages that were read and marked, those of them that are here."""
    ids = np.array([each.hex()[:8] for each in pages.table["id"].to_pylist()])
    lines = [line.partition(": ") for line in MARKS.read_text().splitlines() if not line.startswith("#")]
    for mark in ("stub", "other"):
        marked = [each for name, _, some in lines if name == mark for each in some.split()]
        yield pages.filtered(f"short, by hand: {mark}", np.isin(ids, marked))


def scored(pages: Group) -> tuple[Group, float]:
    """Pages with a column `quality` learned on their first half, and the percentile of its good pages."""
    settings = stages.Quality(reference=REFERENCE)
    learned = QualityEstimator(settings, seed=1)
    data, _ = learned.fit(learned.sample(pages.table.filter(pa.array(~pages.second))))
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(data)
        file.flush()
        stage = Quality(settings, {file.name: hashlib.sha256(data).hexdigest()})
        stage.setup()
    column = stage(pages.table)["quality"]
    good = np.isin(np.array(pages.table["format"].to_pylist()), GOOD) & ~pages.second
    threshold = float(np.nanpercentile(column.to_numpy()[good], PERCENTILE))
    return Group(pages.name, pages.table.append_column("quality", column), pages.second, pages.size), threshold


def learned_formats(pages: Group, half: NDArray[np.bool_], folder: Path) -> Classify:
    """The stage of a classifier of formats that was learned of some pages."""
    texts, urls, formats = (pages.table.filter(pa.array(half))[name].to_pylist() for name in ("text", "url", "format"))
    rows = list(zip(texts, [url or "" for url in urls], formats, strict=True))
    lessons, dev = labelled.split(rows, labelled.DEV, 1)
    data, facts = labelled.learn(lessons, dev, dev, 0)
    path = folder / f"{facts['sha256'][:16]}.bin"
    path.write_bytes(data)
    path.with_suffix(".json").write_bytes(orjson.dumps(facts))
    stage = Classify(stages.Classify(model=str(path)))
    stage.setup()
    return stage


def with_formats(group: Group, first: Classify, second: Classify) -> Group:
    """Documents with a column for each format: by what was learned of the first half those of the second, and by what
    was learned of the second those of the first."""
    of_first, of_second = second(group.table), first(group.table)
    table = group.table
    for field in [*first.writes][1:]:
        chosen = pc.if_else(pa.array(group.second), of_second[field.name], of_first[field.name])
        table = table.append_column(field.name.replace("classify", "format", 1), chosen)
    return Group(group.name, table, group.second, group.size)


def rules_of(*files: Path) -> list[Rule]:
    """The rules of some files, in order."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as spec:
        spec.write("name: rules\nsources: {none: {kind: jsonl, paths: none}}\nchannels: {all: 'true'}\nrules:\n")
        spec.writelines(f"  - include: {file.resolve()}\n" for file in files)
        spec.flush()
        return list(load(spec.name).rules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("rules", type=Path, nargs="*")
    parser.add_argument("--documents", type=int, default=400, help="documents of each trusted set")
    parser.add_argument("--pages", type=int, default=6000, help="web pages")
    parser.add_argument("--score", action="store_true", help="a learned quality score besides")
    parser.add_argument("--formats", action="store_true", help="a learned classifier of formats besides")
    given = parser.parse_args()
    peers, default = [RULES / f"{name}.yaml" for name in ("gopher", "c4", "fineweb")], RULES / "default.yaml"
    sets = {file.stem: rules_of(file) for file in given.rules}
    sets = sets or {"peers": rules_of(*peers), "default": rules_of(default), "web": rules_of(RULES / "web.yaml")}
    pages = measured("pages", sampled(given.data / f"{PAGES}.jsonl.gz", given.pages))
    trusted = {name: given.data / f"{file}.jsonl.gz" for name, file in TRUSTED.items()}
    groups = [measured(name, sampled(file, given.documents)) for name, file in trusted.items()]
    if given.score:
        pages, threshold = scored(pages)
        low = Rule(name="low_quality", drop=f"quality < {threshold!r}")
        sets |= {f"{name} + score": [*rules, low] for name, rules in sets.items() if name == "default"}
    if given.formats:
        with tempfile.TemporaryDirectory() as folder:
            first, second = (learned_formats(pages, half, Path(folder)) for half in (~pages.second, pages.second))
            groups = [with_formats(group, first, first) for group in groups]
            pages = with_formats(pages, first, second)
        sets["gentle + formats"] = rules_of(RULES / "gentle.yaml", RULES / "formats.yaml")
    print("per cent dropped: documents of the first half / of the second / bytes of both")
    print(f"{'':28}{'documents':>10}" + "".join(f"{name:>22}" for name in sets))
    for group in (*groups, *by_kind(pages), *by_hand(pages)):
        show(group, sets)


def show(group: Group, sets: dict[str, list[Rule]]) -> None:
    cells = ""
    for rules in sets.values():
        scored = all("quality" not in rule.drop or "quality" in group.table.column_names for rule in rules)
        cell = " / ".join(f"{share:.1%}".rstrip("%") for share in group.dropped(rules)) if scored else "-"
        cells += f"{cell:>22}"
    print(f"{group.name:28}{group.table.num_rows:10,}{cells}", flush=True)


if __name__ == "__main__":
    main()
