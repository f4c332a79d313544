"""FineWeb-2's thresholds per language, beside those for Chinese: each language is judged by its own."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data_specs.expressions import parse
from data_specs.load import load
from data_specs.spec import Rule
from tasks.decision.verdict import failing
from tasks.filters.signals import Signals

RULES = Path(__file__).parents[2] / "data_specs" / "rules"
LANGUAGES = ("ar", "de", "es", "fr", "it", "pt", "ru")


@pytest.fixture
def rules(tmp_path: Path) -> tuple[Rule, ...]:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: rules\nsources: {web: {kind: jsonl, paths: none}}\nchannels: {all: 'true'}\nrules:\n"
        f"  - include: {RULES / 'fineweb2.yaml'}\n  - include: {RULES / 'fineweb2_others.yaml'}\n"
    )
    return load(spec).rules


def test_a_document_is_judged_by_the_threshold_of_its_language_alone(rules: tuple[Rule, ...]) -> None:
    names = sorted({name for rule in rules for name in parse(rule.drop).columns})
    assert {*names} - {"language", "language_score"} <= {*Signals.writes.names}
    plain = dict.fromkeys(names, 0.0) | {"words": 100.0, "mean_word_length": 4.0, "punctuated_line_share": 1.0}
    plain |= {"alphabetic_word_share": 1.0, "language_score": 1.0, "stop_words": 9.0}
    rows = [plain | {"language": each, "newline_word_ratio": 0.16} for each in (*LANGUAGES, "zh", "en")]
    rows += [plain | {"language": each, "alphabetic_word_share": 0.8} for each in (*LANGUAGES, "zh", "en")]
    found = failing(list(rules), pa.Table.from_pylist(rows))
    dropped = [sorted(name for name, drops in found.items() if drops[row]) for row in range(len(rows))]
    list_, letters = ["fineweb2_list_other"], ["fineweb2_not_alphabetic_other"]
    assert dropped[:9] == [[], list_, list_, [], [], [], list_, [], []]
    assert dropped[9:] == [[], [], letters, letters, letters, letters, [], [], []]


def test_every_rule_for_these_languages_has_a_threshold_for_each(rules: tuple[Rule, ...]) -> None:
    by_language = [rule.drop for rule in rules if "case language" in rule.drop]
    assert len(by_language) == 16
    assert all(drop.count(f"when '{language}'") == 1 for drop in by_language for language in LANGUAGES)
