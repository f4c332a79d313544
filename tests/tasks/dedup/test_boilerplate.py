"""Boilerplate lines, against counts in dictionaries and pages made by hand."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.dedup import Boilerplate
from tasks.dedup.boilerplate import BoilerplateLines
from tests import corpus_runner
from tests.small import english

MENU = "Home | Products | About us"
NOTICE = "We use cookies to make this site work, and to see how it is used by our visitors."
FOOT = "Copyright 2024 Example Ltd. All rights reserved."


def pages(texts: list[str], host: str = "https://example.org", first: int = 0) -> pa.Table:
    urls = [f"{host}/{number}" for number in range(first, first + len(texts))]
    return pa.table({"text": texts, "url": pa.array(urls, pa.string())})


def body(seed: int) -> list[str]:
    return english(random.Random(seed), 24).split("\n")


def cut(*shards: pa.Table, **settings: Any) -> list[list[Any]]:
    """The texts, and how many lines were cut of each."""
    found = pa.concat_tables(corpus_runner.run(BoilerplateLines(Boilerplate(**settings)), shards))
    return [found["boilerplate"].to_pylist(), found["boilerplate_lines"].to_pylist()]


def test_menus_and_footers_go_and_what_is_a_page_s_own_stays() -> None:
    own = ["\n".join(body(seed)) for seed in range(6)]
    texts = [f"»\n{MENU}\n{text}\nRead 1{number} comments\n{FOOT}" for number, text in enumerate(own)]
    assert cut(pages(texts[:4]), pages(texts[4:], first=4)) == [own, [3] * 6]
    assert cut(pages(texts[:4])) == [texts[:4], [0] * 4]  # four pages are too few


def test_a_short_line_between_others_is_a_heading_and_a_long_one_is_not() -> None:
    parts = [body(seed) for seed in range(5)]
    texts = ["\n".join([*part[:3], "Examples", *part[3:4], NOTICE, *part[4:]]) for part in parts]
    assert cut(pages(texts)) == [[text.replace(NOTICE + "\n", "") for text in texts], [1] * 5]
    without = [text.replace(NOTICE + "\n", "").replace("Examples\n", "") for text in texts]
    assert cut(pages(texts), inside=5) == [without, [2] * 5]


def test_a_line_is_boilerplate_of_its_site_alone() -> None:
    texts = [f"{MENU}\n" + "\n".join(body(seed)) for seed in range(5)]
    here, there = pages(texts), pages([f"{MENU}\n" + "\n".join(body(9))], "http://other.example")
    nowhere = pa.table({"text": [f"{MENU}\n" + "\n".join(body(8))] * 7, "url": pa.nulls(7, pa.string())})
    assert cut(here, there, nowhere)[1] == [1] * 5 + [0] * 8
    assert cut(pages(texts[:3], "https://www.Example.org"), pages(texts[3:], "http://example.org:80", 3))[1] == [1] * 5


def test_copies_of_a_page_are_one_page_and_near_copies_stay_whole() -> None:
    text = "\n".join([MENU, *body(1), FOOT])
    assert cut(pages([text] * 9)) == [[text] * 9, [0] * 9]
    near = [f"{text}\n{' '.join(body(seed)[:1])}" for seed in range(20, 26)]
    assert cut(pages(near)) == [near, [0] * 6]
    assert cut(pages(near), most=1)[1] == [len(body(1)) + 2] * 6


def test_lines_that_repeat_are_those_that_a_dictionary_counts() -> None:
    rng = random.Random(5)
    lines = [f"line {rng.choice('abcdefgh')} of {rng.choice('xyz')}" for _ in range(40)]
    texts = ["\n".join(rng.choices(lines, k=12)) for _ in range(60)]
    hosts = [f"http://h{rng.randrange(3)}.example/" for _ in texts]
    table = pa.table({"text": texts, "url": hosts})
    having = defaultdict(set)
    for text, host in zip(texts, hosts, strict=True):
        for line in text.split("\n"):
            having[host, line].add(text)
    repeated = {key for key, found in having.items() if len(found) >= 14}
    pairs = list(zip(texts, hosts, strict=True))
    expected = ["\n".join(x for x in text.split("\n") if (host, x) not in repeated) for text, host in pairs]
    found, counted = cut(table, pages=14, inside=1, most=1)
    assert found == expected
    assert sum(counted) == sum((host, line) in repeated for text, host in pairs for line in text.split("\n"))
    assert cut(table.slice(0, 7), table.slice(7, 30), table.slice(37), pages=14, inside=1, most=1)[0] == expected
    assert cut(table, pages=14, inside=1, most=1, partitions=3)[0] == expected


def test_new_pages_are_held_against_those_of_earlier_generations() -> None:
    stage = BoilerplateLines(Boilerplate(partitions=1))
    texts = [f"{MENU}\n" + "\n".join(body(seed)) for seed in range(12)]

    def mapped(table: pa.Table, shard: int) -> pa.Table:
        rows = stage.map(table)
        return rows.append_column("shard", pa.array(np.full(rows.num_rows, shard, np.uint64))).drop_columns("partition")

    older = mapped(pages(texts[:9]), 1)
    state = stage.remember(pa.concat_tables([stage.remember(older.slice(0, 50)), stage.remember(older.slice(50))]))
    found = stage.reduce(pa.concat_tables([state, mapped(pages(texts[9:10]), 2)]))
    assert found.filter(found["shard"].to_numpy() == 2)["position"].to_pylist() == [0]
    lines = state["line"].to_pylist()
    assert max(map(lines.count, lines)) == 5  # as many pages as it takes, and no more


def test_a_page_of_nothing_but_boilerplate_is_emptied_where_that_is_allowed() -> None:
    texts = [f"{MENU}\n" + "\n".join(body(seed)) for seed in range(5)] + [f"{MENU}\n\n\n"]
    [shard] = corpus_runner.run(BoilerplateLines(Boilerplate(most=1)), [pages(texts)])
    assert shard["boilerplate_emptied"].to_pylist() == [False] * 5 + [True]
    assert shard["boilerplate"].to_pylist()[5] == ""
    assert not re.search(r"\n{3}", shard["boilerplate"].to_pylist()[0])
