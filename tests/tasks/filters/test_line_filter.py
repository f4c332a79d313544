"""The line filter, against datatrove's C4 filter on real texts, and RefinedWeb's rules written down a second time."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter

from data_specs import stages
from tasks.filters.line_filter import LineFilter

DATA = Path(__file__).parents[4] / "shared" / "data"
PAGES = DATA / "labels" / "weborganizer_dclm_pages.jsonl.gz"
ARTICLES = DATA / "text" / "en_tech_news_lctt_sources.jsonl.gz"
TEXT = """MAIN MENU
Home
12,345
Follow me [12] to the shore, said he.[citation needed]
3.4K likes
The whole of it is read in an hour...
Please turn JavaScript on.
This site uses cookies, as all do.
Sign-in to go on
Two items in cart

An end, but of two words:
It ends.
"""


def filtered(texts: list[str], like: str) -> dict[str, list[object]]:
    stage = LineFilter(stages.LineFilter.model_validate({"like": like}))
    found: dict[str, list[object]] = stage(pa.table({"text": pa.array(texts, pa.string())})).to_pydict()
    return found


@pytest.mark.parametrize(
    ("like", "wanted"),
    [
        ("c4", ["Follow me  to the shore, said he."]),
        (
            "fineweb",
            [
                "Follow me  to the shore, said he.",
                "The whole of it is read in an hour...",
                "Sign-in to go on",
                "Two items in cart",
                "An end, but of two words:",
            ],
        ),
        (
            "refinedweb",
            [
                "Follow me [12] to the shore, said he.[citation needed]",
                "The whole of it is read in an hour...",
                "Please turn JavaScript on.",
                "This site uses cookies, as all do.",
                "to go on",
                "Two",
                "",
                "An end, but of two words:",
                "It ends.",
            ],
        ),
    ],
)
def test_the_lines_that_a_set_keeps(like: str, wanted: list[str]) -> None:
    assert filtered([TEXT], like)["line_filter"] == ["\n".join(wanted)]


def test_what_went_is_counted_and_a_text_of_nothing_else_is_emptied() -> None:
    found = filtered(["Home\nThis is one sentence of it.", "Home", "", "All of it stays here."], "c4")
    assert found["line_filter"] == ["This is one sentence of it.", "", "", "All of it stays here."]
    assert found["line_filter_emptied"] == [False, True, False, False]
    assert found["dropped_lines"] == [1, 1, 0, 0]
    assert found["dropped_word_share"] == [pytest.approx(1 / 7), 1.0, None, 0.0]


@pytest.mark.skipif(not PAGES.exists(), reason=f"{PAGES} is not here")
@pytest.mark.parametrize(("like", "ends"), [("c4", True), ("fineweb", False)])
def test_what_is_left_of_real_pages_is_what_datatrove_leaves(like: str, ends: bool) -> None:
    with gzip.open(PAGES, "rt") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(500), strict=False)]
    peer = C4QualityFilter(
        filter_no_terminal_punct=ends, min_num_sentences=-1, filter_lorem_ipsum=False, filter_curly_bracket=False
    )
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    assert all(peer.filter(document) is True for document in documents)
    assert filtered(texts, like)["line_filter"] == [document.text for document in documents]


def refinedweb(text: str) -> str:
    """Line by line as RefinedWeb's table says, with the patterns that DCLM names."""
    left = []
    for line in text.splitlines():
        capitals = re.findall(r"[^\W\d_]", line)
        capitals = [letter for letter in capitals if letter != letter.lower() and letter == letter.upper()]
        if len(capitals) * 2 > len(line) or re.fullmatch(r"\s*\d[\d\s]*|\s*\S+\s*", line):
            continue
        counted = "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers"
        if re.search(rf"^\W*\d(?:,|\.|\d)*[kmb]?\s+(?:{counted})\W*$", line.lower()):
            continue
        made = line
        if len(line.split()) <= 10:
            for form in (r"\s?items in cart", r"\s?read more\.\.\.$", r"^sign-in\s?"):
                made = re.sub(form, "", made, flags=re.IGNORECASE)
        if made.strip() or not line.strip():
            left.append(made)
    return "\n".join(left).strip()


@pytest.mark.skipif(not ARTICLES.exists(), reason=f"{ARTICLES} is not here")
def test_lines_of_real_articles_go_as_the_rules_of_refinedweb_say() -> None:
    """Articles, since what is at hand of web pages went through these rules once."""
    with gzip.open(ARTICLES, "rt") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(500), strict=False)]
    found = filtered(texts, "refinedweb")
    assert found["line_filter"] == list(map(refinedweb, texts))
    assert sum(map(bool, found["dropped_lines"])) > 100
