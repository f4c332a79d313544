"""What a text is made of: how much of it is sentences, lists, tables, code or verse, what is said again, and what
belongs to the site around it.

No language is asked for and no word is looked up in a dictionary, so that every script is judged by the same counts: a
script without spaces has about a word in two characters. Code, formulas and addresses are counted out before shares are
taken, so that none of them counts against the sentences around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.arrays.addresses import U64, true
from tasks.arrays.hashing import seeded_hash
from tasks.engine.stage import Stage
from tasks.filters.blocks import UNSPACED, Block, Kind, blocks
from tasks.filters.phrases import CUT_OFF, EXPLICIT, FURNITURE

STRETCH = 48, 16
"""Letters of a stretch of text that is looked for again: of spaced scripts, and of those without spaces, where a letter
says about three times as much. Some ten words."""
FURNITURE_WORDS = 40
"""Words of a line that may be furniture, at most: a sentence of an article may say "log in", too."""
TAIL = 400
"""Characters at the end of a text where it may be said that the rest is elsewhere."""

_ADDRESS = re.compile(r"(?:https?|ftp)://[^\s)>\]\"'，。]+|\bwww\.[^\s)>\]\"']+")
_LINK_TARGET = re.compile(r"(?<=\])(?:\([^()\n]*\)|\[[^\[\]\n]*\])")
_SPAN = re.compile(r"`[^`\n]+`|\$[^$\n]{1,200}\$")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_]*+(?=\s|$)|[。！？।॥။።؟۔]+")
_BASE = 0x9FB21C651E98DF25
_INVERSE = pow(_BASE, -1, 2**64)


class Composition(Stage):
    """Words by kind of block, and what rules ask beside them."""

    name, version = "composition", 2  # more Chinese words of pornography
    reads = ("text",)
    writes = pa.schema(
        [
            ("content_words", pa.int32()),
            ("prose_words", pa.int32()),
            ("sentences", pa.int32()),
            ("prose_share", pa.float32()),  # of the words that are not code
            ("list_share", pa.float32()),
            ("table_share", pa.float32()),
            ("verse_share", pa.float32()),
            ("furniture_share", pa.float32()),
            ("code_share", pa.float32()),  # of the visible characters
            ("letter_share", pa.float32()),  # of letters, digits and symbols outside code
            ("repeated_share", pa.float32()),  # of letters
            ("cut_off", pa.bool_()),
            ("explicit_words", pa.int32()),
        ]
    )
    settings: stages.Composition

    def __init__(self, settings: stages.Composition) -> None:
        super().__init__(settings)
        self.where = settings.where

    def hashed_settings(self) -> dict[str, Any]:
        """Settings, and the version of Unicode that says what a letter is."""
        return super().hashed_settings() | {"unicode": unicodedata.unidata_version}

    def __call__(self, batch: pa.Table) -> pa.Table:
        texts = batch["text"].to_pylist()
        found = [[] if text is None else bare_blocks(text) for text in texts]
        furniture = _furniture(found)
        explicit = true(pc.match_substring_regex(batch["text"], EXPLICIT.pattern, ignore_case=True))
        rows = [
            {} if text is None else _measured(text, *each)
            for text, *each in zip(texts, found, furniture, explicit.tolist(), strict=True)
        ]
        return pa.table([pa.array([row.get(f.name) for row in rows], f.type) for f in self.writes], schema=self.writes)


def bare_blocks(text: str) -> list[Block]:
    """The blocks of a text without addresses, each formula and span of code a word."""
    return list(blocks(_SPAN.sub("x", _ADDRESS.sub("", _LINK_TARGET.sub("", text)))))


def _measured(text: str, found: list[Block], furniture: int, explicit: bool) -> dict[str, Any]:
    """The columns of one text by name; None for a share of nothing."""
    words = dict.fromkeys(Kind, 0)
    visible = dict.fromkeys(Kind, 0)
    for block in found:
        words[block.kind] += block.words
        visible[block.kind] += sum(map(len, block.text.split()))
    total = sum(words.values())
    rest = total - words[Kind.CODE]
    prose = words[Kind.PROSE] + words[Kind.VERSE]
    return {
        "content_words": total,
        "prose_words": prose,
        "sentences": sum(len(_SENTENCE_END.findall(b.text)) or 1 for b in found if b.kind is Kind.PROSE),
        "prose_share": _share(prose, rest),
        "list_share": _share(words[Kind.LIST], rest),
        "table_share": _share(words[Kind.TABLE], rest),
        "verse_share": _share(words[Kind.VERSE], rest),
        "code_share": _share(visible[Kind.CODE], sum(visible.values())),
        "letter_share": _letter_share("".join(block.text for block in found if block.kind is not Kind.CODE)),
        "repeated_share": repeated_share(text),
        "furniture_share": _share(furniture, rest),
        "cut_off": CUT_OFF.search(text[-TAIL:]) is not None,
        "explicit_words": len({match.lower() for match in EXPLICIT.findall(text)}) if explicit else 0,
    }


def _furniture(found: list[list[Block]]) -> list[int]:
    """Words of each text in blocks that are furniture. The phrases of all blocks are looked for at once by Arrow's
    regular expressions, in a tenth of the time of Python's."""
    text = np.repeat(np.arange(len(found)), [len(each) for each in found])
    flat = [block for each in found for block in each]
    words = np.fromiter((block.words for block in flat), np.int64, len(flat))
    short = np.array([block.words <= FURNITURE_WORDS and block.kind is not Kind.CODE for block in flat], bool)
    lines = pa.chunked_array([[block.text for block, one in zip(flat, short, strict=True) if one]], pa.string())
    furniture = true(pc.match_substring_regex(lines, FURNITURE.pattern, ignore_case=True))
    counts: list[int] = np.bincount(text[short][furniture], words[short][furniture], len(found)).astype(int).tolist()
    return counts


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _letter_share(text: str) -> float | None:
    """Letters among letters, digits and symbols; punctuation, marks on letters and the bars of tables are neither."""
    kinds: Counter[str] = Counter()
    for character, count in Counter(text).items():
        kinds[unicodedata.category(character)[0]] += 0 if character == "|" else count
    return _share(kinds["L"], kinds["L"] + kinds["N"] + kinds["S"])


def repeated_share(text: str) -> float | None:
    """Share of the letters that lie in a stretch of STRETCH letters met before in the text, whatever stands between
    letters; None for a text without letters."""
    letters = "".join(filter(str.isalpha, text.lower()))
    if not letters:
        return None
    unspaced = len(_UNSPACED.findall(letters)) > len(letters) / 2
    size = STRETCH[unspaced]
    if len(letters) <= size:
        return 0.0
    codes = np.frombuffer(letters.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    keys = windows(seeded_hash(codes, "letter"), size)
    again = np.ones(len(keys), bool)
    again[np.unique(keys, return_index=True)[1]] = False
    change = np.zeros(len(codes) + 1, np.int64)
    begins = np.flatnonzero(again)
    np.add.at(change, begins, 1)
    np.add.at(change, begins + size, -1)
    return float((np.cumsum(change[:-1]) > 0).mean())


def windows(hashes: U64, size: int) -> U64:
    """A hash of every stretch of so many in a row, at least one of which there must be."""
    powers = np.cumprod(np.full(len(hashes), _BASE, np.uint64))
    shrink = np.cumprod(np.full(len(hashes), _INVERSE, np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes * powers)])
    return (sums[size:] - sums[:-size]) * shrink[: len(hashes) - size + 1]
