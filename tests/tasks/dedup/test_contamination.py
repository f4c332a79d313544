"""Contamination: items of evaluation sets are found however they are written, and nothing else is."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs import stages
from data_specs.document import SpecError
from tasks import registry
from tasks.dedup import contamination
from tasks.dedup.contamination import Contamination
from tasks.engine import job
from tasks.storage.pins import Pins
from tests import small
from tests.whole import go

LETTERS = "ABCD"


def words(draw: random.Random, count: int) -> str:
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=draw.randrange(2, 9))) for _ in range(count))


def items(seed: int, count: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "question": words(draw, draw.randrange(8, 40)) + "?",
            "choices": [words(draw, 7) for _ in LETTERS],
            "answer": "B",
        }
        for _ in range(count)
    ]


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def found(texts: list[str], **sets: dict[str, Any]) -> tuple[list[float], list[str | None]]:
    stage = Contamination(stages.Contamination(sets=sets))
    stage.setup()
    made = stage(pa.table({"text": texts}))
    return made["contamination"].to_pylist(), made["contamination_item"].to_pylist()


def whole(draw: random.Random, item: dict[str, Any]) -> str:
    choices = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, item["choices"], strict=True)]
    return "\n".join([item["question"], *choices, "Answer: B"])


def lettered_otherwise(draw: random.Random, item: dict[str, Any]) -> str:
    choices = draw.sample(item["choices"], 4)
    return "\n".join([item["question"], *(f"({number}) {choice}" for number, choice in enumerate(choices))])


def wrapped(draw: random.Random, item: dict[str, Any]) -> str:
    every, width = whole(draw, item).split(), draw.randrange(3, 12)
    return "\n  ".join(" ".join(every[n : n + width]) for n in range(0, len(every), width))


def question(draw: random.Random, item: dict[str, Any]) -> str:
    return item["question"]


def shouted(draw: random.Random, item: dict[str, Any]) -> str:
    return item["question"].upper().replace(" ", ", ")


@pytest.mark.parametrize("form", [whole, question, lettered_otherwise, wrapped, shouted])
def test_an_item_is_found_whole_and_named_in_any_form(form: Any, tmp_path: Path) -> None:
    draw = random.Random(7)
    rows = items(1, 300)
    texts = [f"{words(draw, 90)} {form(draw, item)} {words(draw, 90)}" for item in rows]
    shares, names = found(texts, exam={"path": written(tmp_path, rows), "fields": ["question", "choices"]})
    assert min(shares) > 0.99
    assert names == [f"exam:{number}" for number in range(300)]


def test_a_text_without_an_item_has_none_and_one_with_half_of_one_has_a_part(tmp_path: Path) -> None:
    draw = random.Random(7)
    long = words(draw, 100)
    path = written(tmp_path, [*items(1, 300), {"question": long, "choices": []}])
    half = " ".join(long.split()[:56])
    shares, names = found([words(draw, 2000), "", half], exam={"path": path, "fields": ["question"]})
    assert shares[:2] == [0, 0]
    assert names == [None, None, "exam:300"]
    assert shares[2] == pytest.approx(44 / 88, abs=0.001)


def test_a_form_that_many_questions_share_is_no_item(tmp_path: Path) -> None:
    draw = random.Random(7)
    form = words(draw, 30)
    rows = [{"question": f"{form} {words(draw, 20)}"} for _ in range(50)]
    shares, _ = found([form, f"x {rows[3]['question']} y"], exam={"path": written(tmp_path, rows)})
    assert shares == [0, pytest.approx(1)]


def test_the_answer_of_an_item_whose_question_is_null_stands_for_no_item(tmp_path: Path) -> None:
    answer = "none of the answers above is right here"
    for nothing in (None, [], ""):
        rows = [*items(1, 3), {"question": nothing, "choices": answer}]
        exam = {"path": written(tmp_path, rows), "fields": ["question", "choices"]}
        assert found([f"x y z {answer} x y z"], exam=exam) == ([0], [None])


@pytest.mark.parametrize(
    ("text", "share"),
    [("水从高处流向低处是因为什么力", 1), ("水从高处流向低处", 0), ("流向低处是因为什么力水从高处", 0)],
)
def test_short_chinese_questions_are_found_whole(text: str, share: float, tmp_path: Path) -> None:
    path = written(tmp_path, [{"question": "水从高处流向低处，是因为什么力？"}])
    assert found([f"考试题目如下。{text}。请回答上述问题"], exam={"path": path})[0] == [share]


def test_sets_are_read_of_every_form(tmp_path: Path) -> None:
    rows = [{"question": item["question"], "answer": item["answer"]} for item in items(1, 20)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    as_bytes = [{name: text.encode() for name, text in row.items()} for row in rows]  # as of writers that do not say
    pq.write_table(pa.Table.from_pylist(as_bytes), tmp_path / "b.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.DictWriter(file, ["question", "answer"]).writerows([{"question": "question", "answer": "answer"}, *rows])
    for number in range(2):
        with (tmp_path / f"part-{number}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([row["question"], row["answer"]] for row in rows[10 * number :][:10])
    texts = [f"so {row['question']} so" for row in rows]
    for name, fields in (
        ("a.jsonl.gz", ["question"]),
        ("a.parquet", ["question"]),
        ("b.parquet", ["question"]),
        ("a.csv", ["question"]),
        ("part*", [0]),
    ):
        shares, names = found(texts, exam={"path": str(tmp_path / name), "fields": fields})
        assert min(shares) > 0.99, name
        assert names == [f"exam:{number}" for number in range(20)]


def test_a_set_that_is_missing_broken_or_of_other_fields_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "broken.parquet").write_text("PAR1")
    pq.write_table(pa.table({"question": ["多少？".encode("gbk")]}), tmp_path / "gbk.parquet")
    (tmp_path / "empty.csv").write_text("question,answer\n")
    (tmp_path / "short.csv").write_text("question,answer\nwhy not,no\n")
    (tmp_path / "same.csv").write_text("question\n" + "one two three four five six seven eight\n" * 10)
    path = written(tmp_path, items(1, 2))
    for settings, said in (
        ({"path": str(tmp_path / "broken.parquet")}, "broken.parquet cannot be read as Parquet"),
        ({"path": str(tmp_path / "gbk.parquet"), "fields": ["question"]}, "row 0 has bytes where a text is asked for"),
        *(
            ({"path": str(tmp_path / f"{name}.csv"), "fields": ["question"]}, f"{name}.csv has no item that would be")
            for name in ("empty", "short", "same")
        ),
        ({"path": str(tmp_path / "none.jsonl")}, r"sets\.exam\.path: .*none\.jsonl is no file"),
        ({"path": str(tmp_path / "broken.jsonl")}, "broken.jsonl cannot be read"),
        ({"path": path, "fields": ["prompt"]}, "row 0 of .* has not all of prompt: question, choices, answer"),
    ):
        with pytest.raises(SpecError, match=said):
            found(["x"], exam=settings)


def test_a_changed_set_is_another_fingerprint_and_a_moved_one_the_same(tmp_path: Path) -> None:
    def fingerprint(path: str) -> str:
        return Contamination(stages.Contamination(sets={"exam": {"path": path}})).fingerprint

    path = written(tmp_path, items(1, 2))
    before = fingerprint(path)
    moved = tmp_path / "moved.jsonl"
    Path(path).rename(moved)
    assert fingerprint(str(moved)) == before
    moved.write_text(moved.read_text() + "\n{}")
    assert fingerprint(str(moved)) != before


def test_a_set_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = Path(written(tmp_path, items(1, 20))), contamination._items

    def items_of(*arguments: Any) -> Any:
        path.write_text(path.read_text().replace("a", "b"))
        return read(*arguments)

    stage = Contamination(stages.Contamination(sets={"one": {"path": str(path), "fields": ["question"]}}))
    monkeypatch.setattr(contamination, "_items", items_of)
    with pytest.raises(SpecError, match="has changed since this run began"):
        stage.setup()


def test_nothing_is_learned_from_what_holds_an_item(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path)
    sets = "stages.contamination={sets: {exam: {path: %s}}, threshold: 0.9}"
    before = go(spec, [sets % written(tmp_path, items(1, 3))], until="verdict")
    table = pa.concat_tables(rows(before, "text", "held_out"))
    held = [text for text, out in zip(table["text"].to_pylist(), table["held_out"].to_pylist(), strict=True) if out]
    assert len(held) > 3
    spec.write_text(spec.read_text().replace("/store", "/sealed"))
    after = go(spec, [sets % written(tmp_path, [{"question": text} for text in held[:3]])], until="verdict")
    table = pa.concat_tables(rows(after, "text", "held_out", "contamination_item"))
    found = dict(zip(table["text"].to_pylist(), table["contamination_item"].to_pylist(), strict=True))
    assert [found[text] for text in held[:3]] == ["exam:0", "exam:1", "exam:2"]
    still = {text for text, out in zip(table["text"].to_pylist(), table["held_out"].to_pylist(), strict=True) if out}
    assert not still & set(held[:3])
    assert set(held[3:]) <= still
    gates = {node.name: node.stage.where for node in registry.nodes(after.spec, Pins(after.store, after.spec.name))}
    assert all("contamination < 0.9" in str(gates[name]) for name in gates if name.startswith("learn_"))


def rows(run: Any, *columns: str) -> list[pa.Table]:
    return [job.read(run.store, files, None) for _, files in run.pipeline.files(columns)]


@pytest.mark.parametrize(
    ("name", "fields"), [("gsm8k_test.jsonl", ["question", "answer"]), ("HumanEval.jsonl.gz", ["prompt"])]
)
def test_published_items_are_found_in_real_pages_by_their_questions_and_pages_alone_hold_none(
    name: str, fields: list[str], shared: Path
) -> None:
    path = shared / "eval" / name
    opened = gzip.open if name.endswith("gz") else open
    with opened(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    with gzip.open(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", "rt") as lines:
        pages = [json.loads(line)["text"] for line, _ in zip(lines, range(3000), strict=False)]
    draw = random.Random(3)
    texts = [f"{draw.choice(pages)[:3000]}\n{wrapped_question(draw, row[fields[0]])}" for row in rows]
    shares, names = found(texts, exam={"path": str(path), "fields": fields})
    assert sum(share >= 0.5 for share in shares) >= 0.99 * len(rows)
    assert sum(each == f"exam:{number}" for number, each in enumerate(names)) >= 0.99 * len(rows)
    shares, _ = found(pages, exam={"path": str(path), "fields": fields})
    assert sum(share >= 0.5 for share in shares) <= 0.001 * len(pages)


def wrapped_question(draw: random.Random, text: str) -> str:
    return "\n".join(text.split(" ")) if draw.random() < 0.5 else text


def test_questions_of_57_subjects_are_found_from_their_tables(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "eval" / "mmlu_dev_test.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    tables = sorted(tmp_path.glob("**/test/*.csv"))
    rows = [row for table in tables for row in csv.reader(io.StringIO(table.read_text(), newline=""))]
    draw = random.Random(3)
    chosen = draw.sample(range(len(rows)), 3000)
    texts = []
    for number in chosen:
        choices = draw.sample(rows[number][1:5], 4)
        texts.append("\n".join([rows[number][0], *(f"{n}) {choice}" for n, choice in enumerate(choices))]))
    shares, _ = found(texts, mmlu={"path": f"{tmp_path}/**/test/*.csv", "fields": [0, 1, 2, 3, 4]})
    assert sum(share >= 0.5 for share in shares) >= 0.97 * len(texts)
