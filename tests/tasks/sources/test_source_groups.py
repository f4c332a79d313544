"""Groups of files: a source that grows changes one shard a file, until it has outgrown its groups and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_specs.extract import Extract
from data_specs.sources import FolderSource, JsonlSource
from flows.run import Run
from tasks.sources import Reader, SourceError, reader, records
from tasks.sources.files import File
from tasks.storage import columns
from tests import small
from tests.commands import ask, files, told
from tests.tasks.sources.test_sources import read_all
from tests.whole import go


def documents(run: Run, source: str) -> list[bytes]:
    """Ids of a source's documents, sorted."""
    output = run.pipeline.outputs["documents"]
    mine = [place for place, shard in enumerate(run.pipeline.shards) if shard.source == source]
    assert output.index.done[mine].all()
    return sorted(np.concatenate([columns.read(run.store, output.path(place), ("id",))["id"] for place in mine]))


def stage(run: Run) -> Any:
    return run.record["stages"][0]


def test_a_source_that_outgrew_its_groups_is_grouped_anew_and_plan_says_so_before(tmp_path: Path) -> None:
    spec, web = small.corpus(tmp_path, files=1, documents=5), tmp_path / "web"
    grouped = f"sources.web.shard={(web / 'web-00.jsonl.gz').stat().st_size + 200}"
    first = go(spec, [grouped], until="documents")
    assert first.pipeline.pins.get("groups_web")["value"] == 4

    small.web(web, 1, 5, seed=1)
    grown = go(spec, [grouped], until="documents")
    assert (stage(grown)["jobs"], stage(grown)["note"]) == (1, "")

    for number in range(2, 24):
        small.web(web, number, 5, seed=1)
    before = files(spec)
    plan = told("plan", spec, "--set", grouped)["stages"][0]
    groups = plan["because"].split(" groups now")[0].rsplit(" ", 1)[-1]
    because = f"web: all its files are read again, in {groups} groups now, as they have outgrown 4"
    assert plan["because"] == f"{because}; 22 new files (web-02.jsonl.gz, web-03.jsonl.gz, web-04.jsonl.gz, ...)"
    assert 16 <= int(groups) <= 24
    for command, *rest in (("funnel",), ("query", "select count(*) from documents")):
        ask(command, spec, *rest, "--set", grouped)
    assert files(spec) == before

    regrouped = go(spec, [grouped], until="documents")
    assert stage(regrouped)["note"] == because
    assert stage(regrouped)["jobs"] == plan["to_do"] > 8
    assert [pin["value"] for pin in regrouped.pipeline.pins.history["groups_web"]] == [4, int(groups)]
    assert len(documents(regrouped, "web")) == 24 * 5
    assert set(documents(first, "web")) < set(documents(regrouped, "web"))

    small.web(web, 24, 5, seed=1)
    again = go(spec, [grouped], until="documents")
    assert (stage(again)["jobs"], stage(again)["note"]) == (1, "")


def notes(folder: Path, count: int, **settings: Any) -> Reader:
    for number in range(count):
        (folder / f"{number:04}.txt").write_text(f"text {number}")
    return reader("notes", FolderSource(kind="text", paths=str(folder / "*.txt"), **settings), Extract())


@pytest.mark.parametrize(("megabytes", "groups"), [(1, 4), (16 * 15, 4), (16 * 16, 16), (1600, 100)])
def test_groups_stay_until_they_are_four_times_as_large_as_they_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int, groups: int
) -> None:
    source = notes(tmp_path, 40)
    size = megabytes * 2**20 // 40
    monkeypatch.setattr(source.listing, "files", lambda: [File(f"{n}.txt", "", size, "") for n in range(40)])
    assert source.shards(4)[1] == groups
    assert bool(source.regrouped) == (groups != 4)


def test_a_number_of_groups_that_is_set_is_taken_and_said(tmp_path: Path) -> None:
    source = notes(tmp_path, 40, groups=3)
    shards, groups = source.shards(None)
    assert (len(shards), groups, source.regrouped) == (3, 3, "")
    assert source.shards(8)[1] == 3
    assert source.regrouped == "all its files are read again, in 3 groups now, as `groups` says"


def test_a_shard_with_more_text_than_a_column_can_hold_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LARGEST", 1000)
    (tmp_path / "a.jsonl").write_text('{"text": "%s"}\n' % ("文" * 100) * 4)
    source = reader("web", JsonlSource(kind="jsonl", paths=str(tmp_path / "*")), Extract())
    with pytest.raises(
        SourceError, match=r"^source web: .*/a\.jsonl makes a shard of more than .* GiB of text; cut it"
    ):
        read_all(source)
    (tmp_path / "a.jsonl").write_text('{"text": "%s"}\n' % ("文" * 100) * 3)
    assert read_all(source)[0].documents.num_rows == 3
