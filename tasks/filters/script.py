"""Scripts of documents: which one most letters are of, and of Chinese whether it is simplified or traditional."""

from __future__ import annotations

from functools import cache

import numpy as np
import opencc
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from tasks.engine.stage import Stage

SCRIPTS = {
    code: rf"\p{{{name}}}"
    for code, name in {
        "Latn": "Latin", "Cyrl": "Cyrillic", "Grek": "Greek", "Arab": "Arabic", "Hebr": "Hebrew", "Deva": "Devanagari",
        "Beng": "Bengali", "Taml": "Tamil", "Telu": "Telugu", "Gujr": "Gujarati", "Knda": "Kannada",
        "Mlym": "Malayalam", "Guru": "Gurmukhi", "Sinh": "Sinhala", "Thai": "Thai", "Laoo": "Lao", "Khmr": "Khmer",
        "Mymr": "Myanmar", "Tibt": "Tibetan", "Geor": "Georgian", "Armn": "Armenian", "Ethi": "Ethiopic",
        "Mong": "Mongolian", "Kore": "Hangul", "Hani": "Han",
    }.items()
} | {"Jpan": r"\p{Hiragana}\p{Katakana}\x{30FC}\x{FF70}"}  # fmt: skip
"""ISO 15924's code -> the class of the script's characters; of Japanese that of its own ones and of the mark that makes
a vowel long."""
_NO_LETTER = r"[^\p{L}\p{M}]+|\p{Inherited}+"
"""What is no letter, nor a mark of one script alone: vowels of Indic scripts are some, accents and points are none."""
_JAPANESE = 0.05
"""Share of kana in the letters of a text of kana and Han characters from which it is Japanese."""


class Script(Stage):
    """The script of most letters, as ISO 15924 codes it.

    `script`: `Latn`, `Cyrl`, ...; `Jpan` for kana and Han characters, `Kore` for Hangul; `Hans` or `Hant` for Han
    characters by which of the two has more that the other writes otherwise (OpenCC's tables), `Hani` where neither has
    more; `Zyyy` for letters of no script that is known here; null for a text without a letter. `script_share`: its
    share in all letters, with those marks of its script that are written as such. Judged are the first
    `settings.characters` characters.
    """

    name, version = "script", 2  # digits and punctuation of a script are no letters; accents and points count nowhere
    libraries = ("opencc", "pyarrow")
    reads = ("text",)
    writes = pa.schema([("script", pa.string()), ("script_share", pa.float32())])
    settings: stages.Script

    def __init__(self, settings: stages.Script) -> None:
        super().__init__(settings)
        self.where = settings.where

    def __call__(self, batch: pa.Table) -> pa.Table:
        leading = pc.utf8_slice_codeunits(batch["text"], 0, self.settings.characters)
        bare = pc.replace_substring_regex(leading, _NO_LETTER, "")
        letters = pc.utf8_length(bare).to_numpy()
        counts = np.stack([_count(bare, name) for name in SCRIPTS.values()], axis=1)
        kana, han = (counts[:, list(SCRIPTS).index(code)] for code in ("Jpan", "Hani"))
        japanese = kana > _JAPANESE * (kana + han)
        kana += np.where(japanese, han, 0)
        han[japanese] = 0
        found = np.array([*SCRIPTS], object)[counts.argmax(axis=1)]
        found[counts.max(axis=1) == 0] = "Zyyy"
        chinese = np.flatnonzero(found == "Hani")
        if len(chinese):
            found[chinese] = _written(leading.take(pa.array(chinese)))
        share = counts.max(axis=1) / np.maximum(letters, 1)
        none = letters == 0
        columns = [pa.array(found, pa.string(), mask=none), pa.array(share, pa.float32(), mask=none)]
        return pa.table(columns, schema=self.writes)


def _written(texts: pa.ChunkedArray) -> np.ndarray:
    """`Hans`, `Hant` or `Hani` of each Chinese text."""
    simplified, traditional = (_count(texts, characters) for characters in _apart())
    return np.where(simplified > traditional, "Hans", np.where(traditional > simplified, "Hant", "Hani"))


def _count(texts: pa.ChunkedArray, characters: str) -> np.ndarray:
    """int64 [texts]: how many characters each has of a class."""
    return pc.count_substring_regex(texts, f"[{characters}]").to_numpy().copy()


@cache
def _apart() -> tuple[str, str]:
    """Characters that simplified and that traditional Chinese writes otherwise, by OpenCC: 门 of the one, 門 of the
    other. Some of the first, such as 后, traditional texts have too, but far fewer than of the second."""
    to_simplified, to_traditional = opencc.OpenCC("t2s"), opencc.OpenCC("s2t")
    every = [chr(code) for code in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000))]
    traditional = "".join(each for each in every if to_simplified.convert(each) != each)
    return "".join(each for each in every if to_traditional.convert(each) != each), traditional
