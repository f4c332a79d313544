"""What is known of each block of a page before it is judged: a row of numbers.

They are measures of the block (length, links, marks of punctuation), of its neighbours, of the parts it stands in, of
how often the page has such blocks, and whether the extractor below took it for main text. None depends on the language:
lengths are in letters, of which one of Chinese, Japanese or Korean counts as three.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import log1p

import numpy as np

from tasks.extraction.blocks import HEADINGS, WIDE, Block, Page
from tasks.extraction.names import MARKS

_SIGNS = re.compile(r"[\W_]+")
_ENDS = re.compile(r"[.!?。！？…:：;；][\"”’」』)）]?$")
_PUNCTUATION = re.compile(r"[,.;:!?，。；：！？、]")
_CAPITALS, _DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
_MONEY = re.compile(r"[$€£¥￥]")
_KINDS = (
    *HEADINGS,
    "p",
    "li",
    "row",
    "td",
    "dt",
    "dd",
    "div",
    "section",
    "pre",
    "figcaption",
    "summary",
    "label",
    "body",
)
_PLACE = {kind: place for place, kind in enumerate(_KINDS)}
_OF_BLOCK = (
    *(
        "size",
        "words",
        "links",
        "ends",
        "punctuation",
        "capitals",
        "digits",
        "lines",
        "money",
        "legal",
        "in_title",
        "item",
    ),
    *("size<5", "size<15", "size<40", "size>120", "size>400", "links>.4", "links>.9"),
    *("copies", "alike", "place", "order", "depth", "before_h1", "after_h1", "run", "after_heading", "before_heading"),
    *(
        "taken",
        "taken*share",
        "left*share",
        "taken*links",
        "left*size",
        "share",
        "taken_size",
        "page_size",
        "page_links",
    ),
)
_OF_NEIGHBOUR = ("size", "links", "taken")
_OF_PART = ("size", "links", "blocks", "mean", "taken", "share", "place", "taken>.5", "taken=0", "links>.5")
_NEAR = 20_000
"""Letters of the extractor's text behind the last block that was found there, in which the next is sought first."""
_THOROUGH = 2 * 10**9
"""Blocks times letters up to which a block that is not near is sought in all of the extractor's text."""
_PARTS = 4
"""Parts around a block that are measured: those that hold more blocks than the one before."""
FEATURES = (
    *_OF_BLOCK,
    *(f"{side}_{name}" for side in ("previous", "next", "previous2", "next2") for name in _OF_NEIGHBOUR),
    *(f"part{level}_{name}" for level in range(_PARTS) for name in _OF_PART),
    *(f"kind_{kind}" for kind in _KINDS),
    *(f"within_{name}" for name in MARKS),
    *(f"near_{name}" for name in MARKS),
)


def letters(text: str) -> str:
    """A text without what is no letter or digit, in lower case: by this texts are compared."""
    return _SIGNS.sub("", text.lower())


def sizes(squashed: Sequence[str]) -> np.ndarray:
    """Lengths of texts in letters."""
    return np.array([len(s) if s.isascii() else len(s) + 2 * len(WIDE.findall(s)) for s in squashed], np.float64)


def features(page: Page, taken: str, title: str) -> np.ndarray:
    """A row of FEATURES for each block; `taken` is the main text by the extractor below."""
    blocks, count = page.blocks, len(page.blocks)
    if not count:
        return np.zeros((0, len(FEATURES)), np.float32)
    squashed = [letters(block.text) for block in blocks]
    size = sizes(squashed)
    links = np.array([block.linked / len(block.text) for block in blocks])
    took = _took(squashed, letters(taken))
    of_block = _of_blocks(page, squashed, size, links, took, letters(title), taken)
    neighbours = _neighbours(np.stack([np.log1p(size), links, took], axis=1))
    kinds = np.zeros((count, len(_KINDS)))
    kinds[np.arange(count), [_PLACE.get(block.kind, len(_KINDS) - 1) for block in blocks]] = 1
    parts = [block.part for block in blocks]
    bits = np.arange(len(MARKS), dtype=np.uint64)
    named = [(np.array(marks, np.uint64)[parts][:, None] >> bits) & np.uint64(1) for marks in (page.within, page.near)]
    return np.hstack([of_block, neighbours, _of_parts(page, size, links, took), kinds, *named]).astype(np.float32)


def _took(squashed: list[str], taken: str) -> np.ndarray:
    """Whether each block is in the text that was taken; of a long one the half that its beginning or end is."""
    found, cursor = np.zeros(len(squashed)), 0
    thorough = len(squashed) * len(taken) <= _THOROUGH
    for place, text in enumerate(squashed):
        at = taken.find(text, cursor, cursor + _NEAR + len(text)) if text else -1
        if at >= 0:
            found[place], cursor = 1, at + len(text)
        elif text and thorough:
            if text in taken:
                found[place] = 1
            elif len(text) >= 80:
                found[place] = (text[:40] in taken) / 2 + (text[-40:] in taken) / 2
    return found


