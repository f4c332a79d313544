"""`sluice inspect`: the verdict with the rule, the values and the thresholds that led to it, then text and columns."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from flows.commands.document import at
from tasks.engine.views import views
from tests import small, whole
from tests.commands import ask, told


def one(spec: Any, condition: str) -> str:
    """The id of a document of which a condition is true."""
    [[name]] = told("query", spec, f"select min(id) from corpus where {condition}")["rows"]
    assert name is not None
    return str(name)


def test_the_verdict_names_the_rule_the_values_that_met_it_and_where_it_stands(computed: Any) -> None:
    spec, _ = computed
    name = one(spec, "reason = 'short'")
    found = told("inspect", spec, name)
    [rule] = found["verdict"]["fails"]
    line = next(n for n, text in enumerate(spec.read_text().splitlines(), 1) if "- short:" in text)
    assert (rule["rule"], rule["drop"]) == ("short", "domain <> 'code' and words < 40")
    assert rule["values"] == {"domain": found["domain"], "words": found["words"]}
    assert rule["origin"].endswith(f"small.yaml:{line}")
    assert found["verdict"] | {"fails": []} == {
        "kept": False,
        "reason": "short",
        "because": rule["drop"],
        "fails": [],
        "passes": 2,
    }
    shown = ask("inspect", spec, name).stdout
    assert shown.startswith("dropped: short\n    domain <> 'code' and words < 40\n    with ")
    assert f"words = {found['words']}" in shown
    assert "2 other rules do not drop it" in shown
    assert "fails_" not in shown
    assert shown.index(found["text"]) < shown.index("language_score")


def test_a_percentile_is_shown_as_the_pinned_number_it_stands_for(computed: Any) -> None:
    spec, _ = computed
    found = told("inspect", spec, one(spec, "reason = 'low_quality'"))
    [rule] = found["verdict"]["fails"]
    assert rule["values"] == {"quality": found["quality"]}
    [(text, threshold)] = rule["thresholds"].items()
    assert text == "percentile(quality, 2)"
    assert found["quality"] < threshold
    above = f"quality > {threshold!r} and domain = '{found['domain']}'"
    kept = told("query", spec, f"select count(*) from corpus where fails_low_quality and {above}")
    assert kept["rows"] == [[0]]


def test_every_rule_that_is_met_is_shown_and_the_first_is_the_reason(computed: Any, copied: Any) -> None:
    from tests.whole import go

    spec = copied
    wide = spec.read_text().replace(
        '  - short: "', '  - tiny: "words < 41"\n    where: "domain <> \'code\'"\n  - short: "'
    )
    spec.write_text(wide)
    go(spec, until="verdict")
    name = one(spec, "reason = 'tiny' and fails_short")
    found = told("inspect", spec, name)["verdict"]
    assert [rule["rule"] for rule in found["fails"]] == ["tiny", "short"]
    assert found["fails"][0]["where"] == "domain <> 'code'"
    assert set(found["fails"][0]["values"]) == {"words", "domain"}
    shown = ask("inspect", spec, name).stdout
    assert "words < 41    (where domain <> 'code')" in shown
    assert "it also meets short\n    domain <> 'code' and words < 40\n" in shown


def test_a_duplicate_names_the_document_that_stays_and_a_kept_one_its_channel(computed: Any) -> None:
    spec, _ = computed
    name = one(spec, "reason = 'duplicate'")
    found = told("inspect", spec, name)
    other = found["verdict"]["duplicate_of"]
    kept = told("inspect", spec, other["id"])
    assert (kept["shard"], kept["position"]) == (found["duplicate_of"]["shard"], found["duplicate_of"]["position"])
    assert kept["verdict"]["because"] == f"it passes every rule, in {kept['channel']}"
    assert (kept["verdict"]["kept"], kept["verdict"]["passes"], kept["verdict"]["fails"]) == (True, 3, [])
    assert 0.8 <= other["similarity"] <= 1
    assert f"{other['id']}, similarity" in ask("inspect", spec, name).stdout


@pytest.mark.parametrize("reason", ["held_out", "held_out_copy"])
def test_a_reason_that_is_no_rule_is_explained(computed: Any, reason: str) -> None:
    shown = ask("inspect", computed[0], one(computed[0], f"reason = '{reason}'")).stdout
    assert shown.startswith(f"dropped: {reason}\n    it is ")
    assert "3 rules do not drop it" in shown


def test_before_the_verdict_is_computed_a_document_has_none(computed: Any) -> None:
    spec, _ = computed
    changed = "--set=rules.short=domain <> 'code' and words < 39"
    name = told("query", spec, "select min(id) from documents")["rows"][0][0]
    found = told("inspect", spec, changed, name)
    assert (found["verdict"]["kept"], found["verdict"]["fails"]) == (None, [])
    assert ask("inspect", spec, changed, name).stdout.startswith("no verdict\n    the verdict is not computed")


def test_documents_of_a_step_are_shown_by_the_text_that_the_model_reads(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1)
    with gzip.open(tmp_path / "web" / "web-00.jsonl.gz", "at") as file:
        text = "Write to jane@example.org. " + small.english(random.Random(9), 30)
        file.write(json.dumps({"text": text, "url": "https://example.org/mail"}) + "\n")
    run = whole.go(spec, ["stages.personal_data={}", "text=personal_data"], until="tokens")
    output, names = run.pipeline.outputs["tokens"], views(run.pipeline)["corpus"]
    [(shard, position)] = [
        (place, row["position"])
        for place, table in names.scan(("position", "url"), None)
        for row in table.to_pylist()
        if row["url"] == "https://example.org/mail"
    ]
    [shown] = at(run.pipeline, [{"file": output.path(shard), "position": position}]).values()
    assert shown["text"].startswith("Write to ")
    assert "jane" not in shown["text"]


def test_a_document_without_a_url_is_named_by_its_file_wherever_documents_are_listed(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=24)
    first, second, copy = (tmp_path / "code" / name for name in ("module_00.py", "module_01.py", "module_99.py"))
    copy.write_text(first.read_text())
    whole.go(spec)
    for shown in (
        ask("whatif", spec, "--set", "rules.short=domain = 'code'", "--examples", 40),
        ask("rules", spec, "--set", "rules.short=domain = 'code' and words < 1000", "--rule", "short"),
        ask("duplicates", spec, "--largest", 40),
    ):
        assert re.search(r"module_\d\d\.py", shown.stdout)
    for asked in (second.name, f"code/{second.name}"):
        remedy = ask("inspect", spec, asked, code=2).stderr
        assert "select id from corpus where file = 'NAME'" in " ".join(remedy.split())
    assert told("inspect", spec, one(spec, f"file = '{second.name}'"))["file"] == second.name
