"""Held-out documents whose files change: what is evaluated on is what was held out, wherever it stands by then."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.engine.gates import GateError
from tests import generations
from tests.commands import told
from tests.generations import documents, night
from tests.whole import go

SETTINGS = ("training.evaluate.held_out=20%",)


def pages(count: int, seed: int) -> list[dict[str, str]]:
    """Pages that are unlike each other, each as long as any other, so that a line stands where another stood."""
    rng = random.Random(seed)
    return [
        {
            "text": " ".join(f"w{rng.randrange(10**6):06}" for _ in range(120)),
            "url": f"https://a.org/{seed}/{number:03}",
        }
        for number in range(count)
    ]


class Corpus:
    """One of JSON lines or of Parquet, of which files can be written anew."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.path = generations.spec(folder)
        if kind == "parquet":
            text = self.path.read_text().replace(", shard: 1", "")
            self.path.write_text(text.replace("jsonl", "parquet").replace(".parquet.gz", ".parquet"))

    def write(self, name: str, rows: Sequence[dict[str, str]], source: str = "web") -> None:
        if self.kind == "jsonl":
            return generations.write(self.folder, name, rows, source)
        (self.folder / source).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), self.folder / source / f"{name}.parquet")

    def join_news(self) -> None:
        """Give it the source `news`."""
        web = self.path.read_text().partition("sources: {")[2].partition("\n")[0].removesuffix("}")
        self.path.write_text(self.path.read_text().replace(web, f"{web}, {web.replace('web', 'news')}"))

    def night(self) -> dict[str, dict[str, Any]]:
        """What there is of each text then."""
        night(self.path, SETTINGS)
        return {row["text"]: row for row in documents(self.path).values()}


def held(found: dict[str, dict[str, Any]]) -> set[str]:
    return {text for text, row in found.items() if row["held_out"]}


