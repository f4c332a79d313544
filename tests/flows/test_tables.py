"""Tables in a pipe: no line is longer than 120 characters, and nothing of them is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flows import pretrain, summary, terminal, versions
from flows.commands import duplicates
from tests import generations
from tests.commands import ask, told

WIDTH = 120
NAMES = [f"source_{number:02d}" for number in range(19)] + ["a_source_of_" + "quite_" * 10 + "some_length"]


def funnel(names: list[str]) -> dict[str, Any]:
    """A ledger of sources of which each loses documents to a few of forty rules."""
    sources = {}
    for number, name in enumerate(names):
        dropped = {f"rule_{rule}": 1_000_003 * rule + number for rule in range(1 + number % 7, 40, 7)}
        sources[name] = {"in": 10**9 + number, "kept": 10**6 + number, "pending": 0, "dropped": dropped}
        sources[name]["quarantined"] = {"language": 5} if number == 11 else {}
    every = {name: sum(source[name] for source in sources.values()) for name in ("in", "kept", "pending")}
    for group in ("dropped", "quarantined"):
        reasons = sorted({reason for source in sources.values() for reason in source[group]})
        every[group] = {reason: sum(source[group].get(reason, 0) for source in sources.values()) for reason in reasons}
    return every | {"sources": sources}


@pytest.mark.parametrize("count", [1, 3, 10, 20])
def test_a_funnel_of_many_sources_fits_a_line_and_shows_every_number(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names = NAMES[-count:]
    found = funnel(names)
    summary.show_funnel(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    shown: dict[str, dict[str, str]] = {}
    heads: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        if "┃" in line:
            heads = cells
        elif "│" in line:
            for name, value in zip(heads, cells, strict=True):
                shown.setdefault(name, {})[cells[0]] = value
    assert list(shown)[:2] == ["", "all"]
    assert [name for name in shown if name not in ("", "all")] == names
    for name, counts in {"all": found, **found["sources"]}.items():
        rows = {"in": counts["in"], "kept": counts["kept"]}
        rows |= {f"{group}: {why}": n for group in ("dropped", "quarantined") for why, n in counts[group].items()}
        assert {row: value for row, value in shown[name].items() if value} == {row: f"{n:,}" for row, n in rows.items()}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_narrow_line_ends_between_values(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_WIDTH", width)
    monkeypatch.setattr(terminal, "_WIDE", width)
    note = (
        "pinned 535c5acc by 20261201T025656-72ad; learned in en; zh has raw documents alone, and is scored all the same"
    )
    grid = terminal.table("stage", "state", "shards", "rows", "seconds", "note", title="Run")
    grid.add_row("learn_percentiles_quality", "cached", "3", "104", "0.0", note)
    grid.add_row("tokens", "cached", "3", "104", "0.1", "")
    terminal.console().print(grid)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    found = {*re.split(r"[│\s]+", shown)}
    assert {"learn_percentiles_quality", "20261201T025656-72ad;", *note.split()} <= found


def test_rows_whose_values_have_no_room_side_by_side_stand_one_below_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ["ddcd9b72302c87d04b980b12e7e5dd00", "https://example.org/0/2", "0.20792600512504578", "zh"]
    for width, below in ((120, False), (80, True)):
        monkeypatch.setattr(terminal, "_WIDE", width)
        terminal.rows(["id", "url", "quality", "language"], iter([row]))
        shown = capsys.readouterr().out
        assert ("row 1" in shown) == below
        assert all(value in shown for value in row)


def test_a_source_may_be_called_all(capsys: pytest.CaptureFixture[str]) -> None:
    summary.show_funnel(funnel(["all", "web"]))
    [head] = [line for line in capsys.readouterr().out.splitlines() if "┃" in line]
    assert [name.strip() for name in head.strip("┃").split("┃")] == ["", "all sources", "all", "web"]


def test_a_plan_fits_a_line_and_long_reasons_stand_below_it(computed: Any) -> None:
    spec, _ = computed
    rules = [f"--set=rules.short=domain <> 'code' and words < 41 and words not in ({', '.join(map(str, range(99)))})"]
    shown = ask("plan", spec, *rules).stdout
    assert max(map(len, shown.splitlines())) <= WIDTH
    because = {stage["name"]: stage.get("because", "") for stage in told("plan", spec, *rules)["stages"]}
    assert len(because["verdict"]) > 300
    assert f"verdict: {because['verdict']}" in " ".join(shown.split())


def test_a_night_says_of_each_stage_how_many_of_its_shards_it_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = generations.pages(3, 20, seed=1)
    spec = generations.corpus(tmp_path, pages[:2])
    first = generations.night(spec)
    generations.write(tmp_path, "web-2", pages[2])
    runs = {"all": first, "new": generations.night(spec), "none": generations.night(spec)}
    expected = {
        "all": ((2, 2), "│ 2 ", "in 2 shards, "),
        "new": ((1, 3), "│ 1 of 3 ", "in 3 shards, 1 of them computed, "),
        "none": ((0, 3), "│ 3 ", "in 3 shards, "),
    }
    for name, (counts, cell, log) in expected.items():
        stages = [each for each in runs[name].record["stages"] if each["shards"]]
        assert {(each["computed"], each["shards"]) for each in stages} == {counts}
        capsys.readouterr()
        summary.show({"run": name, "status": "completed", "stages": stages}, runs[name].store)
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
        assert len(rows) == len(stages) > 8
        assert all(cell in row for row in rows)
        message = pretrain._ended(runs[name].execution.results[0]).message
        assert re.search(rf"rows {log}[\d.]+ s\.", message)


def test_what_a_run_says_at_its_end_fits_a_line(computed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = computed
    note = "shard 7 of web was quarantined: " + " ".join(["the file ended too early"] * 20)
    record = run.record | {"stages": [stage | {"note": note} for stage in run.record["stages"][:1]]}
    losses = {name: {"tokens": 10**10, "first": 9.0, "last": 3.0} for name in ("zh", "encyclopaedia_of_alchemy")}
    held_out = {name: {"first": 9.0, "last": 3.0, "tokens": 10**6, "documents": 10**4} for name in losses}
    training = {"steps": 9, "tokens": 10**10, "channels": losses, "held_out": held_out}
    summary.show(record | {"training": training | {"checkpoint": "c", "export": "e"}}, run.store)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert f"documents: {note}" in " ".join(shown.split())
    assert "encyclopaedia_of_alchemy" in shown


def test_a_title_longer_than_its_table_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    title = "Removed for a document that stays"
    grid = terminal.table("a", title=title)
    grid.add_row("1")
    terminal.console().print(grid)
    assert capsys.readouterr().out.splitlines()[0].strip() == title


def test_versions_fit_a_line_of_eighty_characters_and_those_of_a_takedown_are_named_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_WIDTH", 80)
    one = {"parent": 1, "state": "accepted", "time": "2026-11-30T09:55:06+00:00", "shards": 310, "new": 8, "why": []}
    counted = {"documents": 812_304, "bytes": 6_325_324, "tokens": 1_740_970, "purged": [1]}
    versions.show([one | counted | {"version": number} for number in (10, 11)])
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 80
    words = {word.strip() for line in said for word in line.split("│")}
    assert words >= {"accepted", "2026-11-30", "09:55:06", "812,304", "6,325,324"}
    assert said[-1] == "versions 10, 11: some of their documents were taken down (takedown 1)"


def test_a_question_with_no_answer_is_answered_by_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    duplicates.show_summary({"clusters": [], "removed": []})
    assert capsys.readouterr().out.splitlines() == [
        "no cluster of duplicates",
        "no document is removed for another that stays",
    ]
