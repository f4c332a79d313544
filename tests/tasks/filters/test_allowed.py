"""What may be used, and what is listed: columns for rules."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data_specs import stages
from data_specs.load import SpecError, load
from data_specs.sources import UrlList
from tasks.engine.reading import SourceError
from tasks.filters.allowed import Allowed
from tasks.filters.listed import Listed
from tests.tasks.sources.test_robots import crawl

URLS = ["https://a.example/x", "https://a.example/no/1", "https://b.example/", "https://sub.out.example/", None]


def lists(folder: Path) -> dict[str, UrlList]:
    (folder / "out.txt").write_text("out.example\n")
    with gzip.open(folder / "pages.gz", "wt") as file:
        file.write("a.example/x\nb.example\n")
    found = {"out": UrlList(domains=str(folder / "out.txt")), "pages": UrlList(urls=str(folder / "pages.gz"))}
    return found


def table(stage: Allowed | Listed) -> dict[str, list[object]]:
    stage.setup()
    return stage(pa.table({"url": pa.array(URLS, pa.string())})).to_pydict()


def robots(folder: Path) -> str:
    return crawl(
        folder / "r.warc.gz", [("https://a.example/robots.txt", 200, "User-agent: *\nDisallow: /no", "2024-01-01")]
    )


def test_lists_and_robots_say_what_is_not_allowed_and_which_of_them(tmp_path: Path) -> None:
    known = lists(tmp_path)
    some = stages.Allowed(robots=robots(tmp_path), lists=("out", "pages"))
    assert table(Allowed(some, known)) == {
        "allowed": [False, False, False, False, None],
        "disallowed_by": ["pages", "robots", "pages", "out", None],
    }
    assert table(Allowed(stages.Allowed(robots=robots(tmp_path)), known)) == {
        "allowed": [True, False, None, None, None],
        "disallowed_by": [None, "robots", None, None, None],
    }
    alone = table(Allowed(stages.Allowed(lists=("out",)), known))
    assert alone["allowed"] == [True, True, True, False, None]


def test_each_list_is_a_column(tmp_path: Path) -> None:
    found = table(Listed(stages.Listed(lists=("out", "pages")), lists(tmp_path)))
    assert found == {
        "listed_out": [False, False, False, True, None],
        "listed_pages": [True, False, True, False, None],
    }


def test_an_empty_address_is_none(tmp_path: Path) -> None:
    known, empty = lists(tmp_path), pa.table({"url": ["", " "]})
    for stage in (Listed(stages.Listed(lists=("out",)), known), Allowed(stages.Allowed(lists=("out",)), known)):
        stage.setup()
        assert stage(empty).columns[0].to_pylist() == [None, None]


def test_values_follow_what_files_hold_and_not_where_they_lie(tmp_path: Path) -> None:
    known, settings = lists(tmp_path), stages.Allowed(robots=robots(tmp_path), lists=("out",))
    begun = Allowed(settings, known)
    (tmp_path / "there").mkdir()
    shutil.copy(tmp_path / "r.warc.gz", tmp_path / "there")
    moved = stages.Allowed(robots=str(tmp_path / "there" / "r.warc.gz"), lists=("out",))
    assert Allowed(moved, lists(tmp_path / "there")).fingerprint == begun.fingerprint
    assert Allowed(settings.model_copy(update={"agents": ("CCBot",)}), known).fingerprint != begun.fingerprint
    crawl(tmp_path / "r.warc.gz", [("https://a.example/robots.txt", 404, "", "2024-01-02")])
    assert Allowed(settings, known).fingerprint != begun.fingerprint
    with pytest.raises(SourceError, match="have changed since this run began"):
        begun.setup()
    with pytest.raises(SourceError, match=r"stages\.allowed\.robots: .*matches no file"):
        Allowed(stages.Allowed(robots=f"{tmp_path}/no*.gz"), {})


def test_a_spec_says_what_is_missing(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    head = (
        "name: x\nsources: {web: {kind: jsonl, paths: none}}\nchannels: {all: 'true'}\nlists: {out: {domains: out}}\n"
    )
    spec.write_text(head + "stages:\n  allowed: {lists: [outt]}\n")
    with pytest.raises(SpecError, match=r"spec\.yaml:6: stages\.allowed\.lists: outt is no list; did you mean out"):
        load(spec)
    with pytest.raises(ValidationError, match="say what is not allowed"):
        stages.Allowed()