@pytest.fixture(params=["jsonl", "parquet"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    return Corpus(tmp_path, request.param)


def test_records_that_move_in_their_file_stay_held_out_and_no_other_ones_are_in_their_stead(corpus: Corpus) -> None:
    moving, others = pages(60, 1), pages(20, 2)
    corpus.write("moving", moving)
    corpus.write("others", others)
    before = corpus.night()
    assert 5 < len(held(before) & {row["text"] for row in moving}) < 30
    first = next(number for number, row in enumerate(moving) if not before[row["text"]]["held_out"])
    corpus.write("moving", [row for number, row in enumerate(moving) if number != first])
    after = corpus.night()
    assert len(after) == len(before) - 1
    assert held(after) == held(before)
    assert {text for text, row in after.items() if row["evaluated"]} == held(before)
    assert not any(after[text]["kept"] for text in held(before))


def test_what_was_held_out_is_not_trained_on_in_another_file_once_its_own_has_other_records(corpus: Corpus) -> None:
    moving = pages(60, 1)
    corpus.write("moving", moving)
    corpus.write("others", pages(20, 2))
    before = corpus.night()
    corpus.write("moving", pages(60, 3))
    corpus.write("elsewhere", moving[::-1])
    after = corpus.night()
    assert len(after) == 140
    assert held(after) == held(before)
    assert not any(after[text]["kept"] for text in held(before))


def test_of_copies_of_a_held_out_document_none_is_evaluated_on_beside_it(corpus: Corpus) -> None:
    moving = pages(60, 1)
    corpus.write("moving", moving)
    before = corpus.night()
    corpus.write("zz", moving)
    night(corpus.path, SETTINGS)
    rows = documents(corpus.path).values()
    again = [row for row in rows if row["file"].startswith("zz")]
    assert sorted(row["text"] for row in rows if row["evaluated"]) == sorted(held(before))
    assert {row["text"] for row in again if row["reason"] == "held_out_copy"} == held(before)
    assert {row["reason"] for row in again} == {"held_out_copy", "duplicate"}


def test_a_copy_that_stands_before_a_held_out_document_is_not_evaluated_on_beside_it(corpus: Corpus) -> None:
    moving = pages(60, 1)
    corpus.write("moving", [*moving, *moving[::-1]])
    held_out = held(corpus.night())
    rows = documents(corpus.path).values()
    assert len(held_out) > 10
    assert sorted(row["text"] for row in rows if row["evaluated"]) == sorted(held_out)
    assert not any(row["kept"] for row in rows if row["text"] in held_out)


def test_a_source_that_came_later_has_the_same_documents_held_out_once_records_of_it_move(corpus: Corpus) -> None:
    corpus.write("others", pages(20, 2))
    corpus.night()
    corpus.join_news()
    news = pages(60, 4)
    corpus.write("news", news, "news")
    before = corpus.night()
    assert 5 < len(held(before) & {row["text"] for row in news}) < 30
    corpus.write("news", news[1:], "news")
    after = corpus.night()
    assert held(after) == held(before) - {news[0]["text"]}
    assert {text for text, row in after.items() if row["evaluated"]} == held(after)


def test_another_text_setting_that_makes_other_documents_of_held_out_ones_stops_plan_and_run(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "parquet")
    corpus.write("pages", [row | {"body": f"{row['text']} more"} for row in pages(60, 1)])
    count = len(held(corpus.night()))
    other = (*SETTINGS, "sources.web.text=body")
    why = f"the {count} held-out documents of source web are found no more, as its `text: text` has become `text: body`"
    options = [option for setting in other for option in ("--set", setting)]
    [stop] = told("plan", corpus.path, *options)["certain_stops"]
    assert why in stop
    assert "--retrain held_out" in stop
    for _ in range(2):  # a run that was stopped is no run that read them so
        with pytest.raises(GateError, match=re.escape(why)):
            go(corpus.path, other, until="held_out")
    assert held(corpus.night())
    run = go(corpus.path, (*other, "gates.gone=100%"), until="held_out")
    assert why in run.execution.results[0].note
    assert why not in go(corpus.path, other, until="held_out").execution.results[0].note
    retrained = go(
        corpus.path, (*SETTINGS, "sources.web.template='{{ body }}'"), until="held_out", retrain=["held_out"]
    )
    assert "are found no more" not in retrained.execution.results[0].note


def test_a_store_whose_listing_does_not_say_what_payloads_hang_on_is_held_against_its_last_version(
    tmp_path: Path,
) -> None:
    """As an earlier version noted it, or where the listing is lost."""
    corpus = Corpus(tmp_path, "parquet")
    corpus.write("pages", [row | {"body": f"{row['text']} more"} for row in pages(60, 1)])
    before = held(corpus.night())
    listing = tmp_path / "store" / "listings" / "nightly.json"
    listing.unlink()
    with pytest.raises(GateError, match="as its `text: text` has become `text: body`"):
        go(corpus.path, (*SETTINGS, "sources.web.text=body"), until="held_out")
    with pytest.raises(GateError, match="as its `text: text` has become `template: "):
        go(corpus.path, (*SETTINGS, "sources.web.template='{{ body }}'"), until="held_out")
    go(corpus.path, (*SETTINGS, "sources.web.longest=1MiB"), until="held_out")
    listing.unlink()
    go(corpus.path, (*SETTINGS, "sources.web.url=url"), until="held_out")
    assert held(corpus.night()) == before


def test_another_template_of_a_source_that_came_later_stops_a_run_too(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "parquet")
    corpus.write("others", pages(20, 2))
    corpus.night()
    corpus.join_news()
    corpus.write("news", pages(60, 4), "news")
    corpus.night()
    with pytest.raises(GateError, match="the held-out documents of source news are found no more"):
        go(corpus.path, (*SETTINGS, "sources.news.template='{{ url }} {{ text }}'"), until="held_out")


def test_held_out_lines_stay_so_under_another_text_setting_as_the_line_is_what_they_are_known_by(
    tmp_path: Path,
) -> None:
    corpus = Corpus(tmp_path, "jsonl")
    corpus.write("pages", [row | {"body": f"{row['text']} more"} for row in pages(60, 1)])
    before = held(corpus.night())
    night(corpus.path, (*SETTINGS, "sources.web.text=body"))
    assert {row["text"].removesuffix(" more") for row in documents(corpus.path).values() if row["held_out"]} == before


def test_a_table_that_is_learned_anew_has_the_documents_of_a_source_that_came_later_and_no_share_is_added(
    tmp_path: Path,
) -> None:
    corpus = Corpus(tmp_path, "jsonl")
    corpus.write("others", pages(20, 2))
    corpus.night()
    corpus.join_news()
    corpus.write("news", pages(200, 4), "news")
    before = corpus.night()
    run = go(corpus.path, SETTINGS, until="held_out", retrain=["held_out"])
    after = corpus.night()
    [_, table] = run.pipeline.pins.history["held_out"]
    assert held(after) != held(before)
    assert len(held(after)) == table["facts"]["rows"] < 60


def once_each(corpus: Corpus, texts: set[str]) -> None:
    """Each of some texts is evaluated on once, and none of them is trained on."""
    rows = documents(corpus.path).values()
    assert sorted(row["text"] for row in rows if row["evaluated"]) == sorted(texts)
    assert not any(row["kept"] for row in rows if row["text"] in texts)


def test_what_is_held_out_in_a_file_that_is_edited_is_not_evaluated_on_beside_an_older_copy(corpus: Corpus) -> None:
    moving = pages(60, 1)
    corpus.write("moving", moving)
    corpus.write("zz", moving)
    held_out = held(corpus.night())
    once_each(corpus, held_out)
    corpus.write(
        "moving", moving[:-1]
    )  # those before stay where they stood, and their shard comes later than the other
    corpus.night()
    once_each(corpus, held_out)
    night(corpus.path, SETTINGS, rebase=True)
    once_each(corpus, held_out)


def test_what_was_held_out_and_comes_back_is_not_evaluated_on_beside_what_it_had_moved_to(corpus: Corpus) -> None:
    moving, others = pages(60, 1), pages(40, 2)
    corpus.write("moving", moving)
    corpus.write("others", others)
    held_out = held(corpus.night())
    corpus.write("moving", pages(60, 3))
    corpus.write("elsewhere", moving[::-1])
    corpus.night()
    once_each(corpus, held_out)
    corpus.write("moving", moving)
    corpus.night()
    once_each(corpus, held_out)


def test_what_is_held_out_stays_evaluated_on_beside_a_dropped_older_copy_of_other_bytes(corpus: Corpus) -> None:
    moving = pages(60, 1)
    dropped = [{"text": row["text"].upper(), "url": row["url"].replace("a.org", "a.org/bad")} for row in moving]
    corpus.write("moving", moving)
    corpus.write("zz", dropped)
    held_out = {text.lower() for text in held(corpus.night())}
    corpus.write("moving", moving[1:])
    corpus.night()
    rows = documents(corpus.path).values()
    found = sorted(row["text"].lower() for row in rows if row["evaluated"] and row["text"].lower() != moving[0]["text"])
    assert found == sorted(held_out - {moving[0]["text"]})
    assert not any(row["kept"] for row in rows if row["text"].lower() in held_out)
