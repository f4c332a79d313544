"""Classifiers from labelled texts: what is learned, what is told of it, and what the stage gives documents."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from data_specs import stages
from data_specs.document import SpecError
from flows.learn import card, learned
from tasks.scoring import labelled
from tasks.scoring.classify import Classify
from tests.small import chinese, english


def posts(count: int = 300, seed: int = 1) -> list[dict[str, str]]:
    """Texts of two languages and shops, which their address alone tells from the English ones."""
    rng = random.Random(seed)
    made = {"en": english, "zh": chinese, "Shop / ads": english}
    rows = []
    for number in range(count):
        label = [*made][number % 3]
        host = "shop.example" if label == "Shop / ads" else f"site{number}.example"
        rows.append({"text": made[label](rng, 3), "label": label, "url": f"https://{host}/a/{number}"})
    return rows


def written(path: Path, rows: list[dict[str, str]]) -> str:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


def made(folder: Path, rows: list[dict[str, str]], url: str | None = None) -> dict[str, Any]:
    path = written(folder / "posts.jsonl.gz", rows)
    return learned(str(folder / "model.bin"), path, None, None, "text", "label", url, {"zh": "Chinese"}, 5)


def stage(folder: Path) -> Classify:
    found = Classify(stages.Classify(model=str(folder / "model.bin")))
    found.setup()
    return found


def test_a_learned_classifier_gives_each_document_a_label_and_probabilities(tmp_path: Path) -> None:
    facts = made(tmp_path, posts(), "url")
    assert facts["labels"] == ["Chinese", "Shop / ads", "en"]
    assert facts["documents"] == {"train": 216, "dev": 24, "test": 60}
    assert facts["test"]["accuracy"] > 0.9
    assert sum(map(sum, facts["test"]["confusion"])) == 60
    classify = stage(tmp_path)
    rows = [*posts(30, 2), {"text": "", "url": None}]
    found = classify(pa.table({name: [row[name] for row in rows] for name in ("text", "url")})).to_pydict()
    assert [*found] == ["classify", "classify_chinese", "classify_shop_ads", "classify_en"]
    labels = [{"zh": "Chinese"}.get(row["label"], row["label"]) for row in rows[:-1]]
    assert np.mean([a == b for a, b in zip(found["classify"], labels, strict=False)]) > 0.9
    each = np.array([found[name][:-1] for name in [*found][1:]])
    assert np.abs(each.sum(axis=0) - 1).max() < 1e-3
    assert {found[name][-1] for name in found} == {None}
    page = (tmp_path / "model.md").read_text()
    assert page == card("model", facts)
    assert "| **Shop / ads** |" in page


def noise(count: int, seed: int) -> list[dict[str, str]]:
    """Texts that say nothing of their labels."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        text = " ".join(f"w{rng.randrange(10**6)}" for _ in range(8))
        rows.append({"text": text, "label": rng.choice("ab"), "url": ""})
    return rows


def test_a_text_that_stands_in_several_rows_is_not_tested_with_what_was_learned_from_it(tmp_path: Path) -> None:
    once = noise(150, 3)
    again = [row | {"text": f" {row['text'].upper()}\n"} for row in once]
    assert 0.25 < made(tmp_path, [*once, *again])["test"]["accuracy"] < 0.75
    train, test = written(tmp_path / "train.gz", [*once, *noise(100, 4)]), written(tmp_path / "test.gz", again)
    facts = learned(str(tmp_path / "m.bin"), train, None, test, "text", "label", None, {}, 5)
    assert (facts["documents"]["test"], facts["left_out"]) == (150, 150)
    assert facts["test"]["accuracy"] < 0.75
    assert "150 to train with are left out, as they are among the others" in (tmp_path / "m.md").read_text()


