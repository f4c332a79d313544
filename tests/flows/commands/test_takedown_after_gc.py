"""Takedowns of documents that `gc` removed from the store, while plans keep their tokens, or pins their texts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tasks.storage import columns
from tasks.storage.store import Store
from tests import generations, small
from tests.commands import ask, told
from tests.generations import documents
from tests.holding import holding
from tests.whole import go

WORD = "zanquibal"
PAGES = [
    {"text": small.english(random.Random(number), 40), "url": f"https://example.org/{number}/good"}
    for number in range(12)
]
GONE = {"text": f"The {WORD} of it.\n{small.english(random.Random(99), 40)}", "url": "https://gone.example.net/page"}
SETTINGS = (
    "mixture.tokens=4096",
    "training.sequence=64",
    "training.batch.tokens=512",
    "training.batch.micro=4",
    "training.workers=1",
    "training.evaluate.tokens=512",
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A corpus of two files with a plan; the word stands in the last document of the second."""
    generations.write(tmp_path, "one", PAGES[:6])
    generations.write(tmp_path, "two", [*PAGES[6:], GONE])
    path = generations.spec(tmp_path)
    go(path, SETTINGS)
    return path


def another_state(spec: Path) -> str:
    """The second file has other lines, and gc removes what was; the id that the document had."""
    [name] = [name for name, row in documents(spec).items() if row["url"] == GONE["url"]]
    generations.write(spec.parent, "two", PAGES[6:])
    go(spec, SETTINGS)
    ask("gc", spec, "--yes")
    assert not holding(spec.parent / "store", [WORD])
    return name


def tokens(spec: Path) -> dict[str, list[np.ndarray]]:
    """Token file -> the tokens of each of its documents."""
    store = Store(str(spec.parent / "store"))
    found = (path for path in store.walk("tokens") if path.endswith(".arrow"))
    return {path: [np.array(row) for row in columns.read(store, path)["tokens"].to_pylist()] for path in found}


@pytest.mark.parametrize("by", ["id", "url", "domain"])
def test_tokens_that_a_plan_keeps_go_with_a_document_that_gc_removed(spec: Path, by: str) -> None:
    before = tokens(spec)
    name = another_state(spec)
    assert set(before) <= set(tokens(spec))  # plans read them
    asked = {"id": name, "url": GONE["url"], "domain": "example.net"}[by]
    found = told("takedown", spec, f"--{by}", asked)
    assert [row["id"] for row in found["documents"]] == [name]
    found = told("takedown", spec, f"--{by}", asked, "--yes")
    assert (found["count"], found["unmet"]) == (1, [])
    assert found["named"]["versions"] == {"nightly": [1]}
    changed = 0
    for path, rows in tokens(spec).items():
        zeros = [row for row in rows if len(row) and not row.any()]
        assert len(zeros) == (path in before and len(rows) == 7)
        changed += len(zeros)
    assert changed == 1
    again = told("takedown", spec, f"--{by}", asked, "--yes")
    assert (again["state"], again["count"]) == ("known", 0)


@pytest.mark.parametrize("collected", [True, False])
def test_tokens_of_what_stands_in_the_place_of_a_document_stay(spec: Path, collected: bool) -> None:
    before = tokens(spec)
    edit = {"text": f"An edit of it.\n{small.english(random.Random(98), 40)}", "url": "https://example.org/new/good"}
    generations.write(spec.parent, "two", [*PAGES[6:], edit])
    go(spec, SETTINGS)
    if collected:
        ask("gc", spec, "--yes")
    found = told("takedown", spec, "--url", GONE["url"], "--yes")
    assert [row["url"] for row in found["documents"]] == [GONE["url"]]
    zeros = [path for path, rows in tokens(spec).items() for row in rows if len(row) and not row.any()]
    assert len(zeros) == 1
    assert set(zeros) <= set(before)
    assert not holding(spec.parent / "store", [WORD])
    go(spec, SETTINGS)
    assert [row["kept"] for row in documents(spec).values() if row["url"] == edit["url"]] == [True]
    assert sum(1 for rows in tokens(spec).values() for row in rows if len(row) and not row.any()) == 1


def test_tokens_of_a_document_that_gc_removed_go_where_its_text_stands_elsewhere(spec: Path) -> None:
    another_state(spec)
    generations.write(spec.parent, "three", [{"text": GONE["text"].upper(), "url": "https://example.com/moved"}])
    go(spec, SETTINGS)
    found = told("takedown", spec, "--url", "https://example.com/moved", "--yes")
    assert sorted(row["why"] for row in found["documents"]) == ["asked", "refused"]
    zeros = [path for path, rows in tokens(spec).items() for row in rows if len(row) and not row.any()]
    assert len(zeros) == 2


def test_the_text_of_a_held_out_document_goes_by_its_address_once_gc_removed_the_document(spec: Path) -> None:
    settings = [*SETTINGS, "training.evaluate.held_out=60%"]
    go(spec, settings, until="held_out", retrain=["held_out"])
    store = spec.parent / "store"
    assert [name for name in holding(store, [WORD]) if name.startswith("models/held_out/")]
    generations.write(spec.parent, "two", PAGES[6:])
    go(spec, settings)
    for plan in (store / "plans").iterdir():
        plan.rename(store.parent / plan.name)
    ask("gc", spec, "--yes")
    assert {name.partition("/")[0] for name in holding(store, [WORD])} == {"models"}
    assert told("takedown", spec, "--url", GONE["url"], "--yes")["count"] == 1
    assert not holding(store, [WORD])


def test_identities_go_once_nothing_is_left_of_their_documents(spec: Path) -> None:
    another_state(spec)
    store = spec.parent / "store"
    assert holding(store, ["gone.example.net"], skip=("counts/",))
    for plan in (store / "plans").iterdir():
        plan.rename(store.parent / plan.name)
    for table in (store / "models" / "held_out").glob("*.arrow"):
        assert WORD not in table.read_bytes().decode("latin-1")
    told("gc", spec, "--yes")
    told("gc", spec, "--yes")
    left = [path for path in Store(str(store)).walk("identities") if path.endswith(".parquet")]
    assert len(left) <= 1  # that of a held-out document
    assert not holding(store, ["gone.example.net"], skip=("counts/",))


def test_plans_that_read_tokens_of_documents_that_nobody_knows_are_named(spec: Path) -> None:
    """As an earlier version of gc left them."""
    another_state(spec)
    store = Store(str(spec.parent / "store"))
    store.remove(*store.walk("identities"))
    found = told("takedown", spec, "--url", GONE["url"])
    assert found["unmet"] == [GONE["url"]]
    [(plan, [path])] = found["named"]["unknown_tokens"].items()
    assert f"plan {plan} reads 1 file of tokens of documents that the store has no more" in " ".join(
        ask("takedown", spec, "--url", GONE["url"]).output.split()
    )
    (spec.parent / "store" / plan).rename(spec.parent / "plan")
    told("gc", spec, "--yes")
    assert not store.exists(path)
    assert not told("takedown", spec, "--url", GONE["url"])["named"]["unknown_tokens"]


def test_tokens_stay_known_whose_documents_are_invalidated(spec: Path) -> None:
    told("invalidate", spec, "documents")
    generations.write(spec.parent, "two", PAGES[6:])
    go(spec, SETTINGS)
    told("gc", spec, "--yes")
    found = told("takedown", spec, "--url", GONE["url"], "--yes")
    assert (found["count"], found["named"]["unknown_tokens"]) == (1, {})
    assert sum(1 for rows in tokens(spec).values() for row in rows if len(row) and not row.any()) == 1
