"""Rules that a spec includes from files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_specs.load import load
from tests.data_specs.small_spec import GOPHER, SMALL, SPECS, mistakes


def test_included_rules_stand_in_their_place_with_every_where_and_their_origin(including: Path) -> None:
    rules = load(including).rules
    assert [rule.name for rule in rules] == ["few_words", "short_words", "foreign", "low_quality"]
    assert rules[0].where == "(source = 'pages') and (domain <> 'code')"
    assert rules[1].where == "(source = 'pages') and (domain <> 'code') and (language = 'en')"
    assert rules[1].origin == "Rae et al. 2021 (rules/gopher.yaml:5)"
    assert rules[2].where is None


def test_a_spec_in_another_folder_finds_its_rules(including: Path, tmp_path: Path) -> None:
    Path("specs").mkdir()
    shutil.move("rules", "specs/rules")
    shutil.move("spec.yaml", "specs/spec.yaml")
    assert load("specs/spec.yaml").rules[0].origin == "Rae et al. 2021 (specs/rules/gopher.yaml:4)"


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "words < 50",
            "words <",
            'rules/gopher.yaml:4: rule few_words: `words <` is not one expression: syntax error at or near ")"',
        ),
        (
            "domain <> 'code'",
            "domain = ) or (1",
            "rules/gopher.yaml:2: where: `domain = ) or (1` is not one expression",
        ),
        (
            "origin: Rae et al. 2021\n",
            "",
            "rules/gopher.yaml:1: is no file of rules: it has `rules`, and `origin`, the paper they are from",
        ),
        ('where: "domain', 'were: "domain', "rules/gopher.yaml:2: were is unknown; did you mean where?"),
        (
            'few_words: "words < 50"',
            "include: other.yaml",
            "rules/gopher.yaml:4: an included file includes no other; include both in the spec",
        ),
        ("few_words", "foreign", "spec.yaml:10: rules.2: foreign is defined twice"),
        (
            'few_words: "words < 50"',
            "few_words: [1]",
            "rules/gopher.yaml:4: rule few_words is a list, but should be text, in quotes",
        ),
    ],
)
def test_a_mistake_in_an_included_file_is_named_there(including: Path, old: str, new: str, mistake: str) -> None:
    assert old in GOPHER
    Path("rules/gopher.yaml").write_text(GOPHER.replace(old, new, 1))
    assert mistakes(including)[0].startswith(mistake)


def test_a_missing_include_is_named_where_it_is_asked_for(including: Path) -> None:
    shutil.move("rules/gopher.yaml", "rules/mine.yaml")
    including.write_text(including.read_text().replace("rules/gopher.yaml", "rules/min.yaml"))
    assert mistakes(including) == ["spec.yaml:8: include: rules/min.yaml: there is no such file"]


@pytest.mark.parametrize("name", ["gopher", "gopher.yaml", "rules/gopher.yaml"])
def test_a_missing_include_that_is_called_as_a_file_of_sluice_is_told_where_that_one_is(spec: Path, name: str) -> None:
    spec.write_text(SMALL.replace("rules:\n", f"rules:\n  - include: {name}\n"))
    own = SPECS / "rules" / "gopher.yaml"
    expected = f"spec.yaml:8: include: {name}: there is no such file; the one that comes with Sluice is {own}"
    assert mistakes(spec) == [expected]
    spec.write_text(spec.read_text().replace(f"include: {name}", f"include: {own}"))
    assert str(own) in load(spec).rules[0].origin
