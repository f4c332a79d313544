"""Takedowns of documents of which the store has earlier readings: by another name of their source, of a file that was
edited since, and what stages made of readings that are gone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.commands import takedown_search
from tasks.engine.takedowns import PendingError
from tasks.sources.taken_down import TakenDown
from tests import generations, small
from tests.commands import ask, told
from tests.generations import documents, night
from tests.whole import go

WORD = "zanquibal"
PAGES = [
    {"text": small.english(random.Random(number), 12), "url": f"https://example.org/{number}/good"}
    for number in range(12)
]
GONE = {"text": f"The {WORD} of it.\n{small.english(random.Random(99), 12)}", "url": "https://example.org/gone/good"}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A corpus of two files after its first night; the word stands in one document."""
    generations.write(tmp_path, "one", PAGES[:6])
    generations.write(tmp_path, "two", [*PAGES[6:], GONE])
    path = generations.spec(tmp_path)
    path.write_text(path.read_text().replace("stages: {", "stages: {clean: {kind: normalise}, ") + "text: clean\n")
    night(path)
    return path


def renamed(spec: Path, old: str, new: str) -> None:
    text = spec.read_text()
    assert f"sources: {{{old}:" in text
    spec.write_text(text.replace(f"sources: {{{old}:", f"sources: {{{new}:"))


def taken_down(spec: Path, *more: str) -> None:
    [name] = [name for name, row in documents(spec).items() if row["url"] == GONE["url"] and row["text"]]
    told("takedown", spec, "--id", name, *more, "--yes")


def holding(spec: Path) -> list[str]:
    """Files of tables of the store that hold the word."""
    store, found = spec.parent / "store", []
    for path in sorted(store.rglob("*")):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        elif path.suffix == ".arrow":
            table = pa.ipc.open_file(path).read_all()
        else:
            continue
        if WORD in str(table.to_pydict()).lower():
            found.append(str(path.relative_to(store)))
    return found


@pytest.mark.parametrize("more", [(), ("--only",)])
def test_a_document_does_not_come_back_with_the_earlier_name_of_its_source(spec: Path, more: Sequence[str]) -> None:
    renamed(spec, "web", "news")
    night(spec)
    taken_down(spec, *more)
    assert holding(spec) == []
    renamed(spec, "news", "web")
    night(spec)
    assert GONE["url"] not in {row["url"] for row in documents(spec).values()}
    assert holding(spec) == []


@pytest.mark.parametrize("moved", [True, False])
def test_a_document_does_not_come_back_with_an_earlier_state_of_its_file(spec: Path, moved: bool) -> None:
    """Also where its words stood at another address by then."""
    elsewhere = GONE | {"url": "https://example.com/moved"}
    generations.write(
        spec.parent, "two", [{"text": "An edit of it.", "url": "https://example.org/new/good"}, *PAGES[6:]]
    )
    generations.write(spec.parent, "three", [elsewhere if moved else GONE])
    night(spec)
    [name] = [name for name, row in documents(spec).items() if WORD in row["text"]]
    told("takedown", spec, "--id", name, "--yes")
    assert holding(spec) == []
    generations.write(spec.parent, "two", [*PAGES[6:], GONE])
    night(spec)
    assert not any(WORD in row["text"] for row in documents(spec).values())
    assert holding(spec) == []


def test_what_was_made_of_documents_that_are_in_the_store_no_more_goes(spec: Path) -> None:
    renamed(spec, "web", "news")
    night(spec)
    generations.write(
        spec.parent, "three", [PAGES[0] | {"text": "Something new.", "url": "https://example.org/n/good"}]
    )
    ask("gc", spec, "--yes")
    assert not [path for path in holding(spec) if path.startswith("documents/web@")]
    assert [path for path in holding(spec) if path.startswith("columns/normalise@")][1:]  # kept, as there is more to do
    night(spec)
    taken_down(spec)
    assert holding(spec) == []


def test_the_text_of_a_held_out_document_goes_of_which_the_table_alone_is_left(spec: Path) -> None:
    settings = ["training.evaluate.held_out=99%"]
    go(spec, settings, until="verdict", retrain=["held_out"])
    assert [path for path in holding(spec) if path.startswith("models/held_out/")]
    renamed(spec, "web", "news")
    go(spec, settings, until="verdict")
    (spec.parent / "store" / "versions").rename(spec.parent / "versions")  # so that none keeps its documents
    ask("gc", spec, "--yes")
    assert not [path for path in holding(spec) if path.startswith("documents/web@")]
    taken_down(spec)
    assert holding(spec) == []


