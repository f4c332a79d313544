"""How a text speaks: what holds prose together, what sells, and what stands at a door; English words, any text's lines.

Counts are over the blocks of `tasks.filters.blocks`, lines that were wrapped joined, code left out. A single number
tells little: rules weigh several, as `rules/default.yaml` does.
"""

from __future__ import annotations

import re
from statistics import median

import pyarrow as pa
import regex

from data_specs import stages
from tasks.filters.blocks import Kind
from tasks.filters.composition import bare_blocks
from tasks.filters.measured import Measured

LONG = 25
"""Words of a long line, at least: a paragraph."""
OPENING = 200
"""Words of the beginning in which different ones are counted, so that a text's length does not matter."""
FUNCTION = frozenset("""
the of and to a in is that it for as was with be by on not he his but at are this have from or had an they which one
were all we their has would been if more when who will no out so up into than them can only other time some could these
may then do any my now such like our over me even most after also did many off before must through years where much
your well down should because each just those how too good very make still own see work long here both between being
under last never same another while us might again about what there her she him you i its it's don't
""".split())  # fmt: skip
"""Words that hold sentences together, and common ones; read off frequency lists of English."""
SALES = frozenset("""
buy order free shipping price prices sale discount offer offers deals cheap best quality service services customer
customers contact call quote today professional guarantee guaranteed affordable online shop store products product click
visit website company business clients solutions experience team needs provide looking
""".split())  # fmt: skip
"""Words that offer something; from pages of shops, agencies and advertisements."""
YOU = frozenset(("you", "your", "yours"))

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_MARKS = regex.compile(r"\p{M}+")
"""Parts of words that `re` takes for what stands between them, as vowels of Indic scripts."""
_END = tuple(".!?\"”'’)。！？」』:：")
_DOOR = re.compile(
    r"\b(?:log ?in|sign ?(?:in|up)|register|subscri\w+|member\w*|account|password|trial)\b", re.IGNORECASE
)


class Style(Measured):
    """Shares of kinds of words and lines."""

    name, version = "style", 2  # a mark parts no word
    writes = pa.schema(
        [
            ("line_words", pa.float32()),  # mean
            ("median_line_words", pa.float32()),
            ("unended_share", pa.float32()),  # of words, in lines that no mark ends
            ("long_line_share", pa.float32()),  # of lines
            ("long_words_share", pa.float32()),  # of words, in these
            ("function_share", pa.float32()),  # this and what follows: of words, or for each word
            ("you_share", pa.float32()),
            ("sales_share", pa.float32()),
            ("capitalised_share", pa.float32()),
            ("door_ratio", pa.float32()),
            ("comma_ratio", pa.float32()),
            ("parenthesis_ratio", pa.float32()),
            ("quote_ratio", pa.float32()),
            ("distinct_share", pa.float32()),  # of the first OPENING words
        ]
    )
    settings: stages.Style

    def measured(self, text: str) -> dict[str, float]:
        """The columns of one text by name; none for a text without words."""
        lines = [block.text.strip() for block in bare_blocks(text) if block.kind is not Kind.CODE]
        found = [_WORD.findall(line if line.isascii() else _MARKS.sub("", line)) for line in lines]
        sizes = [len(words) for words in found]
        words = [word for line in found for word in line]
        if not words:
            return {}
        lower = [word.lower() for word in words]
        total = len(words)
        opening = lower[:OPENING]
        return {
            "line_words": total / len(lines),
            "median_line_words": float(median(sizes)),
            "unended_share": sum(n for n, line in zip(sizes, lines, strict=True) if not line.endswith(_END)) / total,
            "long_line_share": sum(n >= LONG for n in sizes) / len(lines),
            "long_words_share": sum(n for n in sizes if n >= LONG) / total,
            "function_share": sum(map(FUNCTION.__contains__, lower)) / total,
            "you_share": sum(map(YOU.__contains__, lower)) / total,
            "sales_share": sum(map(SALES.__contains__, lower)) / total,
            "capitalised_share": sum(word[0].isupper() for word in words) / total,
            "door_ratio": len(_DOOR.findall(text)) / total,
            "comma_ratio": text.count(",") / total,
            "parenthesis_ratio": text.count("(") / total,
            "quote_ratio": (text.count('"') + text.count("“")) / total,
            "distinct_share": len(set(opening)) / len(opening),
        }