def _of_blocks(
    page: Page, squashed: list[str], size: np.ndarray, links: np.ndarray, took: np.ndarray, title: str, taken: str
) -> np.ndarray:
    blocks, count = page.blocks, len(page.blocks)
    total = max(size.sum(), 1)
    share = float((size * took).sum() / total)
    copies = Counter(squashed)
    built = [_built(page, block) for block in blocks]
    alike = Counter(built)
    h1 = next((place for place, block in enumerate(blocks) if block.kind == "h1"), None)
    heading = [*(block.kind in HEADINGS for block in blocks), False]
    before = np.concatenate([[0], np.cumsum(size)])[:-1] / total
    run, rows = 0, []
    page_links, page_size, taken_size = float((links * size).sum() / total), log1p(total), log1p(len(taken))
    logs, starts = np.log1p(size).tolist(), before.tolist()
    measured = zip(blocks, squashed, size.tolist(), links.tolist(), took.tolist(), built, strict=True)
    for place, (block, letters_of_it, long, linked, took_it, how) in enumerate(measured):
        text = block.text
        start = text[:200]
        capitals, digits = _counted(start)
        run = min(run + 1, 20) if long < 50 else 0
        rows.append(
            (
                *(logs[place], log1p(text.count(" ")), linked, bool(_ENDS.search(text))),
                *(len(_PUNCTUATION.findall(start)) / len(start) * 10, capitals / len(start), digits / len(start)),
                *(min(text.count("\n"), 20), bool(_MONEY.search(start)), "©" in text),
                *(bool(letters_of_it) and letters_of_it in title, block.item is not None),
                *(long < 5, long < 15, long < 40, long > 120, long > 400, linked > 0.4, linked > 0.9),
                *(log1p(copies[letters_of_it]), log1p(alike[how]), starts[place], place / count),
                *(_depth(page, block.part), h1 is not None and place < h1, h1 is not None and place > h1, run),
                *(heading[place - 1], heading[place + 1], took_it, took_it * share, (1 - took_it) * share),
                *(took_it * linked, (1 - took_it) * logs[place], share, taken_size, page_size, page_links),
            )
        )
    return np.array(rows, np.float64)


def _counted(text: str) -> tuple[int, int]:
    """Capitals and digits."""
    if text.isascii():
        found = text.encode()
        return len(found) - len(found.translate(None, _CAPITALS)), len(found) - len(found.translate(None, _DIGITS))
    return sum(map(str.isupper, text)), sum(map(str.isdigit, text))


def _depth(page: Page, part: int) -> int:
    found = 0
    while part > 0:
        part, found = page.parents[part], found + 1
    return found


def _built(page: Page, block: Block) -> tuple[object, ...]:
    """How a block is built: its element and those of three parts around it, by tag and names."""
    found: list[object] = [block.kind]
    part = block.part
    while part > 0 and len(found) < 4:
        found.append((page.tags[part], page.own[part]))
        part = page.parents[part]
    return tuple(found)


def _neighbours(of: np.ndarray) -> np.ndarray:
    padded = np.pad(of, ((2, 2), (0, 0)))
    return np.hstack([padded[1:-3], padded[3:-1], padded[:-4], padded[4:]])


def _of_parts(page: Page, size: np.ndarray, links: np.ndarray, took: np.ndarray) -> np.ndarray:
    """Of each block the measures of the parts around it."""
    parts, count, of = len(page.parents), len(size), [block.part for block in page.blocks]
    sums = np.zeros((parts, 4))
    np.add.at(sums, of, np.stack([size, size * links, np.ones(count), size * took], axis=1))
    first, last = [count] * parts, [-1] * parts
    for place, part in enumerate(of):
        first[part], last[part] = min(first[part], place), place
    table = sums.tolist()
    for part in range(parts - 1, 0, -1):  # a part stands behind those that it lies in
        up, row = page.parents[part], table[part]
        above = table[up]
        for column in range(4):
            above[column] += row[column]
        first[up], last[up] = min(first[up], first[part]), max(last[up], last[part])
    total = max(table[0][0], 1.0)
    known: list[tuple[float, ...] | None] = [None] * parts
    rows = []
    for place, part in enumerate(of):
        row, seen = [], 1.0
        while part >= 0 and len(row) < _PARTS * len(_OF_PART):
            number = table[part][2]
            if number > seen:
                seen, of_part = number, known[part]
                if of_part is None:
                    known[part] = of_part = _of_part(table[part], total)
                at = (place - first[part]) / max(last[part] - first[part], 1)
                row += (*of_part[:6], at, *of_part[6:])
            part = page.parents[part]
        rows.append(row + [0.0] * (_PARTS * len(_OF_PART) - len(row)))
    return np.array(rows, np.float64)


def _of_part(sums: list[float], total: float) -> tuple[float, ...]:
    """What is known of a part that does not hang on the block; the place of the block in it stands between."""
    size, linked, number, took = sums
    whole = max(size, 1.0)
    share, density = took / whole, linked / whole
    measures = log1p(size), density, log1p(number), log1p(size / number), share, size / total
    return (*measures, share > 0.5, share == 0, density > 0.5)
