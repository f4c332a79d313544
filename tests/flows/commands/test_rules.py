"""`sluice rules`, held against the verdict's own columns; and over sources of which nothing is computed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from data_specs.groups import named
from tests import small, whole
from tests.commands import ask, files, told
from tests.generations import write


def test_counts_are_those_of_the_verdict(computed: Any) -> None:
    spec, _ = computed
    found = told("rules", spec)
    assert not found["sample"]
    names = [rule["rule"] for rule in found["rules"]]
    assert names == ["short", "foreign", "low_quality"]
    fails = ", ".join(f"fails_{name}" for name in names)
    rows = told("query", spec, f"select source, language, channel, token_estimate, {fails} from corpus")["rows"]
    assert found["documents"]["all"] == len(rows)
    for number, rule in enumerate(found["rules"]):
        mine = [row for row in rows if row[4 + number]]
        assert rule["dropped"].get("all", 0) == len(mine)
        assert rule["dropped_tokens"].get("all", 0) == sum(row[3] for row in mine)
        assert rule["alone"].get("all", 0) == sum(sum(row[4:]) == 1 for row in mine)
        assert rule["first"].get("all", 0) == sum(not any(row[4 : 4 + number]) for row in mine)
        for place, group in enumerate(("source", "language", "channel")):
            for value in {row[place] for row in rows}:
                expected = sum(row[place] == value for row in mine)
                assert rule["dropped"].get(f"{group} {named(value)}", 0) == expected
    assert found["dropped"]["all"] == sum(any(row[4:]) for row in rows)
    assert any(rule["dropped"].get("all") for rule in found["rules"])


def test_examples_are_the_nearest_to_the_threshold_on_either_side(computed: Any) -> None:
    spec, _ = computed
    setting = "rules.short=\"domain <> 'code' and words < 300\""
    [rule, *_] = told("rules", spec, "--set", setting, "--examples", 3)["rules"]
    sql = "select words from corpus where domain <> 'code' and words {} 300 order by abs(words - 300) limit 3"
    for side, sign in (("dropped_examples", "<"), ("other_examples", ">=")):
        expected = [words for [words] in told("query", spec, sql.format(sign))["rows"]]
        given = [example["values"]["words"] for example in rule[side]]
        assert len(given) == 3
        distances = [abs(words - 300) for words in given]
        assert distances == sorted(distances)
        if side == "dropped_examples":
            assert distances == [abs(words - 300) for words in expected]


def test_examples_of_whole_numbers_beyond_two_to_the_53rd_are_shown_too(tmp_path: Path) -> None:
    path = small.corpus(tmp_path, files=1, documents=8)
    rows = [{"text": f"{place} of many words", "stamp": 2**62 + place} for place in range(8)]
    write(tmp_path, "web-00", rows)
    text = path.read_text().replace('jsonl.gz"}', 'jsonl.gz", columns: {stamp: int}}')
    path.write_text(text)
    [rule, *_] = told("rules", path, "--set", f"rules.short=stamp > {2**62 + 3}", "--examples", 2)["rules"]
    assert rule["dropped"]["all"] == 4
    assert len(rule["dropped_examples"]) == len(rule["other_examples"]) == 2


def test_shards_whose_columns_are_not_computed_are_no_part_and_that_is_said(computed: Any, copied: Path) -> None:
    assert told("rules", computed[0])["shards"] == [4, 4]
    small.web(copied.parent / "web", 3, 60, seed=2)
    found = told("rules", copied)
    assert (found["sample"], found["shards"]) == (False, [4, 5])
    assert found["documents"] == told("rules", computed[0])["documents"]
    assert "over 4 of 5 shards, as columns of the others are not computed" in ask("rules", copied).stderr
    assert "shards" not in ask("rules", computed[0]).stderr


def test_a_rule_with_a_percentile_that_nobody_learned_is_said_to_be_unknown(computed: Any) -> None:
    spec, _ = computed
    given = ("rules", spec, "--set", "rules.short=words < percentile(words, 50)")
    assert told(*given)["unknown_columns"] == ["percentile(words, 50)"]
    assert "not known without a run: percentile(words, 50)" in ask(*given).stderr
    assert told("rules", spec)["unknown_columns"] == []


def test_a_person_is_shown_tables_that_fit_and_hostile_text_as_escapes(computed: Any) -> None:
    spec, _ = computed
    shown = ask("rules", spec, "--rule", "short", "--set", 'rules.short="words < 3000"', "--examples", 200).stdout
    assert max(map(len, shown.splitlines())) <= 120
    assert "\x1b" not in shown
    assert "[red]river" in "".join(shown.split())
    assert "Rules, over the store" in shown


def test_a_sample_is_judged_before_anything_is_computed_and_nothing_is_written(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=30)
    found = told("rules", spec, "--sample", 20)
    assert found["sample"]
    assert {"domain", "quality"} <= set(found["unknown_columns"])
    assert found["documents"]["source web"] == 20
    texts = [rule["dropped"].get("source web", 0) for rule in found["rules"]]
    assert texts[0] > 0
    assert not [path for path in files(spec) if path.startswith(("columns/", "documents/"))]
    assert found["rules"][0]["dropped"].get("source code", 0) == 0
    assert "a sample" in ask("rules", spec).stdout


def short(spec: Path, *more: object) -> dict[str, Any]:
    """What `rules` says where the first rule drops every document, all of them being examples."""
    return told("rules", spec, "--set", "rules.short=words < 100000", "--rule", "short", "--examples", 999, *more)


def files_of(found: dict[str, Any]) -> set[str]:
    """Of which files of the source `web` documents were judged."""
    return {each["url"].split("/")[3] for each in found["rules"][0]["dropped_examples"] if each["url"]}


def test_a_sample_is_of_all_files_of_a_source(tmp_path: Path) -> None:
    found = short(small.corpus(tmp_path, files=3, documents=30), "--sample", 20)
    assert (found["sample"], found["documents"]["source web"]) == (True, 20)
    assert files_of(found) == {"0", "1", "2"}


def test_where_reading_makes_no_document_the_reasons_are_told(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=2, documents=30)
    spec.write_text(spec.read_text().replace('web/*.jsonl.gz"', 'web/*.jsonl.gz", text: content'))
    found = told("rules", spec)
    assert found["left_out"] == {"web": {"no_text": 60}}
    assert "source web: no document was made of 60 records that were read: no_text 60" in ask("rules", spec).stderr
    spec.write_text(re.sub("  code: {kind: .*\n", "", spec.read_text()))
    said = ask("rules", spec, code=1).stderr
    assert "source web: no document was made of 60 records that were read: no_text 60" in said


def test_a_sample_is_of_the_store_where_that_has_documents_but_not_what_was_taken_down(copied: Path) -> None:
    before = told("rules", copied)["documents"]
    taken = "https://example.org/1/1"
    told("takedown", copied, "--url", taken, "--only", "--yes")
    (copied.parent / "web" / "web-00.jsonl.gz").unlink()
    copied.write_text(
        copied.read_text()
        .replace("stages:", "stages:\n  script: {}")
        .replace("rules:", "rules:\n  - traditional: script = 'Hant'")
    )
    found = told("rules", copied, "--sample", 9999, "--rule", "traditional", "--examples", 999)
    assert (found["sample"], found["documents"]["source web"]) == (True, before["source web"] - 1)
    urls = {each["url"] for each in found["rules"][0]["other_examples"]}
    assert "https://example.org/0/1" in urls  # its file has left
    assert taken not in urls


def test_a_person_is_told_which_documents_examples_are(computed: Any) -> None:
    [example] = told("rules", computed[0], "--rule", "short", "--examples", 1)["rules"][0]["dropped_examples"]
    shown = "".join(ask("rules", computed[0], "--rule", "short", "--examples", 1).stdout.split())
    assert example["id"] in shown
    assert example["url"] in shown


@pytest.mark.parametrize(
    ("drop", "nearest"),
    [
        ("share < 0.5", "share"),
        ("0.5 > share", "share"),
        ("share < .5", "share"),
        ("text = '(x < 3)' or share < 0.5", "share"),
        ("share - 0.5 < 0", None),
        ("share between 0 and 0.499999", None),
    ],
)
def test_examples_are_the_nearest_however_a_threshold_is_written_or_are_not_called_so(
    tmp_path: Path, drop: str, nearest: str | None
) -> None:
    spec = small.corpus(tmp_path, files=1, documents=8)
    rows = [{"text": f"{place} of many words", "share": (49_996 + place) / 10**5} for place in range(8)]
    write(tmp_path, "web-00", rows)
    spec.write_text(spec.read_text().replace('jsonl.gz"}', 'jsonl.gz", columns: {share: float}}'))
    given = (spec, "--set", f"rules.short={drop}", "--rule", "short", "--examples", 2)
    [rule, *_] = told("rules", *given)["rules"]
    shown = ask("rules", *given).stdout
    assert rule["nearest_by"] == nearest
    if nearest:
        assert [each["values"]["share"] for each in rule["dropped_examples"]] == [0.49999, 0.49998]
        assert "(by share, nearest to the threshold first)" in shown
        assert shown.index("share = 0.49999") < shown.index("share = 0.49998")  # and are not rounded to it
    else:
        assert "nearest to the threshold" not in shown


def test_a_rule_that_is_none_is_refused(computed: Any) -> None:
    assert "shorter is no rule; there are short, " in ask("rules", computed[0], "--rule", "shorter", code=2).stderr


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec whose rules read a text in which addresses are masked, and a page with three of them."""
    spec = small.corpus(tmp_path_factory.mktemp("masked"), files=1, documents=30)
    text = f"Write to one@example.com, two@example.com or three@example.com. {'River and valley. ' * 30}"
    write(spec.parent, "web-70", [{"text": text, "url": "https://example.org/masked"}])
    written = spec.read_text().replace("stages:\n", "text: safe\nstages:\n  safe: {kind: personal_data}\n")
    rules = "rules:\n  - marked: \"text like '%<EMAIL>%'\"\n  - address: \"text like '%@example.com%'\"\n"
    spec.write_text(written.replace("rules:\n", rules))
    return spec


