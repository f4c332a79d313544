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
_ASCII_SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
_ENDS, _CLOSING = frozenset(".!?。！？…:：;；"), frozenset('"”’」』)）')
"""What a sentence ends with, and what may stand behind that."""
_MONEY = re.compile(r"[$€£¥￥]")
_PUNCTUATION, _ASCII_PUNCTUATION = re.compile(r"[,.;:!?，。；：！？、]"), b",.;:!?"
_CAPITALS, _DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
_START = 200
"""Characters of a block of which marks, capitals and digits are counted."""
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
_PLACE_IN_PART = _OF_PART.index("place")
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
    if text.isascii():
        return text.lower().encode().translate(None, _ASCII_SIGNS).decode()
    return _SIGNS.sub("", text.lower())


def sizes(squashed: Sequence[str]) -> np.ndarray:
    """Lengths of texts in letters."""
    return np.array([len(s) if s.isascii() else len(s) + 2 * len(WIDE.findall(s)) for s in squashed], np.float64)


def features(page: Page, squashed: list[str], taken: str, title: str) -> np.ndarray:
    """A row of FEATURES for each block, of which `squashed` are the letters; `taken` is the main text by the extractor
    below."""
    blocks, count = page.blocks, len(page.blocks)
    if not count:
        return np.zeros((0, len(FEATURES)), np.float32)
    size = sizes(squashed)
    links = np.array([block.linked / len(block.text) for block in blocks])
    took = _took(squashed, "".join(map(letters, taken.split("\n"))))
    of_block = _of_blocks(page, squashed, size, links, took, letters(title), taken)
    neighbours = _neighbours(np.stack([np.log1p(size), links, took], axis=1))
    kinds = np.zeros((count, len(_KINDS)))
    kinds[np.arange(count), [_PLACE.get(block.kind, len(_KINDS) - 1) for block in blocks]] = 1
    parts = [block.part for block in blocks]
    named = [_bits([marks[part] for part in parts]) for marks in (page.within, page.near)]
    return np.column_stack([*of_block, neighbours, _of_parts(page, size, links, took), kinds, *named]).astype(
        np.float32
    )


