"""spaCy's words without spaCy's objects, against spaCy itself."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from datatrove.utils.word_tokenizers import load_word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.spacy_words import SpacyWords

CODES = {"en": "eng_Latn"}
"""Languages whose words are found so."""
MARKS = ".,;:!?()[]{}<>\"'“”‘’«»…-–—/\\_*&%#@+=~^|`$€£°²"
WORDS = "word Word NATO don t s S x I 12 7 km m é слово كلمة 中文 ﷺ ǅ ʼ ™".split()
SPECIAL = "US$ www.a.com http:// etc. Mrs. cannot :) l’ d' .. '' --".split()
parts = st.sampled_from([*MARKS, *WORDS, *SPECIAL])


@pytest.fixture(scope="module", params=CODES)
def both(request: pytest.FixtureRequest) -> tuple[SpacyWords, object]:
    tokenizer = load_word_tokenizer(CODES[request.param]).tokenizer.tokenizer
    return SpacyWords(tokenizer), tokenizer


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(runs=st.lists(st.lists(parts, min_size=1, max_size=6).map("".join), min_size=1, max_size=20))
def test_words_are_those_of_the_tokenizer_itself(both: tuple[SpacyWords, object], runs: list[str]) -> None:
    words, tokenizer = both
    for run in runs:
        assert words(run).split(" ") == [token.text for token in tokenizer(run)], run  # type: ignore[operator]


def test_runs_of_real_text_are_split_as_the_tokenizer_splits_them(both: tuple[SpacyWords, object]) -> None:
    words, tokenizer = both
    runs = list(dict.fromkeys(run for text in topics.values() for run in text.split()))[:6000]
    assert [words(run).split(" ") for run in runs] == [[token.text for token in tokenizer(run)] for run in runs]  # type: ignore[operator]


def test_runs_of_web_pages_are_split_as_the_tokenizer_splits_them(shared: Path) -> None:
    tokenizer = load_word_tokenizer("eng_Latn").tokenizer.tokenizer
    words = SpacyWords(tokenizer)
    with gzip.open(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, 100)]
    runs = {run for text in texts for run in text.split() if len(run) < 500}
    for run in runs:
        assert words(run).split(" ") == [token.text for token in tokenizer(run)], run
