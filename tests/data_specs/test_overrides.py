"""Settings that are given beside a spec, and numbers as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_specs.base import parse_count
from data_specs.load import load
from tests.data_specs.small_spec import mistakes


def test_a_value_is_changed_by_its_key(spec: Path) -> None:
    overrides = (
        "training.steps=20",
        "stages.duplicates.threshold=0.75",
        "stages.extract.memory=2GiB",
        "sources.pages.paths=[x/*.gz, y/*.gz]",
        "mixture.phases.0.until=50%",
        "rules.foreign=language not in ('zh', 'en')",
        "rules.foreign.where=source = 'pages'",
        "store=s3://bucket/sluice",
        "cluster.cpus=2",
    )
    loaded = load(spec, overrides)
    assert (loaded.training.steps, loaded.stages["duplicates"].threshold, loaded.cluster.cpus) == (20, 0.75, 2)
    assert loaded.extract.memory == 2 * 2**30
    assert loaded.sources["pages"].patterns == ("x/*.gz", "y/*.gz")
    assert loaded.mixture.phases[0].until == 0.5
    assert loaded.store == "s3://bucket/sluice"
    assert (loaded.rules[0].drop, loaded.rules[0].where) == ("language not in ('zh', 'en')", "source = 'pages'")
    assert loaded.rules[1] == load(spec).rules[1]


@pytest.mark.parametrize(
    ("override", "mistake"),
    [
        ("training.stepz=20", "--set training.stepz: training.stepz is unknown; did you mean steps?"),
        ("trainng.steps=20", "--set trainng.steps: trainng is unknown; did you mean training?"),
        ("rules.shouting=true", "--set rules.shouting: rules.shouting is unknown; a new rule is written in the spec"),
        ("rules.low_qualty=true", "--set rules.low_qualty: rules.low_qualty is unknown; did you mean low_quality?"),
        ("rules.foreign.were=true", "--set rules.foreign.were: rules.foreign.were is unknown; did you mean foreign?"),
        ("rules=[]", "--set rules: rules are changed one by one, by name, such as rules.foreign"),
        (
            "rules.foreign=lenght(text)",
            "--set rules.foreign: rule foreign: function `lenght` is not allowed; did you mean `length`?",
        ),
        ("training.steps=many", "--set training.steps: training.steps is `many`, but should be a whole number"),
        ("training.steps", "--set training.steps: is not `key=value`, such as training.steps=20"),
        ("=5", "--set =5: is not `key=value`, such as training.steps=20"),
        ("training.steps=[1", "--set training.steps: the value `[1` is not YAML; put it in quotes"),
        ("name.x=1", "--set name.x: name is `small` and has no keys"),
        (
            "mixture.phases.7.until=1",
            "--set mixture.phases.7.until: mixture.phases is a list of 2, and 7 is no position in it",
        ),
        ("mixture.phases.x=1", "--set mixture.phases.x: mixture.phases is a list of 2, and x is no position in it"),
    ],
)
def test_a_wrong_override_is_named(spec: Path, override: str, mistake: str) -> None:
    assert mistakes(spec, override)[0].startswith(mistake)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,600,000", 1_600_000), ("1_600_000", 1_600_000), ("1,600.5K", 1_600_500), ("9007199254740993", 2**53 + 1)],
)
def test_a_number_with_separators_is_read_to_its_last_digit(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["1,6M", "8,5G", "10,00", "1600,000", "1,,000", "1_,000", ",5", "0.1234567K"])
def test_a_comma_that_is_no_separator_of_thousands_is_not_left_out(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_count(text)
