"""Composition: texts of a known kind, made here, and what each must not be held against."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.load import load
from tasks.filters.composition import Composition, repeated_share
from tasks.registry import nodes
from tasks.storage.pins import Pins
from tasks.storage.store import Store

PARAGRAPH = (
    "The river carries more water in spring than in summer, because snow in the mountains melts within some weeks. "
    "Engineers who built the bridge knew this well and raised its arches by a third above the highest mark they found."
)
CHINESE = "春天的河水比夏天多，因为山上的雪在几个星期里就化了。造桥的工程师知道这一点，所以把桥拱抬高了三分之一。"


def composed(text: str | None) -> dict[str, Any]:
    batch = pa.table({"text": pa.array([text], pa.string())})
    [row] = Composition(stages.Composition())(batch).to_pylist()
    return row


def wrapped(text: str, width: int) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


@pytest.mark.parametrize("width", [50, 72, 90])
def test_wrapped_lines_are_judged_as_the_paragraph_they_were(width: int) -> None:
    whole, found = composed(PARAGRAPH), composed(wrapped(PARAGRAPH, width))
    assert found == whole
    assert whole["prose_share"] == 1
    assert whole["sentences"] == 2


@pytest.mark.parametrize("text", [PARAGRAPH, CHINESE])
def test_addresses_formulas_and_code_do_not_count_against_a_text(text: str) -> None:
    code = "```\nfor (int i = 0; i < 10; ++i) { total += values[i]; }\nreturn total == 0;\n```"
    noisy = f"{text}\n\nhttps://example.org/a/very/long/path?with=parameters&and=more\n\n{code}"
    plain, found = composed(text), composed(noisy)
    assert found["prose_share"] == plain["prose_share"] == 1
    assert found["letter_share"] == plain["letter_share"] == 1
    assert found["code_share"] > 0.2


def test_marks_are_no_words_of_chinese() -> None:
    marks = "，".join("他来了" for _ in range(20)) + "。"
    assert composed(marks)["letter_share"] == 1


def test_bars_of_tables_are_not_symbols() -> None:
    assert composed("| name | place |\n| river | valley |\n| bridge | town |")["letter_share"] == 1


def test_a_table_a_list_and_verse_are_known_by_their_shape() -> None:
    assert composed("| a | b |\n| river | valley |\n| bridge | town |")["table_share"] == 1
    assert composed("- river\n- valley\n- bridge\n- town")["list_share"] == 1
    assert composed("床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。")["verse_share"] == 1
    prose = composed(CHINESE)
    assert prose["verse_share"] == 0
    assert prose["prose_share"] == 1


def test_a_page_around_nothing_is_furniture_and_its_text_is_cut_off() -> None:
    page = (
        "Log in\nCreate an account\n\nAdd to cart\n\nA long story about rivers and bridges starts here ...\n\nRead more"
    )
    found = composed(page)
    assert found["furniture_share"] > 0.4
    assert found["cut_off"]
    calm = composed(PARAGRAPH)
    assert calm["furniture_share"] == 0
    assert not calm["cut_off"]


@pytest.mark.parametrize(("text", "unit"), [(PARAGRAPH, 1), (CHINESE, 1)])
def test_what_is_said_twice_is_half_repeated_in_any_script(text: str, unit: int) -> None:
    assert repeated_share(text) == 0
    assert repeated_share(text + "\n" + text) == pytest.approx(0.5)


def test_repeated_letters_are_those_that_counting_by_hand_finds() -> None:
    text = "ab" * 30 + "".join(chr(97 + number * 7 % 26) for number in range(200)) + "ab" * 30
    size, letters = 48, [*text]
    seen: set[str] = set()
    covered = [False] * len(letters)
    for begin in range(len(letters) - size + 1):
        stretch = text[begin : begin + size]
        if stretch in seen:
            covered[begin : begin + size] = [True] * size
        seen.add(stretch)
    assert repeated_share(text) == pytest.approx(sum(covered) / len(covered))


def test_explicit_words_are_different_ones() -> None:
    assert composed("porn porn PORN")["explicit_words"] == 1
    assert composed(PARAGRAPH)["explicit_words"] == 0


def test_a_text_of_nothing_has_no_shares_and_a_missing_one_no_values() -> None:
    assert composed("...")["prose_share"] is None
    assert composed("...")["content_words"] == 0
    assert set(composed(None).values()) == {None}


@pytest.mark.parametrize(
    "text", ["." * 200_000, "$" * 200_000, "`a" * 100_000, "](" * 100_000, "a\t" * 100_000, "(" + " " * 200_000 + "x"]
)
def test_hostile_lines_take_time_that_grows_with_their_length_alone(text: str) -> None:
    started = time.process_time()
    composed(text)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(("rules", "there"), [('[{r: "prose_words < 3"}]', True), ('[{r: "words < 3"}]', False)])
def test_the_stage_is_there_where_a_rule_reads_it(tmp_path: Path, rules: str, there: bool) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: x\nsources: {{s: {{kind: jsonl, paths: none}}}}\nchannels: {{all: 'true'}}\nrules: {rules}\n"
    )
    found = nodes(load(spec), Pins(Store(str(tmp_path / "store")), "x"))
    assert ("composition" in [node.name for node in found]) is there
