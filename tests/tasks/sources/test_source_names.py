"""Names of files: the same however the patterns of a source are written, and widened, and written back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_specs.extract import Extract
from data_specs.sources import FolderSource, HtmlSource
from tasks.sources import Reader, reader
from tasks.sources.html import address
from tasks.sources.names import below, relative
from tasks.storage.store import Store
from tests import small
from tests.whole import go

FOLDERS = st.lists(st.sampled_from(["a", "b", "a b", "é"]), max_size=3).map(
    lambda names: "".join(n + "/" for n in names)
)
ROOTS = st.sampled_from(["/", "/data/", "s3://bucket/", "s3://other/x/", "https://host/"])


def text(path: str) -> bytes:
    return b"text of " + os.fsencode(Path(path).name)


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text(name))


class Runs:
    """Runs of one source, each of which notes what the next one has to know, as a listing does."""

    def __init__(self) -> None:
        self.entry: dict[str, Any] = {}

    def __call__(
        self, *paths: Path | str, kind: type[FolderSource | HtmlSource] = FolderSource, **more: Any
    ) -> set[str]:
        settings = {"kind": "text" if kind is FolderSource else "html", "paths": tuple(map(str, paths)), "groups": 2}
        source: Reader = reader("notes", kind(**(settings | more)), Extract())
        source.remember(self.entry)
        shards, _ = source.shards(2)
        parts = [part for shard in shards for part in shard.parts]
        assert all(Path(part.path).read_bytes() == text(part.path) for part in parts)
        assert {part.path for part in parts} == {source.listing.path(part.key) for part in parts}
        keys = sorted(part.key for part in parts)
        self.entry = json.loads(json.dumps({"files": keys} | source.noted(keys)))
        return set(keys)


@given(ROOTS, FOLDERS, FOLDERS)
def test_a_key_leads_back_to_its_path(root: str, one: str, other: str) -> None:
    path = f"{root}{other}x.txt"
    key = relative(path, root + one)
    assert key is not None
    assert below(root + one, key) == path
    assert key.startswith("../") or one == "" or other.startswith(one)


def test_files_of_another_file_system_have_no_key() -> None:
    assert relative("s3://bucket/x", "/data/") is None
    assert relative("/data/x", "s3://bucket/") is None


def test_a_pattern_may_be_widened_and_narrowed_again(tmp_path: Path) -> None:
    files(tmp_path, "crawl/a.txt", "crawl/b.txt", "more/c.txt")
    run = Runs()
    assert run(tmp_path / "crawl/*.txt") == {"a.txt", "b.txt"}
    for _ in range(2):
        assert run(tmp_path / "**") == {"a.txt", "b.txt", "../more/c.txt"}
    assert run(tmp_path / "crawl/*") == {"a.txt", "b.txt"}
    assert run(tmp_path / "crawl/*", tmp_path / "more/*") == {"a.txt", "b.txt", "../more/c.txt"}
    assert run(tmp_path / "more/*") == {"../more/c.txt"}


def test_a_narrower_pattern_keeps_the_names_of_the_wider_one(tmp_path: Path) -> None:
    files(tmp_path, "2026/a.txt", "2026/b.txt", "2027/a.txt")
    run = Runs()
    assert run(tmp_path / "**") == {"2026/a.txt", "2026/b.txt", "2027/a.txt"}
    assert run(tmp_path / "2026/*.txt") == {"2026/a.txt", "2026/b.txt"}
    assert run(tmp_path / "202*/*.txt") == {"2026/a.txt", "2026/b.txt", "2027/a.txt"}


def test_a_source_of_one_file_becomes_a_folder(tmp_path: Path) -> None:
    files(tmp_path, "news.txt", "other.txt")
    run = Runs()
    assert run(tmp_path / "news.txt") == {"news.txt"}
    assert run(tmp_path / "*.txt") == {"news.txt", "other.txt"}
    files(tmp_path, "news/first.txt")
    (tmp_path / "news.txt").rename(tmp_path / "news/news.txt")
    assert run(tmp_path / "news/*") == {"news.txt", "first.txt"}


def test_data_that_moved_keeps_its_names(tmp_path: Path) -> None:
    files(tmp_path, "old/a.txt", "old/b.txt", "more/c.txt")
    run = Runs()
    names = run(tmp_path / "old/*")
    shutil.move(tmp_path / "old", tmp_path / "old_/deeper")
    assert run(tmp_path / "old_/deeper/*") == names
    wide = run(tmp_path / "old_/deeper/*", tmp_path / "more/*")
    assert wide == {*names, "../../more/c.txt"}


def test_a_project_that_moved_with_its_relative_paths_keeps_the_names_of_a_widened_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "one/crawl/a.txt", "one/more/c.txt")
    run = Runs()
    monkeypatch.chdir(tmp_path / "one")
    run("crawl/*.txt")
    names = run("crawl/*.txt", "more/*.txt")
    shutil.move(tmp_path / "one", tmp_path / "two")
    monkeypatch.chdir(tmp_path / "two")
    assert run("crawl/*.txt", "more/*.txt") == names == {"a.txt", "../more/c.txt"}


def test_names_that_are_no_utf_8_are_kept_too(tmp_path: Path) -> None:
    files(tmp_path, "crawl/caf\udce9/d\udce9.txt", "m\udce9/c.txt")
    run = Runs()
    assert run(tmp_path / "crawl/**") == {"caf//e9/d//e9.txt"}
    assert run(tmp_path / "**") == {"caf//e9/d//e9.txt", "../m//e9/c.txt"}


def test_where_nothing_bears_an_old_name_names_follow_the_patterns(tmp_path: Path) -> None:
    files(tmp_path, "crawl/a.txt", "crawl/new/b.txt")
    run = Runs()
    run(tmp_path / "crawl/a.txt")
    assert run(tmp_path / "crawl/new/*") == {"b.txt"}


def test_what_matches_is_still_said_of_the_fixed_part_of_the_patterns(tmp_path: Path) -> None:
    files(tmp_path, "crawl/a.txt", "more/c.txt")
    run = Runs()
    run(tmp_path / "crawl/*")
    assert run(tmp_path / "*/*", match="^(crawl|more)/[ac]") == {"a.txt", "../more/c.txt"}


def test_pages_keep_names_and_addresses_until_another_base_stands_for_their_folder(tmp_path: Path) -> None:
    files(tmp_path, "docs/a.html", "blog/b.html")
    run = Runs()
    docs = "https://x.org/docs"
    assert run(tmp_path / "docs/*", kind=HtmlSource, base=docs) == {"a.html"}
    names = run(tmp_path / "*/*", kind=HtmlSource, base=docs)
    assert {key: address(docs, key) for key in names} == {
        "a.html": "https://x.org/docs/a.html",
        "../blog/b.html": "https://x.org/blog/b.html",
    }
    assert run(tmp_path / "*/*", kind=HtmlSource, base="https://x.org") == {"docs/a.html", "blog/b.html"}
    assert run(tmp_path / "*/*", kind=HtmlSource) == {"docs/a.html", "blog/b.html"}


@pytest.mark.parametrize("base", ["https://x.org", "https://x.org/", "x"])
def test_a_file_beside_a_whole_site_has_no_address(base: str) -> None:
    assert address(base, "../b.html") is None
    assert address(None, "b.html") is None


def test_a_wider_pattern_reads_only_what_is_new(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path)
    before = go(spec, until="documents")
    store = Store(before.spec.store)
    pins = store.walk("pins")
    small.web(tmp_path / "later", 7, 20, 1)
    wide = f"sources.web.paths={tmp_path}/*/*.jsonl.gz"
    after = go(spec, [wide], until="documents")
    assert after.execution.jobs["documents"] == 1
    assert store.walk("pins") == pins
    assert go(spec, until="documents").execution.jobs["documents"] == 0
    assert go(spec, [wide], until="documents").execution.jobs["documents"] == 0


def test_a_listing_of_an_earlier_version_is_read_and_completed(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path)
    store = Store(go(spec, until="documents").spec.store)
    path = next(path for path in store.walk("listings") if path.endswith(".json"))
    now = store.json(path)
    old = {name: {key: entry[key] for key in ("chosen", "files")} for name, entry in now["sources"].items()}
    store.commit_json(path, {"sources": old})
    assert go(spec, until="documents").execution.jobs["documents"] == 0
    assert store.json(path) == now