def test_rules_that_read_the_text_are_judged_by_the_text_that_the_verdict_reads(masked: Path) -> None:
    for sample in (True, False):
        found = told("rules", masked, "--rule", "marked")
        assert found["sample"] == sample
        dropped = {rule["rule"]: rule["dropped"].get("all", 0) for rule in found["rules"]}
        assert (dropped["marked"], dropped["address"]) == (1, 0)
        [example] = found["rules"][0]["dropped_examples"]
        assert example["text"].startswith("Write to <EMAIL>, <EMAIL> or <EMAIL>.")
        if sample:
            whole.go(masked, until="verdict")
    [row] = told("query", masked, "select sum(fails_marked), sum(fails_address) from corpus")["rows"]
    assert row == [1, 0]


def test_no_rule_is_the_first_reason_of_a_document_whose_text_was_emptied(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=30)
    menus = [{"text": "3 likes\n12\nShare", "url": f"https://example.org/menu/{number}"} for number in range(4)]
    write(tmp_path, "web-70", menus)
    stage = "text: prose\nstages:\n  prose: {kind: line_filter, like: refinedweb, where: \"url like '%menu%'\"}\n"
    written = spec.read_text().replace("stages:\n", stage) + "gates: {skipped: true}\n"
    spec.write_text(written.replace("domain <> 'code' and words < 40", "length(text) < 20"))
    for sample in (True, False):
        found = told("rules", spec)
        assert found["sample"] == sample
        [rule, *_] = found["rules"]
        assert rule["dropped"]["all"] == found["dropped"]["all"] == 4
        assert rule["first"].get("all", 0) == rule["first_tokens"].get("all", 0) == 0
        if sample:
            whole.go(spec, until="verdict")
    assert told("funnel", spec)["dropped"]["emptied"] == 4


def test_a_rule_about_a_source_that_is_none_is_judged_and_said(computed: Any) -> None:
    spec, _ = computed
    given = (spec, "--set", "rules.short=source = 'wbe' and words < 40")
    why = "source is never 'wbe' in this spec; did you mean `web`?"
    for command in ("rules", "plan"):
        assert any(why in note for note in told(command, *given)["unmatched"])
        assert why in " ".join(ask(command, *given).output.split())
        assert told(command, spec)["unmatched"] == []