def test_the_same_file_makes_the_same_model_and_another_one_another_fingerprint(tmp_path: Path) -> None:
    made(tmp_path, posts())
    first, before = (tmp_path / "model.bin").read_bytes(), stage(tmp_path).fingerprint
    made(tmp_path, posts())
    assert ((tmp_path / "model.bin").read_bytes(), stage(tmp_path).fingerprint) == (first, before)
    assert stage(tmp_path).reads == ("text",)
    made(tmp_path, posts(240))
    assert stage(tmp_path).fingerprint != before


def test_what_is_measured_is_what_scikit_learn_measures() -> None:
    rng = np.random.default_rng(2)
    truth, scores = rng.random(400) < 0.3, np.round(rng.random(400), 1)
    assert labelled.area(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    assert labelled.area(np.ones(3, bool), np.ones(3)) is None
    rows: labelled.Rows = [(row["text"], "", row["label"]) for row in posts(90)]
    _, model = labelled._trained(rows, ["Shop / ads", "en", "zh"], labelled.CHOICES[0], 1)
    names = ["Shop / ads", "en", "zh"]
    found = labelled.measured(model, names, rows)
    given = labelled.probabilities(model, [row[0] for row in rows], [""] * len(rows), 3).argmax(axis=1)
    assert found["confusion"] == confusion_matrix([names.index(row[2]) for row in rows], given).tolist()


def test_texts_without_words_or_of_labels_that_were_not_learned_count_as_wrong_and_are_told(tmp_path: Path) -> None:
    rows = posts(120)
    odd = [{"text": "", "label": "Shop / ads"}] * 3 + [{"text": row["text"], "label": "zh-TW"} for row in posts(9, 4)]
    train, test = written(tmp_path / "train.gz", rows), written(tmp_path / "test.gz", [*posts(30, 5), *odd])
    facts = learned(str(tmp_path / "m.bin"), train, None, test, "text", "label", None, {}, 5)
    confusion = facts["test"]["confusion"]
    assert (facts["documents"]["test"], sum(map(sum, confusion))) == (42, 30)
    assert facts["test"]["accuracy"] == pytest.approx(np.trace(np.array(confusion)) / 42)
    assert "12 to test count as wrong" in (tmp_path / "m.md").read_text()


def test_files_of_every_form_are_read_and_others_named(tmp_path: Path) -> None:
    rows = posts(6)
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label", "url"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    paths = [written(tmp_path / "a.jsonl.gz", rows), str(tmp_path / "a.csv"), str(tmp_path / "a.parquet")]
    assert [labelled.read(path, "text", "label", "url") for path in paths] == [
        [(row["text"], row["url"], row["label"]) for row in rows]
    ] * 3
    with pytest.raises(SpecError, match=r"row 0 has no `topic`; its fields are text, label, url"):
        labelled.read(paths[0], "text", "topic")
    with pytest.raises(SpecError, match="cannot be read"):
        labelled.read(str(tmp_path / "none.csv"), "text", "label")
    with pytest.raises(SpecError, match="two labels or more"):
        learned(
            str(tmp_path / "m.bin"),
            written(tmp_path / "b.jsonl.gz", rows[:1] * 30),
            *[None] * 2,
            "text",
            "label",
            None,
            {},
            0,
        )
    with pytest.raises(SpecError, match=r"model\.json, which says what the model is"):
        Classify(stages.Classify(model=str(tmp_path / "model.bin")))


def test_offensive_posts_are_told_apart(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fifth of COLD's posts, with the settings that are best on all of them; `benchmarks/classifiers.py` learns
    from all."""
    monkeypatch.setattr(labelled, "CHOICES", labelled.CHOICES[1:2])
    rows = labelled.read(str(shared / "labels" / "coldataset_train.jsonl.gz"), "text", "label")[::5]
    parts = [
        labelled.read(str(shared / "labels" / f"coldataset_{part}.jsonl.gz"), "text", "label")
        for part in ("dev", "test")
    ]
    _, facts = labelled.learn(rows, parts[0][:500], parts[1], 0)
    assert facts["test"]["accuracy"] > 0.75
    assert facts["test"]["auc"]["1"] > 0.83