def _bits(marks: Sequence[int]) -> np.ndarray:
    """Of each set of MARKS a row of zeros and ones."""
    eights = np.array(marks, "<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(eights, axis=1, count=len(MARKS), bitorder="little")


def _took(squashed: list[str], taken: str) -> np.ndarray:
    """Whether each block is in the text that was taken; of a long one the half that its beginning or end is."""
    found, cursor = np.zeros(len(squashed)), 0
    thorough = len(squashed) * len(taken) <= _THOROUGH
    for place, text in enumerate(squashed):
        if not text:
            continue
        near = cursor + _NEAR + len(text)
        at = taken.find(text, cursor, len(taken) if thorough else near)
        if 0 <= at <= near - len(text):
            found[place], cursor = 1, at + len(text)
        elif thorough:
            if at >= 0 or taken.find(text, 0, cursor + len(text) - 1) >= 0:
                found[place] = 1
            elif len(text) >= 80:
                found[place] = (text[:40] in taken) / 2 + (text[-40:] in taken) / 2
    return found


def _of_blocks(
    page: Page, squashed: list[str], size: np.ndarray, links: np.ndarray, took: np.ndarray, title: str, taken: str
) -> list[np.ndarray]:
    """The columns of `_OF_BLOCK`, in their order."""
    blocks, texts = page.blocks, [block.text for block in page.blocks]
    starts = [text[:_START] for text in texts]
    marks, capitals, digits, money = np.array([*map(_counted, starts)]).T / [*map(len, starts)]
    built = [_built(page, block) for block in blocks]
    copies, alike = Counter(squashed), Counter(built)
    depths = _depths(page)
    total, place, ones = max(size.sum(), 1), np.arange(len(blocks)), np.ones(len(blocks))
    share = float((size * took).sum() / total)
    headings = [block.kind in HEADINGS for block in blocks]
    h1 = [place for place, block in enumerate(blocks) if block.kind == "h1"][:1]
    return [
        *(np.log1p(size), np.log1p([text.count(" ") for text in texts]), links, np.array([*map(_ends, texts)])),
        *(marks * 10, capitals, digits, np.minimum([text.count("\n") for text in texts], 20)),
        money > 0,
        np.array(["©" in text for text in texts]),
        np.array([bool(text) and text in title for text in squashed]),
        np.array([block.item is not None for block in blocks]),
        *(size < 5, size < 15, size < 40, size > 120, size > 400, links > 0.4, links > 0.9),
        np.log1p([copies[text] for text in squashed]),
        np.log1p([alike[how] for how in built]),
        *((np.cumsum(size) - size) / total, place / len(blocks), np.array([depths[block.part] for block in blocks])),
        *(place < h1 if h1 else ones * 0, place > h1 if h1 else ones * 0, np.array(_runs(size < 50))),
        *(np.array([False, *headings[:-1]]), np.array([*headings[1:], False])),
        *(took, took * share, (1 - took) * share, took * links, (1 - took) * np.log1p(size)),
        *(ones * share, ones * log1p(len(taken)), ones * log1p(total), ones * ((links * size).sum() / total)),
    ]


def _ends(text: str) -> bool:
    """Whether a text ends as a sentence does."""
    return text[-1] in _ENDS or (text[-1] in _CLOSING and text[-2:-1] in _ENDS)


def _runs(short: np.ndarray) -> list[int]:
    """Of each block how many short ones end with it, at most 20."""
    found, run = [], 0
    for each in short.tolist():
        run = min(run + 1, 20) if each else 0
        found.append(run)
    return found


def _counted(text: str) -> tuple[int, int, int, bool]:
    """Marks of punctuation, capitals and digits, and whether there is a sign of money."""
    if not text.isascii():
        money = _MONEY.search(text) is not None
        return len(_PUNCTUATION.findall(text)), sum(map(str.isupper, text)), sum(map(str.isdigit, text)), money
    every = text.encode()
    marks, capitals = every.translate(None, _ASCII_PUNCTUATION), every.translate(None, _CAPITALS)
    digits, length = every.translate(None, _DIGITS), len(every)
    return length - len(marks), length - len(capitals), length - len(digits), b"$" in every


def _depths(page: Page) -> list[int]:
    """Of each part in how many others it lies."""
    found = [0]
    for parent in page.parents[1:]:
        found.append(found[parent] + 1)
    return found


def _built(page: Page, block: Block) -> tuple[object, ...]:
    """How a block is built: its element and those of three parts around it, by tag and names."""
    found: list[object] = [block.kind]
    part = block.part
    while part > 0 and len(found) < 6:
        found += (page.tags[part], page.own[part])
        part = page.parents[part]
    return tuple(found)


def _neighbours(of: np.ndarray) -> np.ndarray:
    padded = np.pad(of, ((2, 2), (0, 0)))
    return np.hstack([padded[1:-3], padded[3:-1], padded[:-4], padded[4:]])


def _of_parts(page: Page, size: np.ndarray, links: np.ndarray, took: np.ndarray) -> np.ndarray:
    """Of each block the measures of the parts around it, of those that hold more blocks than the one before."""
    first, number, *sums = _held(page, np.stack([np.ones(len(size)), size, size * links, size * took]))
    measures, above = _of_part(number, *sums), _larger(page, number)
    place, found = np.arange(len(size)), list[np.ndarray]()
    part = np.array([block.part for block in page.blocks])
    part = np.where(number[part] > 1, part, above[part])
    for _ in range(_PARTS):
        rows = measures[part]
        rows[:, _PLACE_IN_PART] = (place - first[part]) / np.maximum(number[part] - 1, 1)
        found.append(rows * (part >= 0)[:, None])
        part = np.where(part >= 0, above[part], -1)
    return np.hstack(found)


def _held(page: Page, values: np.ndarray) -> np.ndarray:
    """Of each part the first block in it, and the sums of its blocks' values. A part's blocks follow each other, as do
    the parts in it, which stand behind it."""
    parts, of = len(page.parents), [block.part for block in page.blocks]
    first, end = [len(of)] * parts, [*range(1, parts + 1)]
    for place in reversed(range(len(of))):
        first[of[place]] = place
    parents = page.parents
    for part in range(parts - 1, 0, -1):
        up = parents[part]
        if first[part] < first[up]:
            first[up] = first[part]
        if end[part] > end[up]:
            end[up] = end[part]
    sums = [np.concatenate([[0], np.cumsum(np.bincount(of, each, parts))]) for each in values]
    return np.stack([np.array(first), *(each[end] - each[:-1] for each in sums)])


def _larger(page: Page, number: np.ndarray) -> np.ndarray:
    """Of each part the nearest around it that holds more blocks, -1 where there is none."""
    found, held = [-1], number.tolist()
    for part, parent in enumerate(page.parents[1:], 1):
        found.append(parent if held[parent] > held[part] else found[parent])
    return np.array(found)


def _of_part(number: np.ndarray, size: np.ndarray, linked: np.ndarray, took: np.ndarray) -> np.ndarray:
    """The measures of each part, without the place of a block in it."""
    whole, blocks = np.maximum(size, 1), np.maximum(number, 1)
    share, density = took / whole, linked / whole
    measures = np.log1p(size), density, np.log1p(number), np.log1p(size / blocks), share, size / max(size[0], 1)
    return np.stack([*measures, number * 0, share > 0.5, share == 0, density > 0.5], axis=1)
