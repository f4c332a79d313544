"""Words of a list in texts, against looking for each by itself."""

from __future__ import annotations

import gzip
import random
import re
import time
from pathlib import Path

import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.document import SpecError
from tasks.filters.blocked_words import BlockedWords, Words, folded

UNSPACED = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"


def found(folder: Path, words: dict[str, str], *texts: tuple[str, str | None]) -> list[list[object]]:
    for code, lines in words.items():
        (folder / code).write_text(lines)
    stage = BlockedWords(stages.BlockedWords(words={code: str(folder / code) for code in words}))
    stage.setup()
    batch = pa.table(
        {"text": [text for text, _ in texts], "language": pa.array([code for _, code in texts], pa.string())}
    )
    return [list(row.values()) for row in stage(batch).to_pylist()]


def searched(words: list[str], text: str) -> list[tuple[str, int]]:
    """What stands where, by searching a text for each word: the first, of those the longest, before what overlaps."""
    places = []
    for word in words:
        before = "" if re.match(f"[{UNSPACED}\\W]", word[0]) else f"(?<![^\\W{UNSPACED}])"
        after = "" if re.match(f"[{UNSPACED}\\W]", word[-1]) else f"(?![^\\W{UNSPACED}])"
        places += [
            (hit.start(), -len(word), word) for hit in re.finditer(f"(?={before}{re.escape(word)}{after})", text)
        ]
    kept, reached = [], 0
    for start, length, word in sorted(places):
        if start >= reached:
            kept.append((word, start))
            reached = start - length
    return kept


def test_words_stand_alone_where_a_script_has_spaces(tmp_path: Path) -> None:
    lists = {"en": "# remark\nass\nbad Word\nass hole\n", "zh": "坏话\nav\n坏\n"}
    [one, two, three, four] = found(
        tmp_path,
        lists,
        ("An ASS, a class; bad\n word. Ass  hole!", "en"),
        ("看AV片，骂坏话，navy", "zh"),
        ("nothing", "en"),
        ("ass", "fr"),
    )
    assert one == [3, pytest.approx(19 / 36), ["ass", "bad word", "ass hole"]]
    assert two == [2, pytest.approx(4 / 13), ["av", "坏话"]]
    assert three == [0, 0.0, []]
    assert four == [None, None, None]


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        *(("कर", "वे करेंगे", False), ("करे", "वे करेंगे", False), ("कत", "ताकत", False), ("कर", "काम कर लो", True)),
        *(("كلب", "هذا كلبٌ كبير", True), ("مر", "مرَّة", False), ("שר", "שרָה", False), ("ไทย", "ภาษาไทยดี", True)),
    ],
)
def test_marks_are_parts_of_words_and_points_of_arabic_and_hebrew_none_that_tell_two_apart(
    word: str, text: str, found: bool
) -> None:
    assert bool([*Words([word]).found_in(folded(text))]) is found


def test_what_is_found_is_what_searching_for_each_word_finds() -> None:
    rng = random.Random(3)
    for _ in range(300):
        alphabet = rng.choice(["ab ", "ab坏话 ", "a b-.坏", "éa1 _"])
        words = list({folded("".join(rng.choices(alphabet, k=rng.randint(1, 4)))) for _ in range(8)} - {""})
        text = folded("".join(rng.choices(alphabet + "c", k=200)))
        some = Words(words)
        assert [(some.words[number], start) for number, start, _ in some.found_in(text)] == searched(words, text)


def test_real_lists_find_in_real_texts_what_searching_finds(shared: Path, tmp_path: Path) -> None:
    with gzip.open(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", "rt") as file:
        texts = [folded(next(file))[:3000] for _ in range(60)]
    lines = (shared / "labels" / "badwords" / "ldnoobw_en").read_text().split("\n")
    some = Words(list(dict.fromkeys(folded(line) for line in lines if line.strip())))
    whole = {text: [(some.words[number], start) for number, start, _ in some.found_in(text)] for text in texts}
    assert sum(map(len, whole.values())) > 5
    assert whole == {text: searched(some.words, text) for text in texts}


def test_no_text_and_no_list_costs_more_than_its_length(tmp_path: Path) -> None:
    began = time.process_time()
    words = Words(["a" * length for length in range(1, 60)])
    assert [*words.found_in("a" * 30_000)] == []
    assert len([*Words(["坏", "坏坏"]).found_in("坏" * 30_001)]) == 15_001
    assert time.process_time() - began < 10


def test_a_list_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"stages\.blocked_words\.words\.en: .*none cannot be read"):
        BlockedWords(stages.BlockedWords(words={"en": str(tmp_path / "none")}))
    (tmp_path / "en").write_bytes(b"\xff\xfe\x00")
    stage = BlockedWords(stages.BlockedWords(words={"en": str(tmp_path / "en")}))
    with pytest.raises(SpecError, match="is no text in UTF-8"):
        stage.setup()