def test_a_document_does_not_come_back_with_a_state_of_its_file_in_whose_place_another_stands_now(spec: Path) -> None:
    edit = {"text": "An edit of it.", "url": "https://example.org/new/good"}
    generations.write(spec.parent, "two", [*PAGES[6:], edit])
    generations.write(spec.parent, "three", [GONE | {"url": "https://example.com/moved"}])
    night(spec)
    [name] = [name for name, row in documents(spec).items() if WORD in row["text"]]
    told("takedown", spec, "--id", name, "--yes")
    assert holding(spec) == []
    night(spec)
    assert [row["reason"] for row in documents(spec).values() if row["url"] == edit["url"]] != ["takedown"]
    generations.write(spec.parent, "two", [*PAGES[6:], GONE])
    night(spec)
    assert not any(WORD in row["text"] for row in documents(spec).values())
    assert holding(spec) == []


def test_what_stands_in_the_place_of_a_page_that_is_taken_down_by_its_address_stays(spec: Path) -> None:
    edit = {"text": f"An edit of it.\n{small.english(random.Random(98), 12)}", "url": "https://example.org/new/good"}
    generations.write(spec.parent, "two", [*PAGES[6:], edit])
    night(spec)
    found = told("takedown", spec, "--url", GONE["url"], "--yes")
    assert found["count"] == 1
    assert holding(spec) == []
    night(spec)
    assert [row["kept"] for row in documents(spec).values() if row["url"] == edit["url"]] == [True]


def test_with_a_page_that_is_in_the_corpus_no_more_its_copies_go(spec: Path) -> None:
    generations.write(spec.parent, "three", [GONE | {"url": "https://example.com/copy"}])
    generations.write(spec.parent, "two", PAGES[6:])
    night(spec)
    found = told("takedown", spec, "--url", GONE["url"], "--yes")
    assert sorted(row["why"] for row in found["documents"]) == ["asked", "near-copy"]
    assert holding(spec) == []


def test_of_two_records_that_went_from_one_place_neither_comes_back(spec: Path) -> None:
    """Of addresses and texts nothing is compared here."""
    bare = [{"text": f"{WORD} {number} {small.english(random.Random(number), 3)}"} for number in range(2)]
    for row in bare:
        generations.write(spec.parent, "bare", [row])
        night(spec)
        [name] = [name for name, row in documents(spec).items() if WORD in row["text"] and not row["url"]]
        told("takedown", spec, "--id", name, "--only", "--yes")
    for row in bare:
        generations.write(spec.parent, "bare", [row | {"note": "another line"}, row])
        night(spec)
        generations.write(spec.parent, "bare", [row])
        night(spec)
        assert not any(row["text"].startswith(WORD) for row in documents(spec).values() if row["file"] == "bare")


def earlier_version(spec: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page is taken down by a version that did not look beside the corpus, where its source had another name
    before; its id."""
    renamed(spec, "web", "news")
    night(spec)
    [name] = [name for name, row in documents(spec).items() if row["url"] == GONE["url"]]
    with monkeypatch.context() as patched:
        patched.setattr(takedown_search, "_refused", lambda *_: TakenDown())
        taken_down(spec)
    night(spec)
    assert holding(spec)
    return name


def test_a_takedown_by_an_earlier_version_is_completed_where_it_is_asked_for_again(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = earlier_version(spec, monkeypatch)
    for asked in (("--id", name), ("--url", GONE["url"])):
        told("takedown", spec, *asked, "--yes")
        assert holding(spec) == []
    assert told("takedown", spec, *asked, "--yes")["state"] == "known"


def test_a_run_does_not_take_documents_from_the_store_that_went_by_an_earlier_version(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier_version(spec, monkeypatch)
    renamed(spec, "news", "web")
    with pytest.raises(PendingError, match="goes on with it"):
        night(spec)
    told("takedown", spec, "--yes")
    assert holding(spec) == []
    night(spec)
    assert GONE["url"] not in {row["url"] for row in documents(spec).values()}
    assert told("takedown", spec, "--yes")["state"] == "known"
