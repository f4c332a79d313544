"""What is changed inside trafilatura and htmldate is there to be changed, and is what they use."""

from __future__ import annotations

import random
import re
import sys
from datetime import datetime
from importlib import metadata
from types import FunctionType
from typing import Any

import pytest
import trafilatura.xpaths
from htmldate import find_date
from lxml.etree import XPath, fromstring
from lxml.html import HtmlElement
from trafilatura.utils import HTML_PARSER, load_html

from tasks.extraction import html, trafilatura_patches
from tasks.extraction.trafilatura_rules import NAMESPACES, Rule


@pytest.mark.parametrize("library", trafilatura_patches.VERSIONS)
def test_the_changes_were_made_for_the_version_that_is_installed(library: str) -> None:
    assert metadata.version(library) == trafilatura_patches.VERSIONS[library], "read what it changed, then raise this"


def rules(value: Any) -> list[XPath | Rule]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, XPath | Rule)]


def test_every_rule_that_trafilatura_tries_asks_for_the_attribute_first() -> None:
    assert html.extract
    used = [
        rule
        for name, module in sys.modules.items()
        if name.startswith("trafilatura.") and name != "trafilatura.settings"  # whose rules `baseline` has for itself
        for value in vars(module).values()
        for rule in rules(value)
    ]
    tested = [rule.path for rule in used if "re:test(" in rule.path]
    assert len(tested) > 40
    assert not [path for path in tested if re.search(r"(?<! and )re:test\(", path)]


RULES = [rule for value in vars(trafilatura.xpaths).values() for rule in rules(value) if isinstance(rule, Rule)]


def test_rules_find_what_their_expressions_find() -> None:
    rng = random.Random(1)
    literals = {text for rule in RULES for text in re.findall(r"'([^']*)'", rule.path)}
    words = sorted({word for text in literals for word in re.findall(r"[\w -]+", text)} | {"", "Nav", "x", "é"})
    tags = [
        "div",
        "p",
        "span",
        "section",
        "article",
        "main",
        "list",
        "item",
        "aside",
        "ol",
        "li",
        "h1",
        "cite",
        "quote",
    ]
    names = ["id", "class", "style", "role", "itemprop", "aria-hidden", "data-component", "data-lp-replacement-content"]

    def made(depth: int) -> str:
        named = [
            f'{name}="{" ".join(rng.choices(words, k=rng.randrange(3)))}"'
            for name in rng.sample(names, rng.randrange(4))
        ]
        inside = "".join(made(depth - 1) for _ in range(rng.randrange(5))) if depth else ""
        tag = rng.choice(tags)
        return f"<{tag} {' '.join(named)}>{inside}</{tag}>"

    found = [0] * len(RULES)
    for _ in range(150):
        tree = fromstring(f"<body>{made(4)}<!-- x -->{made(4)}</body>")
        for number, rule in enumerate(RULES):
            for element in (tree, *tree[:1]):
                assert rule(element) == XPath(rule.path, namespaces=NAMESPACES)(element), rule.path
                found[number] += len(rule(element))
    assert sum(map(bool, found)) > 20
    assert len({rule.path for rule in RULES if rule._plain}) > 12


def test_a_page_is_parsed_by_the_parser_that_was_changed() -> None:
    assert isinstance(load_html, FunctionType)
    assert load_html.__globals__["HTML_PARSER"] is HTML_PARSER
    tree = load_html("<html><body><form><input><select></select></form></body></html>")  # lxml has classes for these
    assert {type(element) for element in tree.iter()} == {HtmlElement}


def test_a_date_without_a_day_is_the_first_of_its_month() -> None:
    page = '<html><head><meta property="article:published_time" content="2014-05"></head><body>gold</body></html>'
    assert find_date(page, max_date=datetime(2020, 1, 1)) == "2014-05-01"
