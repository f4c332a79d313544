"""Spans that repeat, against a dictionary of all windows of words."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.dedup import RepeatedSpans as Settings
from tasks.dedup.repeated_spans import RepeatedSpans
from tasks.text import units
from tests import corpus_runner, generations
from tests.commands import told


def shard(texts: list[str], kept: list[bool] | None = None) -> pa.Table:
    flags = kept or [True] * len(texts)
    return pa.table({"text": pa.array(texts, pa.string()), "kept": pa.array(flags, pa.bool_())})


def cut(*shards: pa.Table, **settings: Any) -> list[str]:
    found = pa.concat_tables(corpus_runner.run(RepeatedSpans(Settings(**settings)), shards))
    return found["repeated_spans"].to_pylist()


def by_hand(texts: list[str], kept: list[bool], size: int) -> list[list[str]]:
    """The words that stay of each text."""
    seen: dict[tuple[str, ...], tuple[int, int]] = {}
    found = []
    for number, (text, use) in enumerate(zip(texts, kept, strict=True)):
        words = text.split()
        stays = [True] * len(words)
        for place in range(len(words) - size + 1) if use else ():
            window = tuple(word.lower() for word in words[place : place + size])
            first = seen.setdefault(window, (number, place))
            if first[0] != number or place >= first[1] + size:
                stays[place : place + size] = [False] * size
        found.append([word for word, here in zip(words, stays, strict=True) if here])
    return found


def test_what_stays_is_what_a_dictionary_of_all_windows_says() -> None:
    rng = random.Random(1)
    words = [f"w{number}" for number in range(400)]
    passages = [rng.choices(words, k=rng.randrange(4, 30)) for _ in range(30)] + [["ha"] * 40, ["ho", "hi"] * 20]
    texts = []
    for _ in range(120):
        parts = [rng.choice(passages) if rng.random() < 0.5 else rng.choices(words, k=9) for _ in range(8)]
        texts.append(" ".join(word.upper() if rng.random() < 0.1 else word for part in parts for word in part))
    kept = [rng.random() < 0.8 for _ in texts]
    for size in (5, 12, 20):
        expected = by_hand(texts, kept, size)
        table = shard(texts, kept)
        assert [text.split() for text in cut(table, words=size)] == expected
        assert cut(table, words=size, partitions=3) == cut(table, words=size)
        assert sum(map(len, expected)) < 0.95 * sum(len(text.split()) for text in texts)


def test_the_first_stays_and_what_is_around_a_span_stays_as_it_is() -> None:
    quote = "It was the best of times, it was the worst of times"
    texts = [
        f"He said:\n{quote}!\nNothing more.",
        f"As we know, “{quote}.”\n\nAnd so on (1).",
        f"({quote})",
        quote[:-6],
    ]
    found = cut(shard(texts), words=12)
    assert found == [texts[0], "As we know, “\n\nAnd so on (1).", "(", texts[3]]
    chinese = ["山谷中的河流经过花园和石头桥梁。", "我们说：山谷中的河流经过花园和石头桥梁，然后离开。"]
    assert cut(shard(chinese), words=10) == [chinese[0], "我们说：然后离开。"]


def test_words_and_numbers_around_a_span_stay_two() -> None:
    span = "山谷中的河流经过花园和石头桥梁"
    around = ["用Python", "共12", "他们", "见§", "看Ruby\n", "é"], ["Java写", "30人", "离开", "4", "Rails", "\u0301x"]
    texts = [span, *(f"{before}{span}，{after}" for before, after in zip(*around, strict=True))]
    found = cut(shard(texts), words=12)
    assert found[1:] == ["用Python Java写", "共12 30人", "他们离开", "见§4", "看Ruby\nRails", "é \u0301x"]


def test_a_document_that_repeats_itself_says_it_once() -> None:
    line = "one two three four five six"
    assert cut(shard([f"{line}\n" * 5 + "end"]), words=6) == [f"{line}\nend"]
    assert cut(shard(["ha " * 30]), words=10) == ["ha ha ha ha ha ha ha ha ha ha"]


def test_words_are_where_they_stand() -> None:
    texts = ["", "Über-Straße, 3.5!", "山谷 and  ﬁsh\n\n", "…", "a" * 200_000 + " b", "x y"]
    found = []
    for _, offsets, begins, stops in units.located(texts):
        for first, end in pairwise(offsets):
            text = texts[len(found)]
            found.append([text[a:b] for a, b in zip(begins[first:end], stops[first:end], strict=True)])
    plain = [re.findall(r"[山谷]|[^\W山谷]+", text) for text in texts]
    assert found == plain


def test_newer_documents_are_held_against_older_ones() -> None:
    stage = RepeatedSpans(Settings(words=5, partitions=1))

    def mapped(texts: list[str], number: int) -> pa.Table:
        rows = stage.map(shard(texts)).drop_columns("partition")
        return rows.append_column("shard", pa.array(np.full(rows.num_rows, number, np.uint64)))

    older = mapped(["a b c d e f", "c d e f g"], 1)
    state = stage.remember(pa.concat_tables([stage.remember(older.slice(0, 2)), stage.remember(older.slice(2))]))
    found = stage.reduce(pa.concat_tables([state, mapped(["x b c d e f y"], 2)])).to_pylist()
    assert found == [{"shard": 2, "position": 0, "first": 1}]


def test_the_model_reads_the_text_without_spans(tmp_path: Path) -> None:
    rng = random.Random(3)
    shared = " ".join(f"s{rng.random()}" for _ in range(60))
    rows = [
        {"text": " ".join([*(f"w{rng.random()}" for _ in range(200)), shared]), "url": f"https://e.org/{n}/good/"}
        for n in range(20)
    ]
    generations.write(tmp_path, "web-0", rows)
    path = generations.spec(tmp_path, 0.8)
    path.write_text(path.read_text().replace("stages: {", "text: once\nstages: {once: {kind: repeated_spans}, "))
    generations.night(path)
    found = told("query", path, "select kept, contains(text, ' s0'), contains(once, ' s0') from corpus")["rows"]
    assert all(row[1] for row in found)
    assert sum(row[2] for row in found if row[0]) == 1
    assert all(row[2] for row in found if not row[0])
