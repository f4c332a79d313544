"""Duplicates of other documents, against sets of shingles compared one by one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_specs.dedup import DuplicatesOf as Settings
from data_specs.load import SpecError
from tasks.dedup import lsh_index, minhash
from tasks.dedup.duplicates_of import DuplicatesOf
from tests import generations
from tests.commands import told

WORDS = [f"w{number}" for number in range(3000)]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[place : place + 5]) for place in range(max(1, len(words) - 4))}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def changed(rng: random.Random, text: str, words: int) -> str:
    found = text.split()
    for place in rng.sample(range(len(found)), words):
        found[place] = f"new{rng.random()}".replace(".", "x")
    return " ".join(found)


def held_against(folder: Path, texts: list[str]) -> list[tuple[str | None, float | None]]:
    stage = DuplicatesOf(Settings(index=str(folder)))
    stage.setup()
    found = stage(pa.table({"text": pa.array(texts, pa.string())}))
    return list(zip(*(found[name].to_pylist() for name in found.column_names), strict=True))


def test_similarities_are_those_of_the_sets_and_as_many_are_found_as_the_curve_says(tmp_path: Path) -> None:
    rng = random.Random(1)
    theirs = [" ".join(rng.choices(WORDS, k=150)) for _ in range(1500)]
    lsh_index.build(tmp_path, ((f"d{number}", text) for number, text in enumerate(theirs)), floor=0.7)
    ours = [changed(rng, text, rng.randrange(0, 9)) for text in theirs] + [" ".join(rng.choices(WORDS, k=150))]
    bands, rows = minhash.bands_and_rows(0.7, 128)
    wanted = missed = 0.0
    for number, (name, similarity) in enumerate(held_against(tmp_path, ours)):
        true = jaccard(ours[number], theirs[number]) if number < len(theirs) else 0.0
        if name is None:
            wanted += minhash.found_share(true, bands, rows) if true >= 0.7 else 0
            missed += true >= 0.7
        else:
            assert name == f"d{number}"
            assert similarity == pytest.approx(true, abs=1e-6)
            assert true >= 0.7
    alike = [jaccard(*pair) for pair in zip(ours, theirs, strict=False)]
    shares = np.array([minhash.found_share(each, bands, rows) for each in alike if each >= 0.7])
    spread = np.sqrt((shares * (1 - shares)).sum())
    assert len(shares) > 900
    assert abs(missed - (1 - shares).sum()) < 4 * spread + 1
    assert missed < 0.03 * len(shares)


def test_the_most_alike_is_named_and_of_equals_the_first(tmp_path: Path) -> None:
    rng = random.Random(2)
    text = " ".join(rng.choices(WORDS, k=200))
    near, nearer = changed(rng, text, 3), changed(rng, text, 1)
    lsh_index.build(tmp_path, [("near", near), ("nearer", nearer), ("same", nearer)], floor=0.5)
    assert held_against(tmp_path, [text.upper() + " !"])[0][0] == "nearer"


def test_an_index_that_is_written_over_while_it_is_in_use_is_refused(tmp_path: Path) -> None:
    """As `cp -r` of another one into its folder does: its arrays are mapped into memory."""
    rng = random.Random(3)
    texts = [" ".join(rng.choices(WORDS, k=100)) for _ in range(20)]
    for name, some in (("one", texts), ("other", texts[::-1])):
        lsh_index.build(tmp_path / name, ((f"{name}{number}", text) for number, text in enumerate(some)), floor=0.7)
    stage = DuplicatesOf(Settings(index=str(tmp_path / "one")))
    stage.setup()
    batch = pa.table({"text": pa.array(texts, pa.string())})
    assert stage(batch)["duplicates_of"].to_pylist() == [f"one{number}" for number in range(20)]
    with open(tmp_path / "one/documents.bin", "r+b") as file:
        file.write((tmp_path / "other/documents.bin").read_bytes())
    with pytest.raises(SpecError, match="has changed since this run began; run again"):
        stage(batch)


def test_texts_without_words_and_an_index_of_nothing_find_nothing(tmp_path: Path) -> None:
    lsh_index.build(tmp_path / "none", [("empty", ""), ("marks", "--- !")], floor=0.7)
    lsh_index.build(tmp_path / "one", [("a", "甲乙丙丁戊己"), ("b", "---")], floor=0.7)
    assert held_against(tmp_path / "none", ["a text", ""]) == [(None, None)] * 2
    assert held_against(tmp_path / "one", ["", "甲乙丙丁戊己。", "..."]) == [(None, None), ("a", 1.0), (None, None)]


def test_a_text_that_very_many_have_is_compared_with_few_of_them(tmp_path: Path) -> None:
    lsh_index.build(tmp_path, [(str(number), "the same few words again and again") for number in range(500)], floor=0.7)
    assert np.unique(np.fromfile(tmp_path / "documents.bin", np.uint32)).tolist() == [*range(lsh_index.MOST)]
    assert held_against(tmp_path, ["The same few words, again and again."]) == [("0", 1.0)]


def test_an_index_that_is_missing_or_was_made_anew_or_is_there_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is no index"):
        DuplicatesOf(Settings(index=str(tmp_path)))
    lsh_index.build(tmp_path / "one", [("a", "some words")], floor=0.7)
    with pytest.raises(SpecError, match="already"):
        lsh_index.build(tmp_path / "one", [], floor=0.7)
    stage = DuplicatesOf(Settings(index=str(tmp_path / "one")))
    (tmp_path / "one" / "index.json").unlink()
    lsh_index.build(tmp_path / "one", [("a", "other words")], floor=0.7)
    with pytest.raises(SpecError, match="changed"):
        stage.setup()
    assert stage.fingerprint != DuplicatesOf(Settings(index=str(tmp_path / "one"))).fingerprint


@pytest.mark.parametrize("version", [None, minhash.VERSION - 1, minhash.VERSION + 1])
def test_an_index_of_other_signatures_is_refused(tmp_path: Path, version: int | None) -> None:
    facts = lsh_index.build(tmp_path, [("a", "some words")], floor=0.7)
    facts = {name: value for name, value in facts.items() if name != "signatures"}
    (tmp_path / "index.json").write_text(json.dumps(facts if version is None else facts | {"signatures": version}))
    with pytest.raises(SpecError, match=r"signatures of another version of Sluice.* make it again"):
        DuplicatesOf(Settings(index=str(tmp_path)))


@pytest.mark.parametrize("name", ["documents", "ends", "shingles"])
def test_an_index_of_which_a_copy_broke_off_is_refused(tmp_path: Path, name: str) -> None:
    rng = random.Random(6)
    lsh_index.build(tmp_path, [(str(n), " ".join(rng.choices(WORDS, k=60))) for n in range(9)], floor=0.7)
    data = (tmp_path / f"{name}.bin").read_bytes()
    (tmp_path / f"{name}.bin").write_bytes(data[: len(data) // 16 * 8])
    with pytest.raises(SpecError, match="copy the folder again"):
        lsh_index.LshIndex(tmp_path)


@pytest.mark.parametrize("name", ["keys.bin", "documents.bin", "ends.bin", "shingles.bin", "names.arrow"])
def test_an_index_of_which_a_bit_is_flipped_is_refused(tmp_path: Path, name: str) -> None:
    rng = random.Random(6)
    lsh_index.build(tmp_path, [(str(n), " ".join(rng.choices(WORDS, k=60))) for n in range(9)], floor=0.7)
    lsh_index.LshIndex(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SpecError, match=f"{name} is not as it was written: copy the folder again"):
        lsh_index.LshIndex(tmp_path)


def test_rows_of_files_of_one_name_are_told_apart_and_a_file_that_two_patterns_match_is_read_once(
    tmp_path: Path,
) -> None:
    for name in ("en", "zh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text(json.dumps({"text": f"some words of {name}"}) + "\n")
    files = [tmp_path / "en" / "test.jsonl", tmp_path / "*" / "test.jsonl"]
    assert told("index", tmp_path / "both", *files)["indexed"] == 2
    assert lsh_index.LshIndex(tmp_path / "both").names.to_pylist() == ["en/test.jsonl:0", "zh/test.jsonl:0"]
    told("index", tmp_path / "one", files[0])
    assert lsh_index.LshIndex(tmp_path / "one").names.to_pylist() == ["test.jsonl:0"]


def test_what_an_older_corpus_or_a_file_has_goes_by_a_rule_and_theirs_stays(tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [{"text": " ".join(rng.choices(WORDS, k=120)), "url": f"https://example.org/{n}/good/"} for n in range(40)]
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    path = generations.corpus(old, [rows[:20]])
    generations.night(path)
    before = told("query", path, "select id, url from corpus where kept order by url")["rows"]
    made = told("index", tmp_path / "first", "--spec", path)
    assert made["indexed"] == len(before)

    exam = {"question": rows[30]["text"], "answer": "twelve", "extra": None}
    (tmp_path / "exam.jsonl").write_text(json.dumps(exam))
    told("index", tmp_path / "exam", tmp_path / "exam.jsonl", "--field", "question", "--field", "answer")
    other = generations.corpus(new, [rows[10:]])
    text = other.read_text().replace("rules: [", 'rules: [{old: "old_similarity >= 0.8"}, {exam: "exam is not null"}, ')
    stages = (
        f"old: {{kind: duplicates_of, index: {tmp_path}/first}}, exam: {{kind: duplicates_of, index: {tmp_path}/exam}}"
    )
    other.write_text(text.replace("stages: {", f"stages: {{{stages}, "))
    generations.night(other)
    found = told("query", other, "select url, old, exam, reason from corpus where reason in ('old', 'exam')")["rows"]
    names = dict(before)
    expected: list[list[Any]] = [[url, name, None, "old"] for name, url in names.items() if url in _urls(rows[10:20])]
    assert sorted(found) == sorted([*expected, [rows[30]["url"], None, "exam.jsonl:0", "exam"]])
    assert told("query", path, "select id, url from corpus where kept order by url")["rows"] == before

    assert "has no version 9" in told("index", tmp_path / "second", "--spec", path, "--version", 9, code=2)["error"]
    told("takedown", path, "--id", before[0][0], "--yes")
    said = told("index", tmp_path / "second", "--spec", path, code=2)["error"]
    assert "documents were taken down" in said  # and not an index of the shards that are left
    assert not (tmp_path / "second").exists()
    generations.night(path)
    assert told("index", tmp_path / "second", "--spec", path)["indexed"] == len(before) - 1


def _urls(rows: list[dict[str, str]]) -> set[str]:
    return {row["url"] for row in rows}


SUMS = [" ".join(f"x{place} {sign} y{place};" for place in range(40)) for sign in "+-"]
"""Two programs that are the same but for their symbols."""


def test_where_symbols_count_to_duplicates_they_count_to_duplicates_of_others(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in SUMS))
    told("index", tmp_path / "words", tmp_path / "sums.jsonl")
    told("index", tmp_path / "symbols", tmp_path / "sums.jsonl", "--symbols")
    batch = pa.table({"text": pa.array([*SUMS, SUMS[1]], pa.string()), "kind": ["code", "code", "text"]})
    for own, ofduplicates in ((None, "kind = 'code'"), ("kind = 'code'", None), ("kind = 'code'", "true")):
        stage = DuplicatesOf(Settings(index=str(tmp_path / "symbols"), symbols=own), ofduplicates)
        stage.setup()
        assert set(stage.reads) == {"text", "kind"}
        assert stage(batch)["duplicates_of"].to_pylist() == ["sums.jsonl:0", "sums.jsonl:1", None]
    plain = DuplicatesOf(Settings(index=str(tmp_path / "words"), symbols="false"), "kind = 'code'")
    plain.setup()
    assert plain(batch)["duplicates_of"].to_pylist() == ["sums.jsonl:0"] * 3
    assert plain.fingerprint == DuplicatesOf(Settings(index=str(tmp_path / "words"))).fingerprint
    assert plain.fingerprint != stage.fingerprint


def test_an_index_that_counts_symbols_otherwise_than_the_spec_is_refused(tmp_path: Path) -> None:
    lsh_index.build(tmp_path / "words", [("a", SUMS[0])], floor=0.7)
    lsh_index.build(tmp_path / "symbols", [("a", SUMS[0], True)], floor=0.7, symbols=True)
    with pytest.raises(
        SpecError, match=r"without symbols, which count where kind = 'code'; make it again with `--symb"
    ):
        DuplicatesOf(Settings(index=str(tmp_path / "words")), "kind = 'code'")
    with pytest.raises(SpecError, match="with symbols, which count nowhere; say `symbols`"):
        DuplicatesOf(Settings(index=str(tmp_path / "symbols")))


def test_an_index_of_a_corpus_counts_symbols_where_its_spec_says(tmp_path: Path) -> None:
    rows = [{"text": text, "url": f"https://example.org/{n}/good/"} for n, text in enumerate(SUMS)]
    path = generations.corpus(tmp_path, [rows])
    path.write_text(path.read_text().replace("keep: [length]", "keep: [length], symbols: \"url like '%/0/%'\""))
    generations.night(path, ["training.evaluate.held_out=0"])
    names = {row[1]: row[0] for row in told("query", path, "select id, url from corpus where kept")["rows"]}
    told("index", tmp_path / "index", "--spec", path)
    stage = DuplicatesOf(Settings(index=str(tmp_path / "index"), symbols="true"))
    stage.setup()
    found = stage(pa.table({"text": pa.array(SUMS, pa.string())}))["duplicates_of"].to_pylist()
    assert found == [names[rows[0]["url"]], None]
    assert "--symbols is for FILES" in told("index", tmp_path / "other", "--spec", path, "--symbols", code=2)["error"]
