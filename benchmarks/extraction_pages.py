"""Pages whose main text is known, and how a text is scored against it."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

from tasks.extraction import http

WORD = re.compile(r"\w+")


class Page(NamedTuple):
    name: str
    url: str | None
    kind: str
    """The type that it is labelled with."""
    gold: str
    html: str


def wcxb(archive: str) -> Iterator[Page]:
    """The pages of the Web Content Extraction Benchmark, in the order of their names."""
    gold, html = {}, {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if file := tar.extractfile(member):
                path = PurePath(member.name)
                if path.suffix == ".json" and path.parent.name == "ground-truth":
                    gold[path.stem] = json.loads(file.read())
                elif path.suffix == ".html":
                    html[path.stem] = file.read()
    for name, label in sorted(gold.items()):
        if name in html:
            kind, text = label["_internal"]["page_type"]["primary"], label["ground_truth"].get("main_content") or ""
            yield Page(name, label.get("url"), kind, text, http.text(html[name]))


def half(name: str) -> int:
    """0 or 1, by the page's name."""
    return hashlib.sha256(name.encode()).digest()[0] % 2


def f1(text: str, gold: str) -> float:
    """F1 of the multisets of lower-case words."""
    found, wanted = Counter(WORD.findall(text.lower())), Counter(WORD.findall(gold.lower()))
    common = sum((found & wanted).values())
    return 2 * common / (found.total() + wanted.total()) if common else float(not found and not wanted)
