"""Words replaced by those of a table, and by no others."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.document import SpecError
from tasks.augmentation.synonyms import Synonyms
from tests.tasks.scoring.test_domain_quality import documents

ENGLISH = "# words\nriver\tstream\tbrook\nlarge big huge\nBig large\n"
CHINESE = "河流 江河 溪流\n冬天\t冬季\n"


def stage(folder: Path, seed: int = 7, **settings: Any) -> Synonyms:
    (folder / "en.txt").write_text(ENGLISH)
    (folder / "zh.txt.gz").write_bytes(gzip.compress(CHINESE.encode(), mtime=0))
    tables = {"en": str(folder / "en.txt"), "zh": str(folder / "zh.txt.gz")}
    made = Synonyms(stages.Synonyms(**{"tables": tables, "share": 1, "words": 1, **settings}), seed)
    made.setup()
    return made


def table(rows: list[tuple[str, str]], kept: bool = True) -> pa.Table:
    return documents({"text": text, "language": language, "kept": kept} for text, language in rows)


def replaced(made: Synonyms, rows: list[tuple[str, str]]) -> dict[str, list[Any]]:
    return made(table(rows).select(list(made.reads))).to_pydict()


def test_words_of_the_table_are_replaced_in_the_case_they_stand_in(tmp_path: Path) -> None:
    rows = [
        ("River, LARGE\n\trivers; “large”-river!", "en"),
        ("冬天的河流很large。", "zh"),
        ("river", "de"),
        ("stones", "en"),
    ]
    found = replaced(stage(tmp_path), rows)
    [english, chinese, *others] = found["synonyms"]
    first, rest = english.split(", ", 1)
    assert first in ("Stream", "Brook")
    assert rest.split("\n")[0] in ("BIG", "HUGE")
    assert "\n\trivers; “" in rest
    assert rest[-1] == "!"
    assert chinese in ("冬季的江河很large。", "冬季的溪流很large。")
    assert others == ["", ""]
    assert found["synonyms_replaced"] == [4, 2, None, None]
    assert [each is None for each in found["synonyms_id"]] == [False, False, True, True]


def test_a_word_inside_another_is_none_and_chinese_is_split_by_its_words(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("河 江\n大 巨\n")
    made = stage(tmp_path, tables={"zh": str(tmp_path / "own.txt")})
    assert replaced(made, [("大家在河流边", "zh")])["synonyms"] == [""]
    assert replaced(made, [("河，大。", "zh")])["synonyms"] == ["江，巨。"]


def test_as_large_a_share_of_the_words_is_replaced_as_is_asked_for(tmp_path: Path) -> None:
    text = " ".join(["river and"] * 1000)
    found = replaced(stage(tmp_path, words="30%"), [(text, "en")])
    words = found["synonyms"][0].split()
    assert found["synonyms_replaced"][0] == sum(word != "river" for word in words[::2])
    assert 240 < found["synonyms_replaced"][0] < 360
    assert {*words[::2]} == {"river", "stream", "brook"}
    assert {*words[1::2]} == {"and"}
    assert found == replaced(stage(tmp_path, words="30%"), [(text, "en")])
    assert found != replaced(stage(tmp_path, words="30%", seed=8), [(text, "en")])


def test_documents_that_are_not_kept_have_none(tmp_path: Path) -> None:
    made = stage(tmp_path)
    assert made(table([("large", "en")], kept=False).select(list(made.reads)))["synonyms"].to_pylist() == [""]


def test_what_the_table_holds_is_in_the_fingerprint_and_its_place_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = stage(tmp_path / "a"), stage(tmp_path / "b")
    assert one.fingerprint == other.fingerprint
    (tmp_path / "a/en.txt").write_text(ENGLISH + "small little\n")
    assert stage_of(tmp_path / "a").fingerprint != other.fingerprint
    with pytest.raises(SpecError, match=r"tables\.en: .* has changed since this run began"):
        one.setup()


def stage_of(folder: Path) -> Synonyms:
    tables = {"en": str(folder / "en.txt"), "zh": str(folder / "zh.txt.gz")}
    return Synonyms(stages.Synonyms(tables=tables, share=1, words=1), 7)


def test_a_table_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"stages\.synonyms\.tables\.en: .*none cannot be read: No such file"):
        Synonyms(stages.Synonyms(tables={"en": str(tmp_path / "none")}), 7)
    (tmp_path / "words.txt").write_text("river stream\n\nlarge Large\n")
    made = Synonyms(stages.Synonyms(tables={"en": str(tmp_path / "words.txt")}), 7)
    with pytest.raises(SpecError, match=r"line 3 of .*words\.txt has no synonym of large"):
        made.setup()


def test_two_stages_of_the_kind_choose_other_documents_and_words(tmp_path: Path) -> None:
    rows = [("river large big " * 3, "en")] * 60
    one, other = (stage(tmp_path, share=0.5, words=0.5).called(name, {}) for name in ("first", "second"))
    assert one.fingerprint != other.fingerprint
    made = [replaced(each, rows)["synonyms"] for each in (one, other)]
    both = [pair for pair in zip(*made, strict=True) if all(pair)]
    assert 5 < len(both) < 25
    assert sum(a != b for a, b in both) > 0.9 * len(both)
