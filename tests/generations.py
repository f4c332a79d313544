"""A corpus that grows by files, a shard each: pages in families of copies and near copies, spread over the files.

What stays of it follows from the pages alone (`Expected`): texts of a family share all but a few words, others nothing,
so that no pair is near the threshold, and which are alike is known without a signature.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.run import Run
from tests.commands import told
from tests.whole import direct

SPEC = """
name: nightly
store: {folder}/store
seed: 7
sources: {{web: {{kind: jsonl, paths: "{folder}/web/*.jsonl.gz", shard: 1}}}}
stages: {{duplicates: {{threshold: {threshold}, partitions: 3, keep: [length]}}}}
rules: [{{bad: "url like '%/bad/%'"}}]
channels: {{all: "true"}}
tokenizer: {{vocabulary: 300, sample: 100K, reserved: 4}}
training: {{evaluate: {{held_out: 4%}}}}
gates: {{removed_per_source: 100%, quarantined: 50%}}
"""


def pages(files: int, families: int, seed: int) -> list[list[dict[str, str]]]:
    """Files of pages. Of a family of three words, say, are the texts `a b c`, `a b c` again, and `a b d`."""
    rng = random.Random(seed)
    found: list[list[dict[str, str]]] = [[] for _ in range(files)]
    for family in range(families):
        words = [f"w{family}x{n}" for n in range(150)]
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            own = [*words]
            kind = rng.random()
            if kind > 0.3:
                own[rng.randrange(150)] = f"other{rng.random()}"
            own += [f"more{rng.random()}"] * rng.randrange(3)
            url = f"https://example.org/{family}/{'bad' if rng.random() < 0.2 else 'good'}/{rng.random()}"
            found[rng.randrange(files)].append({"text": " ".join(own), "url": url})
    return found


def write(folder: Path, name: str, rows: Sequence[dict[str, str]], source: str = "web") -> None:
    (folder / source).mkdir(parents=True, exist_ok=True)
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / source / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


def corpus(folder: Path, files: Sequence[Sequence[dict[str, str]]], threshold: float = 0.5) -> Path:
    """A corpus whose first files are there; the path of its spec."""
    for number, rows in enumerate(files):
        write(folder, f"web-{number}", rows)
    return spec(folder, threshold)


def spec(folder: Path, threshold: float = 0.5) -> Path:
    path = folder / "nightly.yaml"
    path.write_text(SPEC.format(folder=folder, threshold=threshold))
    return path


def night(
    path: Path, settings: Sequence[str] = (), fan: Any = direct, rebase: bool = False, start: str | None = None
) -> Run:
    """What `corpus/nightly` does: the stages, and a version where there is something new; or a rebase."""
    run = Run.of(str(path), None, settings)
    run.pipeline.rebasing = rebase
    run.execution.run_jobs = fan
    for name in run.corpus_stages():
        run.stage(name, lambda *_: None, name == start, False)
    run.version(lambda *_: None)
    run.save(ended=True)
    return run


def documents(path: Path) -> dict[str, dict[str, Any]]:
    """Id -> what there is of each document."""
    columns = ("id", "url", "text", "file", "held_out", "kept", "reason", "evaluated", "cluster", "shard", "position")
    lists = "copy_of, alike, duplicate_of"
    rows = told("query", path, f"select {', '.join(columns)}, {lists} from corpus")["rows"]
    return {row[0]: dict(zip((*columns, "copy_of", "alike", "duplicate_of"), row, strict=True)) for row in rows}


class Expected:
    """What becomes of documents, generation by generation, by their families."""

    def __init__(self) -> None:
        self.reasons: dict[str, str | None] = {}
        self.families: dict[str, list[dict[str, Any]]] = {}

    def add(self, found: Sequence[dict[str, Any]]) -> None:
        """A generation: what older ones decided stands; of the rest of a family the longest is kept, if none was."""
        families: dict[str, list[dict[str, Any]]] = {}
        for row in found:
            families.setdefault(row["url"].split("/")[3], []).append(row)
        for family, rows in families.items():
            older = self.families.setdefault(family, [])
            kept = any(self.reasons[row["id"]] is None for row in older)
            contaminated = any(row["held_out"] for row in [*older, *rows])
            for row in sorted(rows, key=lambda row: (-len(row["text"]), row["id"])):
                reason: str | None = None
                if "/bad/" in row["url"]:
                    reason = "bad"
                elif row["held_out"]:
                    reason = "held_out"
                elif contaminated:
                    reason = "held_out_copy"
                elif kept:
                    reason = "duplicate"
                else:
                    kept = True
                self.reasons[row["id"]] = reason
            older += rows
