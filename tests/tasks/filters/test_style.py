"""Style: numbers that can be counted by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.load import load
from tasks.filters.style import Style
from tasks.registry import nodes
from tasks.storage.pins import Pins
from tasks.storage.store import Store


def styled(text: str | None) -> dict[str, Any]:
    [row] = Style(stages.Style())(pa.table({"text": pa.array([text], pa.string())})).to_pylist()
    return row


def test_each_share_is_what_counting_gives() -> None:
    found = styled('Buy the Lamp, you need "it" (today)\n\nLog in\n\nThe cat sat on the mat.')
    expected = {
        "line_words": 15 / 3,
        "median_line_words": 6,
        "unended_share": 2 / 15,  # a bracket ends a line, too
        "long_line_share": 0,
        "long_words_share": 0,
        "function_share": 7 / 15,  # the, you, it; in; the, on, the
        "you_share": 1 / 15,
        "sales_share": 2 / 15,  # buy, today
        "capitalised_share": 4 / 15,
        "door_ratio": 1 / 15,
        "comma_ratio": 1 / 15,
        "parenthesis_ratio": 1 / 15,
        "quote_ratio": 2 / 15,
        "distinct_share": 13 / 15,
    }
    assert found == pytest.approx(expected)


def test_a_mark_parts_no_word() -> None:
    assert styled("हम हिन्दी में लिखते हैं।")["line_words"] == 5
    assert styled("العَرَبِيَّةُ لُغَةٌ جَمِيلَةٌ.")["line_words"] == 3
    assert styled("n\u0303a\u0301m b\u0304.")["line_words"] == 2


def test_lines_that_were_wrapped_are_one_and_code_is_none() -> None:
    lines = ["word " * 12 + "and", "word " * 12 + "and", "word " * 12 + "end."]
    assert styled("\n".join(lines))["line_words"] == 39
    assert styled("One line stands here.\n\n```\nfor word in words: print(word)\n```")["line_words"] == 4


def test_a_text_without_words_has_no_style() -> None:
    assert set(styled("... 12").values()) == set(styled(None).values()) == {None}


@pytest.mark.parametrize(("rules", "there"), [('[{r: "you_share > 0.1"}]', True), ('[{r: "words < 3"}]', False)])
def test_the_stage_is_there_where_a_rule_reads_it(tmp_path: Any, rules: str, there: bool) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: x\nsources: {{s: {{kind: jsonl, paths: none}}}}\nchannels: {{all: 'true'}}\nrules: {rules}\n"
    )
    found = nodes(load(spec), Pins(Store(str(tmp_path / "store")), "x"))
    assert ("style" in [node.name for node in found]) is there
