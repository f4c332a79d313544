"""Records of what was taken down: the document's own leaves a row, whatever else it is met by is refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from data_specs.dedup import Duplicates
from tasks.dedup.duplicates import Exact
from tasks.engine.reading import Part, Read
from tasks.engine.takedowns import text_digest
from tasks.sources.records import Records
from tasks.sources.taken_down import TakenDown, words_digest
from tests import corpus_runner

PART = Part("web.jsonl", "web.jsonl", 0, 99)


def read(taken_down: TakenDown | None, texts: list[str]) -> Read:
    records = Records("web")
    records.taken_down = taken_down
    for offset, text in enumerate(texts):
        records.keep(PART, offset, 1, text.encode(), "text", text, url=f"https://a.org/{offset}", title="a title")
    return records.read()


@pytest.mark.parametrize(
    ("asked", "address", "named"),
    [
        ({"urls": ["https://a.org/x/"]}, "HTTP://A.ORG/x#part", True),
        ({"urls": ["a.org/x"]}, "https://a.org/x?y=1", False),
        ({"urls": ["a.org/x"]}, "https://www.a.org/x", True),
        ({"urls": ["http://www.a.org/x"]}, "https://a.org/x", True),
        ({"urls": ["a.org/x"]}, "https://www2.a.org/x", False),
        ({"urls": ["www.org/x"]}, "https://org/x", False),
        ({"urls": ["https://a.org/x?a=1&b=2"]}, "https://a.org/x/?b=2&&a=1", True),
        ({"urls": ["https://a.org/x?a=1&b=2"]}, "https://a.org/x?a=2&b=1", False),
        ({"urls": ["https://a.org/x?q=two+words"]}, "https://a.org/x?q=two%20words", True),
        ({"urls": ["https://a.org/x?q=1%2B1"]}, "https://a.org/x?q=1+1", False),
        ({"urls": ["https://a.org/x?a=1&a=1"]}, "https://a.org/x?a=1", False),
        ({"urls": ["https://a.org/x?a=b%26c"]}, "https://a.org/x?c&a=b", False),
        ({"urls": ["https://a.org/one/x"]}, "https://me:secret@a.org//one/./two/../x", True),
        ({"urls": ["https://a.org/../x"]}, "https://a.org/x", True),
        ({"urls": ["https://a.org/x"]}, "https://a.org/x/..", False),
        ({"urls": ["https://a.org"]}, "https://www.a.org//?", True),
        ({"domains": ["a.org"]}, "https://www.A.org:8080/y", True),
        ({"domains": ["a.org"]}, "https://ba.org/", False),
        ({"domains": ["a.org"]}, "https://b.org/a.org", False),
        ({"domains": ["www.a.org"]}, "https://a.org/", False),
        ({"domains": ["xn--bcher-kva.example"]}, "https://bücher.example/", True),
        ({"urls": ["https://a.org/wiki/水?q=é"]}, "https://a.org/wiki/%E6%B0%B4?q=%c3%a9", True),
        ({"urls": ["https://a.org/wiki/%E6%B0%B4"]}, "https://a.org/wiki/水", True),
        ({"urls": ["https://a.org/e\u0301/~me"]}, "https://a.org/é/%7Eme?", True),
        ({"urls": ["https://a.org/%CB%AE"]}, "https://a.org/%BB%F0", False),  # in GBK
        ({"urls": ["https://a.org/%CB%AE"]}, "https://a.org/%cb%ae", True),
        ({"urls": [" ", "http://"]}, "", False),
        ({"urls": [" ", "http://"]}, "#top", False),
        ({"urls": ["https://a.org/C%23"]}, "https://a.org/C", False),
        ({"urls": ["https://a.org/C%23"]}, "https://a.org/C%23#x", True),
        ({"urls": ["https://a.org/a:b%3Fc"]}, "https://a.org/a%3Ab%3fc", True),
        ({"urls": ["a.org/x"], "domains": ["a.org"]}, None, False),
    ],
)
def test_an_address_is_met_in_all_its_spellings(asked: dict[str, list[str]], address: str | None, named: bool) -> None:
    assert TakenDown(**asked).names(address) is named


def test_a_document_leaves_a_row_and_no_other_one_moves() -> None:
    before = read(None, ["one", "two", "three"])
    after = read(TakenDown(ids=[before.documents["id"][1].as_py()]), ["one", "two", "three"])
    assert after.ledger == before.ledger
    assert after.documents["id"].equals(before.documents["id"])
    first, second, third = after.documents.to_pylist()
    assert [first, third] == before.documents.take([0, 2]).to_pylist()
    whole = before.documents.to_pylist()[1]
    left = {name: whole[name] for name in ("id", "source", "file", "offset", "length")}
    assert second == dict.fromkeys(whole) | left | {"kind": "taken_down", "text": ""}


@pytest.mark.parametrize("addresses", [True, False])
def test_a_record_that_moved_to_the_place_of_one_is_another_document(addresses: bool) -> None:
    def made(taken_down: TakenDown | None, texts: list[str], place_names: bool = False) -> list[dict[str, Any]]:
        records = Records("web")
        records.taken_down, records.place_names = taken_down, place_names
        for offset, text in enumerate(texts):
            url = f"https://a.org/{text}" if addresses else None
            records.keep(PART, offset, 1, text.encode(), "text", text, url=url)
        return records.read().documents.to_pylist()

    _, two = made(None, ["one", "two"])
    gone = {two["id"]: frozenset([two["payload"]])}
    taken = TakenDown(ids=gone, urls=["https://a.org/two"], payloads=gone)
    assert [row["text"] for row in made(taken, ["one", "two"])] == ["one", ""]
    one, four = made(taken, ["one", "four"])
    assert (one["text"], four["text"]) == ("one", "four")
    assert four["id"] not in (one["id"], two["id"])
    both = gone | {four["id"]: frozenset([four["payload"]])}
    assert [row["text"] for row in made(TakenDown(ids=both, payloads=both), ["one", "four"])] == ["one", ""]
    assert [row["text"] for row in made(TakenDown(ids=gone), ["one", "four"])] == ["one", ""]  # by an earlier version
    assert [row["text"] for row in made(taken, ["one", "four"], True)] == ["one", "four" if addresses else ""]


def test_what_stands_in_the_place_of_one_can_be_taken_back() -> None:
    gone = read(None, ["one", "two"]).documents["id"][1].as_py()
    records = Records("web")
    records.taken_down = TakenDown(ids=[gone], payloads={gone: frozenset(["another"])})
    for offset, text in enumerate(["one", "three"]):
        records.keep(PART, offset, 1, text.encode(), "text", text)
    records.take_back_at("unsound", PART, [(1, 0)])
    found = records.read()
    assert found.documents["text"].to_pylist() == ["one"]
    assert found.ledger["quarantined"] == {"unsound": 1}


def test_what_has_its_address_or_its_text_is_refused_and_counted() -> None:
    gone = TakenDown(urls=["a.org/0"], texts=[text_digest(b"three")])
    found = read(gone, ["one", "two", "three"])
    assert found.documents["text"].to_pylist() == ["two"]
    assert found.ledger == {"in": 3, "dropped": {"takedown": 2}, "quarantined": {}}
    refused = found.refused.select(["url", "reason"]).to_pylist()
    assert refused == [{"url": f"https://a.org/{n}", "reason": "takedown"} for n in (0, 2)]


@pytest.mark.parametrize(
    ("text", "kind", "refused"),
    [
        ("Total: one, TWO -- three!", "html", True),
        ("total one\ntwo  three", "text", True),
        ("total one two", "text", False),
        ("total two one three", "text", False),
        ("total one two three", "code", False),
        ("...", "text", False),
    ],
)
def test_the_same_words_are_refused_as_exact_takes_them_for_a_copy_but_not_of_code(
    text: str, kind: str, refused: bool
) -> None:
    taken = TakenDown(words=[digest for digest in (words_digest("Total one two three", "text"),) if digest])
    assert taken.has(text, kind) is refused
    copied = [each is not None for each in exact("Total one two three", text)]
    assert copied == [False, refused or kind == "code"]


def exact(*texts: str) -> list[Any]:
    """The column `copy_of` of these."""
    [found] = corpus_runner.run(Exact(Duplicates()), [pa.table({"text": pa.array(texts, pa.string())})])
    return found["copy_of"].to_pylist()
