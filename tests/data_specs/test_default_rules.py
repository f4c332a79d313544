"""The default rules, and those for crawls, over real text that is trusted: what they keep, and that they do throw
stubs away."""

from __future__ import annotations

import gzip
import hashlib
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.load import load
from data_specs.spec import Rule
from tasks.decision.verdict import failing
from tasks.filters.composition import Composition
from tasks.filters.style import Style

ROOT = Path(__file__).parents[2]
TEXT = ROOT.parent / "shared" / "data" / "text"
SETS = {
    "zh_tech_news_lctt": "zh",
    "zh_law": "zh",
    "zh_recipes": "zh",
    "zh_wiki_cmrc2018": "zh",
    "zh_algorithms_oiwiki": "zh",
    "zh_classical_5M": "zh",
    "zh_poetry_30k": "zh",
    "en_brown_15genres": "en",
    "en_essays_pg": "en",
    "en_tech_news_lctt_sources": "en",
    "en_wikitext2_valid_test": "en",
}


@pytest.fixture(scope="module", params=["default", "web"])
def rules(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Rule, ...]:
    spec = tmp_path_factory.mktemp("rules") / "spec.yaml"
    spec.write_text(
        "name: rules\nsources: {web: {kind: jsonl, paths: none}}\nchannels: {all: 'true'}\n"
        f"rules:\n  - include: {ROOT / 'data_specs' / 'rules' / f'{request.param}.yaml'}\n"
    )
    return load(spec).rules


def dropped(rules: tuple[Rule, ...], texts: list[str], language: str) -> np.ndarray:
    table = pa.table({"text": texts, "language": [language] * len(texts)})
    for stage in (Composition(stages.Composition()), Style(stages.Style())):
        for field, column in zip(stage.writes, stage(table).columns, strict=True):
            table = table.append_column(field, column)
    return np.logical_or.reduce(list(failing(rules, table).values()))


@pytest.mark.slow
@pytest.mark.skipif(not TEXT.is_dir(), reason="the trusted sets of ../shared/data are not here")
@pytest.mark.parametrize(("name", "language"), SETS.items())
def test_trusted_text_is_kept(rules: tuple[Rule, ...], name: str, language: str) -> None:
    with gzip.open(TEXT / f"{name}.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, 2000)]
    texts = sorted(texts, key=lambda text: hashlib.blake2b(text.encode()).digest())[:60]
    assert dropped(rules, texts, language).mean() <= 0.05


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Log in\nSign up\nForgot your password?\n\nYou do not have permission to view this page.", "en"),
        ("Blue vase\n\nAdd to cart\n\nIn stock\n\nFree shipping\n\nShare this\n\nRelated products", "en"),
        ("2019 11 3 4.5 6\n2020 12 4 4.7 9\n2021 13 5 4.9 12\nyear rain days heat wind\n" * 3, "en"),
        ("登录\n注册\n忘记密码\n\n版权所有\n\n当前位置：首页\n\n暂无评论", "zh"),
        ("The same sentence stands here again and again, as if nobody had ever read the page at all. " * 30, "en"),
    ],
)
def test_what_is_no_text_is_dropped(rules: tuple[Rule, ...], text: str, language: str) -> None:
    assert dropped(rules, [text], language).tolist() == [True]


def test_a_page_of_a_poor_format_is_dropped_where_a_classifier_is_surer_of_it_by_far(
    tmp_path: Path,
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: rules\nsources: {web: {kind: jsonl, paths: none}}\nchannels: {all: 'true'}\n"
        f"rules:\n  - include: {ROOT / 'data_specs' / 'rules' / 'formats.yaml'}\n"
    )
    poor = {"format_spam_ads": [0.3, 0.3, 0.15, 0.6, None], "format_structured_data": [0.2, 0.2, 0.0, 0.2, None]}
    good = {"format_tutorial": [0.1, 0.3, 0.0, 0.0, None], "format_news_article": [0.19, 0.1, 0.0, 0.0, None]}
    names = ("truncated", "academic_writing", "knowledge_article", "nonfiction_writing")
    table = {f"format_{name}": [0.0, 0.0, 0.0, 0.0, None] for name in names} | poor | good
    drops = failing(
        load(spec).rules, pa.table(table | {"language": ["en", "en", "en", "de", "en"], "code_share": [0.0] * 5})
    )
    assert [found.tolist() for found in drops.values()] == [[True, False, False, False, False]]
