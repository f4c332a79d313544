"""What a text looks like, character by character: what published rules for code and for Chinese web text ask.

Counts are those of the publications: lines and letters of StarCoder's basic filters (Li et al. 2023), encoded data of
StarCoder 2 (Lozhkov et al. 2024), ideographs and repeated 13-grams of ChineseWebText (Chen et al. 2023).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs import stages
from tasks.arrays.hashing import seeded_hash
from tasks.filters.composition import windows
from tasks.filters.measured import Measured

HEAD = 100
"""Characters in which an XML declaration is looked for."""
GRAM = 13
"""Characters of a stretch that repeats, white space left out."""

_ENCODED = re.compile(
    r"[a-zA-Z0-9+/\n=]{64,}"  # base64
    r"|(?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}"  # bytes in hexadecimal
    r"|(?:\\u[0-9a-fA-F]{4}){8,}"
)
_BLANK = str.maketrans("", "", " \n\t")


class Surface(Measured):
    """Lengths of lines, shares of characters, encoded data, and repetition."""

    name, version = "surface", 1
    writes = pa.schema(
        [
            ("newlines", pa.int32()),
            ("longest_line", pa.int32()),  # characters
            ("mean_line_length", pa.float32()),
            ("alphanumeric_share", pa.float32()),  # this and the next two: of all characters
            ("alphabetic_share", pa.float32()),
            ("han_share", pa.float32()),
            ("xml_declaration", pa.bool_()),
            ("encoded_share", pa.float32()),
            ("longest_encoded", pa.int32()),
            ("repeated_13gram_share", pa.float32()),
        ]
    )
    settings: stages.Surface

    def measured(self, text: str) -> dict[str, Any]:
        """The columns of one text by name; no shares of an empty one."""
        if not text:
            return {"newlines": 0, "longest_line": 0, "xml_declaration": False, "longest_encoded": 0}
        lengths = [len(line) for line in text.splitlines()]
        counts = Counter(text)
        encoded = [len(match[0]) for match in _ENCODED.finditer(text)]
        return {
            "newlines": counts["\n"],
            "longest_line": max(lengths),
            "mean_line_length": sum(lengths) / len(lengths),
            "alphanumeric_share": sum(n for character, n in counts.items() if character.isalnum()) / len(text),
            "alphabetic_share": sum(n for character, n in counts.items() if character.isalpha()) / len(text),
            "han_share": sum(n for character, n in counts.items() if "\u4e00" <= character <= "\u9fa5") / len(text),
            "xml_declaration": "<?xml version=" in text[:HEAD],
            "encoded_share": sum(encoded) / len(text),
            "longest_encoded": max(encoded, default=0),
            "repeated_13gram_share": _repeated(text),
        }


def _repeated(text: str) -> float:
    """Share of the 13-grams that are there twice or more; as published, the last one of a text is not looked at."""
    bare = text.strip().lower().translate(_BLANK)
    codes = np.frombuffer(bare.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    if len(codes) <= GRAM:
        return 0.0
    _, counts = np.unique(windows(seeded_hash(codes, "character"), GRAM)[:-1], return_counts=True)
    return float(counts[counts > 1].sum() / counts.sum())
