"""What is said of a corpus between a takedown and the run that makes a version without it, and after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import small, whole
from tests.commands import ask, told

RULE = 'rules:\n  - almost_empty: "length(text) < 20"\n'


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A corpus of which one document was taken down, and that one's id; no run came since."""
    spec = small.corpus(tmp_path_factory.mktemp("taken"), files=1, documents=30)
    spec.write_text(spec.read_text().replace("rules:\n", RULE))
    whole.go(spec)
    [[name, url]] = told("query", spec, "select id, url from corpus where kept and source = 'web' limit 1")["rows"]
    said = ask("takedown", spec, "--url", url, "--only").output
    assert f"1 document would be purged (asked: {url}):\n  {name}  asked  web  {url}\n" in said
    ask("takedown", spec, "--url", url, "--only", "--yes")
    return spec, name


def test_until_a_run_what_was_taken_down_is_told_as_the_cause(taken: tuple[Path, str]) -> None:
    spec, name = taken
    shown = ask("inspect", spec, name).output
    assert "it was taken down: its text is purged" in shown
    assert "`sluice run SPEC` makes a version without it" in shown
    assert "is not computed for this document yet" not in shown
    [line] = [line for line in ask("funnel", spec).output.splitlines() if line.startswith("pending:")]
    assert line == (
        "pending: 54 records of which `sluice run SPEC` makes the verdict; takedown 1 left no verdict as it was, and "
        "the next version is without what it took down"
    )
    [verdict] = [stage for stage in told("plan", spec)["stages"] if stage["name"] == "verdict"]
    assert verdict["because"] == "documents were taken down"


def test_after_it_no_rule_is_told_of_what_was_taken_down(taken: tuple[Path, str]) -> None:
    spec, name = taken
    whole.go(spec, until="verdict")
    shown = ask("inspect", spec, name).output
    assert "dropped: takedown\n    it was taken down" in shown
    assert "also meets" not in shown
    assert "rules do not drop it" not in shown
    assert "pending" not in ask("funnel", spec).output


def test_what_is_pending_for_another_reason_is_not_put_down_to_a_takedown(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=4)
    whole.go(spec, until="documents")
    assert "makes the verdict; `sluice plan SPEC` says why" in ask("funnel", spec).output


def test_a_version_counts_under_its_own_name_as_no_stage_is_called_counts(taken: tuple[Path, str]) -> None:
    run = whole.go(taken[0], ["rules.short=words < 30"], until="token_estimate")
    names = set[str]()
    run.version(lambda name, *_: names.add(name))
    assert names == {"version"}
