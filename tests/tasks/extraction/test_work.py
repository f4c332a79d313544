"""What a page may cost is a measure of the page: pages made to be dear are refused before they are extracted."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trafilatura.utils import load_html

from tasks.extraction import http
from tasks.extraction.html import extract
from tasks.extraction.work import work

LINE = "The river runs over gravel and sand in summer. "
PAGES: dict[str, Callable[[int], str]] = {
    "paragraphs": lambda n: f"<p>{LINE}</p>" * n,
    "headings": lambda n: "".join(f"<h2>{i}</h2><p>{LINE}</p>" for i in range(n // 2)),
    "code": lambda n: "".join(f"<pre>c{i}</pre><p>{i}</p><blockquote>q{i}</blockquote>" for i in range(n // 3)),
    "links in containers": lambda n: "<div>" * 190 + "<div><a href=x>l</a> t</div>" * (n // 2),
    "one row": lambda n: "<table><tr>" + "<td>x</td>" * n + "</tr></table>",
    "loose cells": lambda n: "<table><tr><td>x</td></tr>" + "<td>x</td>" * n + "</table>",
    "spanning cells": lambda n: "<table>" + "<tr><td rowspan=100 colspan=100>x</td></tr>" * (n // 2) + "</table>",
    "lists in a quote": lambda n: "<blockquote>" + "".join(f"<ul></ul>tail {i} " for i in range(n)) + "</blockquote>",
    "text": lambda n: f"<p>{LINE * n}</p>",
}


def page(kind: str, size: int) -> str:
    return f"<html><head><title>T</title></head><body>{PAGES[kind](size)}</body></html>"


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_costs_no_more_than_its_measure_says(kind: str) -> None:
    size = 50_000
    html = page(kind, size)
    while (found := work(load_html(html), len(html), 10**9)).total > 10**6:
        size //= 2
        html = page(kind, size)
    started = time.process_time()
    extract(html, None, None, fast=True, deepest=255, costliest=1)
    assert time.process_time() - started < 4 * found.total / 10**6 + 0.5  # four times: `cpu_seconds` over `costliest`


@pytest.mark.parametrize("kind", ["paragraphs", "links in containers", "one row", "spanning cells", "lists in a quote"])
def test_pages_that_would_cost_minutes_are_refused_at_once(kind: str) -> None:
    html = page(kind, 120_000)
    started = time.process_time()
    found = extract(html, None, None, fast=True, deepest=255, costliest=10)
    assert found["reason"] == "too_costly"
    assert found["work"]["elements"] > 100_000
    assert time.process_time() - started < 5


def test_spans_are_numbers_of_any_kind() -> None:
    cells = "".join(f"<td colspan='{span}'>x</td>" for span in ("9" * 5000, "0007", "٣", "²", "-1", "", "x"))
    found = work(load_html(f"<html><body><table><tr>{cells}</tr></table></body></html>"), 0, 10**9)
    assert found.cells == 100 + 100 + 3 + 4


def test_json_that_is_broken_at_length_costs_a_page_its_json_alone() -> None:
    broken = '<script type="application/ld+json">{"author": "' + '"author": "' * 20_000 + "</script>"
    html = f"<html><head><title>T</title>{broken}</head><body><p>{LINE * 20}</p></body></html>"
    started = time.process_time()
    found = extract(html, None, None, fast=True, deepest=255, costliest=10)
    assert time.process_time() - started < 5
    assert found["title"] == "T"
    assert found["text"].startswith("The river runs")


@pytest.mark.slow
@pytest.mark.parametrize("archive", ["trafilatura_eval_990", "wcxb_dev_1497"])
def test_no_page_of_the_web_is_refused(shared: Path, archive: str) -> None:
    found = []
    with tarfile.open(shared / "html" / f"{archive}.tar.xz") as pages:
        for member in pages:
            file = pages.extractfile(member)
            if file is not None and not member.name.endswith(".json"):
                html = http.text(file.read())
                tree = load_html(html)
                found += [] if tree is None else [work(tree, len(html), 10**7).total]
            if len(found) == 150:  # of all of them, none
                break
    assert len(found) == 150
    assert max(found) < 10**7
