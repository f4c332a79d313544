"""Lines that repeat across the corpus, against counts in dictionaries, and in whole runs."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs.dedup import RepeatedLines as Settings
from data_specs.load import SpecError, load
from flows.run import Run
from tasks.dedup.repeated_lines import RepeatedLines
from tests import corpus_runner, generations
from tests.commands import told
from tests.small import english

NOTICE = "Every reader who finds a mistake in this text is asked to write to the address below."


def shard(texts: list[str], kept: list[bool] | None = None) -> pa.Table:
    flags = kept or [True] * len(texts)
    return pa.table({"text": pa.array(texts, pa.string()), "kept": pa.array(flags, pa.bool_())})


def cut(*shards: pa.Table, **settings: Any) -> list[str]:
    found = pa.concat_tables(corpus_runner.run(RepeatedLines(Settings(**settings)), shards))
    return found["repeated_lines"].to_pylist()


def expected(texts: list[str], kept: list[bool], letters: int, documents: int) -> list[str]:
    """By a dictionary, in the order of documents."""
    pairs = list(zip(texts, kept, strict=True))
    lines = [{x.strip().lower() for x in text.split("\n")} if use else set() for text, use in pairs]
    count = Counter(x for each in lines for x in each)
    seen: set[str] = set()
    found = []
    for (text, use), own in zip(pairs, lines, strict=True):
        left = []
        for line in text.split("\n"):
            plain = line.strip().lower()
            repeats = plain in seen and count[plain] >= documents and sum(map(str.isalpha, plain)) >= letters
            if not (use and repeats):
                left.append(line)
        seen |= own
        found.append("\n".join(left))
    return found


def test_what_is_cut_is_what_a_dictionary_says() -> None:
    rng = random.Random(3)
    lines = [f"{rng.choice(['A', 'a'])} line {rng.choice('abcdefgh')} of {rng.choice('xyz')}" for _ in range(30)]
    texts = ["\n".join(rng.choices([*lines, "own" + "x" * rng.randrange(9)], k=8)) for _ in range(80)]
    kept = [rng.random() < 0.7 for _ in texts]
    for letters, documents in ((1, 2), (8, 2), (1, 5), (9, 12)):
        wanted = expected(texts, kept, letters, documents)
        table = shard(texts, kept)
        assert cut(table, letters=letters, documents=documents) == wanted != texts
        assert cut(table, letters=letters, documents=documents, partitions=3) == wanted


def test_one_copy_of_each_line_stays_however_documents_are_dealt() -> None:
    rng = random.Random(4)
    texts = ["\n".join([*english(rng, 12).split("\n"), NOTICE, f"  {NOTICE.upper()} "]) for _ in range(9)]
    found = cut(shard(texts[:2]), shard(texts[2:5]), shard([]), shard(texts[5:]))
    whole = [text for text in found if NOTICE in text]
    assert len(whole) == 1
    assert whole[0] in texts
    assert sorted(found) == sorted([*whole, *(text.split(f"\n{NOTICE}")[0] for text in texts if text != whole[0])])


def test_the_copy_that_stays_is_in_a_document_that_is_kept() -> None:
    own = english(random.Random(1), 8)
    table = shard([f"{NOTICE}\n{own}", f"{own}x\n{NOTICE}", f"{own}y\n{NOTICE}"], [False, True, True])
    assert cut(table, letters=60) == [f"{NOTICE}\n{own}", f"{own}x\n{NOTICE}", _without(f"{own}y", f"{own}x")]


def _without(text: str, other: str) -> str:
    return "\n".join(line for line in text.split("\n") if line not in other.split("\n"))


def test_paragraphs_are_compared_whole() -> None:
    poem = "The river that we came to see in winter\nwas lower than the year before it was."
    texts = [f"One.\n\n{poem}\n\nTwo.", f"Three.\n \n{poem}\n\n\nFour.", f"Five.\n\n{poem}\nSix."]
    assert cut(shard(texts), unit="paragraph") == [texts[0], "Three.\n\nFour.", texts[2]]
    assert cut(shard(texts), letters=30) == [texts[0], "Three.\n \n\nFour.", "Five.\n\nSix."]


def test_a_document_of_nothing_new_is_emptied_and_short_lines_stay() -> None:
    [found] = corpus_runner.run(RepeatedLines(Settings()), [shard([NOTICE, f"{NOTICE}\n\n", "Examples", "Examples"])])
    assert found["repeated_lines"].to_pylist() == [NOTICE, "", "Examples", "Examples"]
    assert found["repeated_lines_emptied"].to_pylist() == [False, True, False, False]
    assert found["repeated_lines_cut"].to_pylist() == [0, 1, 0, 0]
    assert found["repeated_lines_characters"].to_pylist() == [0, len(NOTICE) + 2, 0, 0]


def spec(folder: Path) -> Path:
    path = generations.spec(folder, 0.8)
    found = path.read_text().replace("stages: {", "text: once\nstages: {once: {kind: repeated_lines}, ")
    path.write_text(found.replace("held_out: 4%", "held_out: 10%"))
    return path


def page(seed: int, *lines: str, bad: bool = False) -> dict[str, str]:
    text = "\n".join([english(random.Random(seed), 8), *lines])
    return {"text": text, "url": f"https://example.org/{seed}/{'bad' if bad else 'good'}/"}


def columns(path: Path) -> dict[str, dict[str, Any]]:
    names = "url, text, once, kept, held_out, reason, len(tokens) as tokens, token_estimate"
    found = told("query", path, f"select {names} from corpus order by url")
    return {row[0]: dict(zip(found["columns"], row, strict=True)) for row in found["rows"]}


def test_the_model_reads_the_cut_text_and_rules_the_whole_one_and_older_texts_stay(tmp_path: Path) -> None:
    generations.write(tmp_path, "web-0", [page(0, NOTICE, bad=True), *(page(seed, NOTICE) for seed in range(1, 30))])
    path = spec(tmp_path)
    run = generations.night(path)
    order = [node.name for node in run.pipeline.nodes]
    assert order.index("signals") < order.index("verdict") < order.index("once") < order.index("tokens")
    before = columns(path)
    kept = [each for each in before.values() if each["kept"]]
    assert [each["text"] == each["once"] for each in kept].count(True) == 1
    assert all(each["text"] == each["once"] for each in before.values() if not each["kept"])
    assert any(each["held_out"] for each in before.values())
    assert before["https://example.org/0/bad/"]["reason"] == "bad"
    [whole] = [each["tokens"] for each in kept if each["text"] == each["once"]]
    assert whole > 1.05 * sum(each["tokens"] for each in kept) / len(kept)
    assert all(each["once"] == each["text"].replace(f"\n{NOTICE}", "") for each in kept if each["once"] != each["text"])

    generations.write(tmp_path, "web-1", [page(seed, NOTICE) for seed in range(40, 50)])
    generations.night(path)
    after = columns(path)
    assert {url: after[url] for url in before} == before
    newer = [each for url, each in after.items() if url not in before and each["kept"]]
    assert newer
    assert all(each["once"] == each["text"].replace(f"\n{NOTICE}", "") for each in newer)


def test_texts_that_are_cut_from_each_other_are_refused(tmp_path: Path) -> None:
    path = spec(tmp_path)
    both = "{kind: repeated_lines, text: spans}, spans: {kind: repeated_spans, text: once}"
    path.write_text(path.read_text().replace("{kind: repeated_lines}", both))
    with pytest.raises(SpecError, match=r"once.text: a text is not cut from itself\n.*spans.text: a text"):
        load(str(path))


def test_a_rule_that_reads_the_cut_text_is_refused(tmp_path: Path) -> None:
    path = spec(tmp_path)
    generations.write(tmp_path, "web-0", [page(1)])
    path.write_text(path.read_text().replace('bad: "url', 'short: "length(once) < 9"}, {bad: "url'))
    with pytest.raises(SpecError, match="stages need each other"):
        Run.of(str(path), None)


def test_what_a_cut_leaves_out_stops_no_run(tmp_path: Path) -> None:
    """It comes after the verdict, so no rule could drop what its `where` skips, and the gate asks for none."""
    generations.write(tmp_path, "web-0", [page(seed, NOTICE) for seed in range(20)])
    path = spec(tmp_path)
    path.write_text(
        path.read_text().replace("{kind: repeated_lines}", "{kind: repeated_lines, where: 'kept and false'}")
    )
    generations.night(path)
    assert all(each["text"] == each["once"] for each in columns(path).values())
