"""Pages of one address, against a dictionary of addresses."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs.dedup import SameUrl
from tasks.dedup.same_url import PagesOfOneUrl
from tasks.engine import job
from tasks.sources.canonical_url import canonical_url
from tests import corpus_runner, generations

PAGE = "https://example.org/shop/item?id=7&colour=red"
OTHERS = (
    "http://www.example.org/shop/item?colour=red&id=7",
    "https://EXAMPLE.org:443/shop//item/?id=7&colour=red#reviews",
    "https://example.org/shop/old/../item?id=7&utm_source=news&colour=red&fbclid=x&UTM_Medium=mail",
    "https://example.org/%73hop/item;jsessionid=AB12?id=7&colour=%72ed&spm=a.1",
)


@pytest.mark.parametrize("other", OTHERS)
def test_spellings_of_an_address_are_one(other: str) -> None:
    assert canonical_url(other) == canonical_url(PAGE)


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/shop/item?id=8&colour=red",
        "https://example.org/shop/item?id=7",
        "https://example.org/Shop/item?id=7&colour=red",
        "https://shop.example.org/shop/item?id=7&colour=red",
        "https://example.org/shop/item?id=7&colour=red&utmost=1",
    ],
)
def test_other_addresses_stay_apart(other: str) -> None:
    assert canonical_url(other) != canonical_url(PAGE)


def shards(rows: list[dict[str, Any]], count: int) -> list[pa.Table]:
    schema = pa.schema(
        [("url", pa.string()), ("file", pa.string()), ("offset", pa.int64()), ("text", pa.string()), ("n", pa.int64())]
    )
    return [pa.Table.from_pylist(rows[number::count], schema) for number in range(count)]


def stays(tables: list[pa.Table], **settings: Any) -> dict[int, int | None]:
    """Of each row by its number, the number of the one that stays for it."""
    found = corpus_runner.run(PagesOfOneUrl(SameUrl(**settings)), tables)
    number = {
        (corpus_runner.number(shard), position): row["n"]
        for shard, table in enumerate(tables)
        for position, row in enumerate(table.to_pylist())
    }
    return {
        row["n"]: row["same_url"] and number[row["same_url"]["shard"], row["same_url"]["position"]]
        for table in found
        for row in table.to_pylist()
    }


@pytest.mark.parametrize(("keep", "sign"), [("latest", 1), ("first", -1)])
def test_of_each_address_the_page_stays_that_a_dictionary_names(keep: str, sign: int) -> None:
    rng = random.Random(3)
    rows = [
        {
            "url": rng.choice([None, *(f"https://example.org/{page}?utm_source={n}" for page in range(40))]),
            "file": f"crawl-{rng.randrange(6)}",
            "offset": n,
            "text": "x",
            "n": n,
        }
        for n in range(300)
    ]
    pages = defaultdict(list)
    for row in rows:
        if row["url"]:
            pages[row["url"].partition("?")[0]].append(row)
    expected: dict[int, int | None] = {row["n"]: None for row in rows}
    for group in pages.values():
        best = max(group, key=lambda row: (row["file"], row["offset"]) if sign > 0 else _least(row))
        expected |= {row["n"]: best["n"] for row in group if row is not best}
    for count in (1, 3, 7):
        assert stays(shards(rows, count), keep=keep, partitions=4) == expected


def _least(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*(-ord(each) for each in row["file"]), -row["offset"])


def test_the_longest_text_stays_and_of_those_as_long_the_latest() -> None:
    texts = ["short", "the longest", "also long 1"]
    rows = [{"url": PAGE, "file": "a", "offset": n, "text": text, "n": n} for n, text in enumerate(texts)]
    assert stays(shards(rows, 2), keep="longest") == {0: 2, 1: 2, 2: None}


def test_documents_whose_address_says_nothing_are_pages_of_none() -> None:
    urls = ["", " ", "#top", "http://", "/", None, "", "page/1", "page/1#top"]
    rows = [{"url": url, "file": "a", "offset": n, "text": "x", "n": n} for n, url in enumerate(urls)]
    assert stays(shards(rows, 2)) == dict.fromkeys(range(len(urls))) | {7: 8}


def test_with_later_shards_the_page_of_an_earlier_version_stays_also_two_nights_on(tmp_path: Path) -> None:
    def night(*names: str) -> list[dict[str, str]]:
        own = f"https://example.org/{names[0]}"
        urls = [f"https://example.org/page?utm_source={names[0]}", own]
        return [{"text": f"{name} {url} " * 40, "url": url} for name in names for url in urls]

    path = generations.corpus(tmp_path, [night("a"), night("b")])
    spec = path.read_text().replace("stages: {", "stages: {same_url: {keep: latest}, ")
    path.write_text(spec.replace("rules: [", "rules: [{again: 'same_url is not null'}, "))
    for name in ("", "c", "d"):
        if name:
            generations.write(tmp_path, f"web-{name}", night(name))
        run = generations.night(path)
        assert run.record["version"]["state"] == "accepted"
    columns = ("url", "same_url", "reason")
    found = [row for _, files in run.pipeline.files(columns) for row in job.read(run.store, files, None).to_pylist()]
    again = {row["url"]: row["reason"] for row in found if row["same_url"]}
    assert again == {f"https://example.org/page?utm_source={name}": "again" for name in "acd"}
    assert {row["same_url"]["position"] for row in found if row["same_url"]} == {0}
    assert len({row["same_url"]["shard"] for row in found if row["same_url"]}) == 1
