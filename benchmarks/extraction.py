"""Extraction: pages per CPU second and F1 of the text, by every setting, beside trafilatura as it comes.

`python -m benchmarks.extraction ARCHIVE... [PAGES]`. Of `trafilatura_eval_990.tar.xz`, trafilatura's evaluation, each
page has segments that belong to its text (`with`) and that do not (`without`), looked for in the extracted text, both
normalised as documents are, runs of space made one: F1 over all segments. Of `wcxb_dev_1497.tar.xz`, the Web Content
Extraction Benchmark, each page has a gold text: F1 of the words, the mean over pages of each type and over all. Every
page goes through a child per setting in turn, so that a busy machine slows all alike; what is compared is their CPU
time, with title, date, author and site. 1 is returned where the default settings fall below .92 of the segments.
"""

from __future__ import annotations

import json
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.extraction_pages import f1, half, wcxb
from data_specs.extract import Extract
from tasks.extraction import http
from tasks.extraction.child import Child
from tasks.sources.text import normalise

FLOOR = 0.92
VARIANTS: dict[str, dict[str, Any]] = {
    "extractor: trafilatura": {},
    "extractor: trafilatura, by_page_type": {"by_page_type": True},
    "extractor: resiliparse": {"extractor": "resiliparse"},
    "extractor: resiliparse, by_page_type": {"extractor": "resiliparse", "by_page_type": True},
}


def ours(html: str, url: str, **options: Any) -> dict[str, Any]:
    """What a document gets: text, title, date, author, site."""
    from tasks.extraction.html import extract

    started = time.process_time()
    found = extract(html, url, "2024-12-31", fast=True, deepest=200, costliest=10, **options)
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


Judge = Callable[[str], dict[str, Any]]
"""What a page's extracted text comes to: of segments how many are right, wrong and missed, else an F1 by name."""


def segments(archive: str) -> Iterator[tuple[str, str, Judge]]:
    """(url, html, judge) of every page annotated with segments."""
    with tarfile.open(archive) as tar:  # once, in order: a compressed archive cannot be read in any other
        members = ((member.name.rpartition("/")[2], tar.extractfile(member)) for member in tar)
        files = {name: file.read() for name, file in members if file}
    for url, gold in json.loads(files["evaldata.json"]).items():
        if gold["file"] in files:
            wanted, unwanted = [*map(_flat, gold["with"])], [*map(_flat, gold["without"])]

            def judge(text: str, wanted: list[str] = wanted, unwanted: list[str] = unwanted) -> dict[str, Any]:
                text = _flat(text)
                right, wrong = sum(each in text for each in wanted), sum(each in text for each in unwanted)
                return {"right": right, "wrong": wrong, "missed": len(wanted) - right}

            yield url, http.text(files[gold["file"]]), judge


def words(archive: str) -> Iterator[tuple[str, str, Judge]]:
    """(url, html, judge) of every page with a gold text."""
    for page in wcxb(archive):

        def judge(text: str, page: Any = page) -> dict[str, Any]:
            score = f1(normalise(text), page.gold)
            return {"all": score, page.kind: score, f"half {half(page.name)}": score}

        yield page.url or "", page.html, judge


def _flat(text: str) -> str:
    return " ".join(normalise(text).split())


def summary(found: dict[str, list[Any]]) -> dict[str, float]:
    """F1 by name, of what pages came to."""
    if "right" in found:
        right, wrong, missed = (sum(found[name]) for name in ("right", "wrong", "missed"))
        return {"all": 2 * right / (2 * right + wrong + missed)}
    return {name: sum(scores) / len(scores) for name, scores in sorted(found.items())}


def compare(archive: str, most: int) -> float:
    """Print what each setting comes to on the first `most` pages; the F1 of the default ones."""
    limits = Extract()
    calls = {name: ("ours", options) for name, options in VARIANTS.items()} | {"trafilatura alone": ("plain", {})}
    children = {
        name: Child(f"benchmarks.extraction:{function}", limits.cpu_seconds, limits.memory, limits.wall_seconds)
        for name, (function, _) in calls.items()
    }
    seconds, scores = dict.fromkeys(calls, 0.0), {name: defaultdict[str, list[Any]](list) for name in calls}
    count, text_seconds = 0, 0.0
    for url, html, judge in (segments if "eval" in archive else words)(archive):
        for name, (_, options) in calls.items():
            answer = children[name].call(html=html, url=url, **options)
            seconds[name] += answer.get("seconds", 0.0)
            text_seconds += answer.get("text_seconds", 0.0)
            for key, value in judge(answer.get("text", "")).items():
                scores[name][key].append(value)
        count += 1
        if count == most:
            break
    for child in children.values():
        child.close()
    print(f"{archive}: {count} pages")
    for name in calls:
        found = " ".join(f"{key} {score:.4f}" for key, score in summary(scores[name]).items())
        print(f"{name}: {count / seconds[name]:.1f} pages per CPU second; F1 {found}")
    print(f"trafilatura, text alone: {count / text_seconds:.1f} pages per CPU second")
    return summary(scores["extractor: trafilatura"])["all"]


def main(*arguments: str) -> int:
    most = int(arguments[-1]) if arguments[-1].isdecimal() else sys.maxsize
    found = {archive: compare(archive, most) for archive in arguments if not archive.isdecimal()}
    return int(any(score < FLOOR for archive, score in found.items() if "eval" in archive))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
