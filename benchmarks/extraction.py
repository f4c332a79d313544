"""Extraction: pages per second of one core and F1 of the text, beside trafilatura as it comes.

`python -m benchmarks.extraction trafilatura_eval_990.tar.xz`: an archive of trafilatura's evaluation, pages and
`evaldata.json` with segments that belong to the text of a page (`with`) and that do not (`without`). Each is looked for
in the extracted text, both normalised as documents are, runs of space made one: F1 over all segments, .92 or more
wanted. Every page goes through two children in turn, one with `tasks.extraction.html`, one with trafilatura
untouched, so that a busy machine slows both alike; what is compared is their CPU time.
"""

from __future__ import annotations

import json
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

from data_specs.stages import Extract
from tasks.extraction import http
from tasks.extraction.child import Child
from tasks.sources.text import normalise

FLOOR = 0.92
Page = tuple[str, str, list[str], list[str]]


def ours(html: str, url: str) -> dict[str, Any]:
    """What a document gets: text, title, date, author, site."""
    from tasks.extraction.html import extract

    started = time.process_time()
    found = extract(html, url, "2024-12-31", fast=True, deepest=200, costliest=10)
    return {"text": found.get("text", ""), "seconds": time.process_time() - started}


def plain(html: str, url: str) -> dict[str, Any]:
    """trafilatura alone: with its metadata, and a second time without."""
    from trafilatura import bare_extraction

    dates = {"original_date": True, "extensive_search": False, "max_date": "2024-12-31"}
    started = time.process_time()
    options: dict[str, Any] = {"url": url, "fast": True, "include_comments": False}
    found = bare_extraction(html, **options, with_metadata=True, date_extraction_params=dates)
    middle = time.process_time()
    bare_extraction(html, **options)
    return {
        "text": getattr(found, "text", None) or "",
        "seconds": middle - started,
        "text_seconds": time.process_time() - middle,
    }


def pages(archive: str) -> Iterator[Page]:
    """(url, html, with, without) of every annotated page."""
    with tarfile.open(archive) as tar:  # once, in order: a compressed archive cannot be read in any other
        members = ((member.name.rpartition("/")[2], tar.extractfile(member)) for member in tar)
        files = {name: file.read() for name, file in members if file}
    for url, gold in json.loads(files["evaldata.json"]).items():
        if gold["file"] in files:
            yield url, http.text(files[gold["file"]]), gold["with"], gold["without"]


def _flat(text: str) -> str:
    return " ".join(normalise(text).split())


class Score:
    """Segments found and missed."""

    def __init__(self) -> None:
        self.right = self.wrong = self.missed = 0
        self.seconds = 0.0

    def add(self, text: str, wanted: list[str], unwanted: list[str]) -> None:
        text = _flat(text)
        found = sum(_flat(segment) in text for segment in wanted)
        self.right += found
        self.missed += len(wanted) - found
        self.wrong += sum(_flat(segment) in text for segment in unwanted)

    @property
    def f1(self) -> float:
        return 2 * self.right / (2 * self.right + self.wrong + self.missed)


def main(archive: str, most: str = "990") -> int:
    """Compare on the first `most` pages; returns 1 below the floor."""
    limits = Extract()
    children = [
        Child(f"benchmarks.extraction:{name}", limits.cpu_seconds, limits.memory, limits.wall_seconds)
        for name in ("ours", "plain")
    ]
    scores, count, same, text_seconds = [Score(), Score()], 0, 0, 0.0
    for url, html, wanted, unwanted in pages(archive):
        answers = [child.call(html=html, url=url) for child in children]
        for score, answer in zip(scores, answers, strict=True):
            score.add(answer.get("text", ""), wanted, unwanted)
            score.seconds += answer.get("seconds", 0.0)
        text_seconds += answers[1].get("text_seconds", 0.0)
        same += answers[0].get("text") == answers[1].get("text")
        count += 1
        if count == int(most):
            break
    for child in children:
        child.close()
    for name, score in zip(("sluice", "trafilatura with metadata"), scores, strict=True):
        print(f"{name}: {count / score.seconds:.1f} pages/s, F1 {score.f1:.4f}")
    print(f"trafilatura, text alone: {count / text_seconds:.1f} pages/s")
    print(f"ratio {scores[1].seconds / scores[0].seconds:.2f}; {same} of {count} texts are the same")
    return int(scores[0].f1 < FLOOR)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
