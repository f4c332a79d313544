"""Admission: which records are worked on, by their address, their headers and the language of their raw text."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs import stages
from data_specs.extract import Extract
from data_specs.sources import FolderSource, HtmlSource, JsonlSource, ParquetSource, UrlList, WarcSource
from tasks.engine.reading import RAW_LANGUAGE, Read, SourceError
from tasks.extraction import http
from tasks.extraction.child import Child
from tasks.filters.language import Language
from tasks.sources import Reader, admission, reader
from tests import flips, whole
from tests.tasks.sources.test_sources import PAGE, archive, read_all

GERMAN = "Das Wasser läuft durch die Rinne und der Sand bleibt liegen, während das Gold auf den Boden sinkt. " * 4
ENGLISH = "The water runs through the channel and the sand stays behind, while the gold sinks to the floor. " * 4
FOREIGN = {"foreign_page": "raw_language <> 'en' and raw_language_score > 0.5"}
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: Text/HTML; charset=utf-8\r\nContent-Language: de-AT\r\n\r\n"
BLOCKS: list[Any] = [
    ENGLISH,
    GERMAN,
    HTML.replace(b"200 OK", b"404 Not Found") + b"<p>gone",
    HTML + PAGE.format(GERMAN).encode(),
    HTML + b" ",
    ENGLISH + "One more.",
    HTML + b"<html><body></body></html>",
    ENGLISH,
]


def crawl(path: Path, blocks: list[Any], lists: dict[str, UrlList] | None = None, **settings: Any) -> Reader:
    if not path.exists():  # warcio gives records random ids
        path.write_bytes(archive(blocks))
    return reader("web", WarcSource(kind="warc", paths=str(path), **settings), Extract(), lists)


def one(source: Reader) -> Read:
    [read] = read_all(source)
    return read


def test_pages_in_another_language_are_refused_before_extraction_and_all_others_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = one(crawl(tmp_path / "a.warc.gz", BLOCKS))
    source = crawl(tmp_path / "a.warc.gz", BLOCKS, refuse=FOREIGN)
    extracted: list[str] = []
    call = source._pages._child.call
    monkeypatch.setattr(source._pages._child, "call", lambda **item: extracted.append(item["html"]) or call(**item))
    after = one(source)
    assert len(extracted) == 4
    assert not any("Wasser" in html for html in extracted)
    assert after.ledger["in"] == before.ledger["in"] == len(BLOCKS)
    assert after.ledger["dropped"] == {"empty": 1, "foreign_page": 2, "no_text": 1, "status": 1}
    english = ["Wasser" not in text for text in before.documents["text"].to_pylist()]
    assert after.documents.drop([*RAW_LANGUAGE]).equals(before.documents.filter(pa.array(english)).combine_chunks())
    assert {*after.documents["raw_language"].to_pylist()} == {"en"}
    assert min(after.documents["raw_language_score"].to_pylist()) > 0.5
    rows = after.refused.to_pylist()
    assert [row["reason"] for row in rows] == ["foreign_page", "status", "foreign_page", "empty", "no_text"]
    first, status, second, *_ = rows
    assert (first["raw_language"], first["status"], first["media"], first["crawled"]) == (
        *("de", 200, "text/html"),
        "2021-03-02",
    )
    assert first["raw_language_score"] > 0.5
    assert first["raw_length"] == len(PAGE.format(GERMAN))
    assert (first["declared_language"], second["declared_language"]) == (None, "de")
    assert (status["status"], status["raw_language"]) == (404, None)


def test_what_the_address_or_the_headers_refuse_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_text("http://example.org/0\nhttp://example.org/3\n")
    decoded: list[bytes] = []
    original = http.decoded
    monkeypatch.setattr(
        http, "decoded", lambda response, limit: decoded.append(response.payload) or original(response, limit)
    )
    refuse = FOREIGN | {"listed": "taken", "sixth": "ends_with(url, '/5') and status = 200 and media = 'text/html'"}
    lists = {"taken": UrlList(urls=str(tmp_path / "list"))}
    read = one(crawl(tmp_path / "a.warc.gz", BLOCKS, lists, refuse=refuse))
    assert read.ledger["dropped"] == {"empty": 1, "foreign_page": 1, "listed": 2, "no_text": 1, "sixth": 1, "status": 1}
    assert len(decoded) == 4  # of the eight, one is not OK, and three are refused
    reasons = {row["url"].rpartition("/")[2]: row["reason"] for row in read.refused.to_pylist()}
    assert reasons == {
        "0": "listed",
        "1": "foreign_page",
        "2": "status",
        "3": "listed",
        "4": "empty",
        "5": "sixth",
        "6": "no_text",
    }


def test_of_several_the_first_that_is_asked_is_the_reason(tmp_path: Path) -> None:
    refuse = {"late": "raw_length > 0", "first": "host = 'example.org'", "second": "true", "never": "null"}
    assert one(crawl(tmp_path / "a.warc.gz", [ENGLISH], refuse=refuse)).ledger["dropped"] == {"first": 1}


@pytest.mark.parametrize(("name", "value"), [("_RECORDS", 1), ("_RECORDS", 3), ("_BYTES", 1), ("_BYTES", 500)])
def test_how_many_records_are_asked_about_at_once_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    refuse = FOREIGN | {"early": "url like '%/7'"}
    before = one(crawl(tmp_path / "a.warc.gz", BLOCKS, refuse=refuse))
    monkeypatch.setattr(admission, name, value)
    after = one(crawl(tmp_path / "a.warc.gz", BLOCKS, refuse=refuse))
    assert after.documents.equals(before.documents)
    assert after.refused.equals(before.refused)
    assert after.ledger == before.ledger


def test_lines_and_rows_are_refused_by_address_columns_length_and_language(tmp_path: Path) -> None:
    rows = [
        {"text": ENGLISH, "url": "https://example.org/1", "score": 0.5},
        {"text": ENGLISH, "url": "https://casino.example/2", "score": 0.5},
        {"text": GERMAN, "url": "https://example.org/3", "score": 0.5},
        {"text": ENGLISH, "url": "https://example.org/4", "score": 0.1},
        {"text": "short", "url": None, "score": None},
        {"text": None, "url": "https://casino.example/", "score": 1.0},
    ]
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"casino.example\n"))
    lists = {"games": UrlList(domains=str(tmp_path / "list.gz"))}
    known = hashlib.sha256(json.dumps(rows[0]).encode()).hexdigest()
    refuse = FOREIGN | {"game": "games", "low": "score < 0.3", "short_text": "raw_length < 20"}
    shared = {"columns": {"score": "float"}, "refuse": refuse}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    hashed = JsonlSource(kind="jsonl", paths=str(tmp_path / "a.jsonl"), refuse={"known": f"payload = '{known}'"})
    assert one(reader("web", hashed, Extract())).ledger["dropped"] == {"known": 1, "no_text": 1}
    for settings in (
        JsonlSource(kind="jsonl", paths=str(tmp_path / "a.jsonl"), **shared),
        ParquetSource(kind="parquet", paths=str(tmp_path / "a.parquet"), **shared),
    ):
        read = one(reader("web", settings, Extract(), lists))
        assert read.documents["url"].to_pylist() == ["https://example.org/1"]
        assert read.documents["score"].to_pylist() == [0.5]
        told = [(row["reason"], row["measures"]) for row in read.refused.to_pylist()]
        half = '{"score":0.5}'
        assert told == [
            ("game", half),
            ("foreign_page", half),
            ("low", '{"score":0.1}'),
            ("short_text", '{"score":null}'),
            ("no_text", None),
        ]


def test_files_are_refused_by_name_and_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"a.txt": ENGLISH, "b.txt": GERMAN, "old/c.txt": ENGLISH}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).with_suffix(".html").write_text(PAGE.format(text))
    refuse = FOREIGN | {"old_files": "file like 'old/%'"}
    for kind, settings in {
        "txt": FolderSource(kind="text", paths=str(tmp_path / "**" / "*.txt"), groups=1, refuse=refuse),
        "html": HtmlSource(kind="html", paths=str(tmp_path / "**" / "*.html"), groups=1, refuse=refuse),
    }.items():
        read = one(reader("files", settings, Extract()))
        assert read.documents["file"].to_pylist() == [f"a.{kind}"]
        assert {row["file"]: row["reason"] for row in read.refused.to_pylist()} == {
            f"b.{kind}": "foreign_page", f"old/c.{kind}": "old_files"
        }  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 256])
def test_a_repeated_payload_is_refused_and_names_the_first_that_was_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(admission, "_RECORDS", number)
    refuse = FOREIGN | {"first": "ends_with(url, '/0')"}
    blocks = [ENGLISH, GERMAN, ENGLISH, ENGLISH + "One more.", GERMAN, ENGLISH, HTML + b" ", HTML + b" "]
    settings = {"refuse": refuse, "refuse_same_payload": True}
    read = one(crawl(tmp_path / "a.warc.gz", blocks, **settings))
    assert read.ledger["dropped"] == {"empty": 2, "first": 1, "foreign_page": 2, "same_payload": 1}
    assert read.documents["url"].to_pylist() == ["http://example.org/2", "http://example.org/3"]
    [again] = [row for row in read.refused.to_pylist() if row["reason"] == "same_payload"]
    assert again["url"] == "http://example.org/5"
    first = read.documents.slice(0, 1).to_pylist()[0]
    assert json.loads(again["measures"]) == {"first": first["id"].hex(), "offset": first["offset"]}


def test_repeated_lines_and_files_are_refused_whatever_else_is(tmp_path: Path) -> None:
    line = json.dumps({"text": ENGLISH, "url": "https://example.org/1"}) + "\n"
    (tmp_path / "a.jsonl").write_text(line * 2 + line.replace("/1", "/2"))
    lines = JsonlSource(kind="jsonl", paths=str(tmp_path / "*.jsonl"), refuse_same_payload=True)
    assert one(reader("web", lines, Extract())).documents["url"].to_pylist() == [
        "https://example.org/1",
        "https://example.org/2",
    ]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(ENGLISH)
    files = FolderSource(kind="text", paths=str(tmp_path / "*.txt"), groups=1, refuse_same_payload=True)
    assert one(reader("web", files, Extract())).documents["file"].to_pylist() == ["a.txt"]


def test_a_fingerprint_holds_what_is_refused_and_what_lists_hold(tmp_path: Path) -> None:
    for name, text in {"one": "example.org\n", "two": "example.org\n", "three": "example.net\n"}.items():
        (tmp_path / name).write_text(text)

    def fingerprint(lists: dict[str, str] | None = None, **refuse: str) -> str:
        found = {name: UrlList(domains=str(tmp_path / file)) for name, file in (lists or {}).items()}
        settings = JsonlSource(kind="jsonl", paths="x", **({"refuse": refuse} if refuse else {}))
        return reader("web", settings, Extract(), found).fingerprint

    plain = JsonlSource(kind="jsonl", paths="x")
    assert fingerprint() == fingerprint({"games": "one"}) == reader("web", plain, Extract()).fingerprint
    listed = fingerprint({"games": "one", "more": "two"}, game="games")
    assert listed == fingerprint({"games": "two", "more": "three"}, game=" (games) ")
    repeated = JsonlSource(kind="jsonl", paths="x", refuse_same_payload=True)
    others = [
        reader("web", repeated, Extract()).fingerprint,
        fingerprint({"games": "three"}, game="games"),
        fingerprint({"games": "one"}, play="games"),
        fingerprint({"games": "one"}, game="not games"),
        fingerprint(a="url = 'a'", b="url = 'b'"),
        fingerprint(b="url = 'b'", a="url = 'a'"),
        fingerprint(),
    ]
    assert len({listed, *others}) == 1 + len(others)


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    lists = {"games": UrlList(domains=str(tmp_path / "none")), "unused": UrlList(urls=str(tmp_path / "none"))}
    settings = JsonlSource(kind="jsonl", paths="x", refuse={"game": "games"})
    with pytest.raises(SourceError, match=r"lists\.games\.domains: .*none cannot be read: No such file .*every node"):
        reader("web", settings, Extract(), lists)


def test_workers_in_another_folder_read_the_same_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list").write_text("example.org\n")
    lists = {"games": UrlList(domains="list")}
    source = crawl(tmp_path / "a.warc.gz", [ENGLISH], lists, refuse={"game": "games"})
    [shard] = source.shards(None)[0]
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert pickle.loads(pickle.dumps(source)).read(shard).ledger["dropped"] == {"game": 1}


def test_a_list_that_changes_while_a_run_works_stops_it(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("example.org\n")
    lists = {"games": UrlList(domains=str(tmp_path / "list"))}
    source = crawl(tmp_path / "a.warc.gz", [ENGLISH], lists, refuse={"game": "games"})
    (tmp_path / "list").write_text("example.net\n")
    with pytest.raises(SourceError, match=r"lists\.games: .*list has changed since this run began; run again"):
        read_all(source)


def test_of_records_admitted_before_what_was_extracted_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.warc.gz"
    narrow = {"foreign_page": "raw_language <> 'en'"}
    first, wanted = (one(crawl(path, BLOCKS, refuse=refuse)) for refuse in (narrow, FOREIGN | {"none": "url is null"}))
    source = crawl(path, BLOCKS)
    wide = one(source)
    source = crawl(path, BLOCKS)
    extracted: list[str] = []
    call = source._pages._child.call
    monkeypatch.setattr(source._pages._child, "call", lambda **item: extracted.append(item["html"]) or call(**item))
    [shard] = source.shards(None)[0]
    again = source.read(shard, first.documents)
    source.close()
    assert sum("Wasser" in html for html in extracted) == len(extracted) - 1 == 2  # and the page without a text
    assert again.documents.equals(wide.documents)
    assert again.ledger == wide.ledger
    assert wanted.documents.num_rows == first.documents.num_rows == 3


def test_a_changed_list_extracts_only_pages_whose_admission_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.warc.gz").write_bytes(archive([f"{ENGLISH} {number}" for number in range(6)]))
    (tmp_path / "list").write_text("http://example.org/1\nhttp://example.org/2\n")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: x\nstore: {tmp_path}/store\nlists: {{taken: {{urls: {tmp_path}/list}}}}\n"
        f"sources: {{web: {{kind: warc, paths: {tmp_path}/*.warc.gz, refuse: {{listed: taken}}}}}}\n"
        "channels: {all: 'true'}\n"
    )
    extracted: list[str] = []
    call = Child.call

    def counted(child: Child, **item: Any) -> dict[str, Any]:
        extracted.append(item["url"])
        return call(child, **item)

    monkeypatch.setattr(Child, "call", counted)
    first = whole.go(spec, until="documents")
    assert len(extracted) == 4
    (tmp_path / "list").write_text("http://example.org/2\nhttp://example.org/3\n")
    extracted.clear()
    second = whole.go(spec, until="documents")
    assert extracted == ["http://example.org/1"]
    again = whole.go(spec, ["stages.extract.fast=false"], until="documents")
    assert len(extracted) == 5  # another extraction is another text
    digests = [run.pipeline.outputs["documents"].index.digests for run in (second, again)]
    assert (digests[0]["id"] == digests[1]["id"]).all()
    folders = [run.pipeline.outputs["documents"].folders[0] for run in (first, second)]
    [damaged] = [path for path in first.store.walk(folders[0]) if path.count(".") == 1 and path.endswith(".parquet")]
    flips.put(first.store, damaged, b"damaged")
    first.store.remove(*first.store.walk(folders[1]))
    extracted.clear()
    third = whole.go(spec, until="documents")
    assert len(extracted) == 4  # what is damaged is left where it is, and extracted anew
    assert (third.pipeline.outputs["documents"].index.digests["text"] == digests[0]["text"]).all()


def test_computing_documents_again_takes_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.warc.gz").write_bytes(archive([ENGLISH]))
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: x\nstore: {tmp_path}/store\nchannels: {{all: 'true'}}\n"
        f"sources: {{web: {{kind: warc, paths: {tmp_path}/*.warc.gz}}}}\n"
    )
    whole.go(spec, until="documents")
    spec.write_text(spec.read_text().replace("warc.gz}", "warc.gz, refuse: {far: url is null}}"))
    calls: list[str] = []
    call = Child.call
    monkeypatch.setattr(Child, "call", lambda child, **item: calls.append(item["url"]) or call(child, **item))
    whole.go(spec, until="documents")
    assert not calls
    whole.go(spec, until="documents", start="documents")
    assert len(calls) == 1


DATA = Path(__file__).parents[4] / "shared" / "data" / "html"
PAGES = {"nonlatin_web_html": 129, "gne_zh_news_html": 40, "trafilatura_eval_990": 120}
"""Archives of real pages, and how many of each are read: half in other languages than English and Chinese."""


@pytest.mark.slow
def test_of_real_pages_that_would_be_kept_99_in_100_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not DATA.exists():
        pytest.skip(f"no real pages: {DATA} is absent")
    for name, most in PAGES.items():
        with tarfile.open(DATA / f"{name}.tar.xz") as tar:
            pages = (member for member in tar if member.isfile() and member.name.endswith((".html", ".htm")))
            for number, member in zip(range(most), pages, strict=False):
                file = tar.extractfile(member)
                assert file is not None
                (tmp_path / f"{name}-{number:03d}.html").write_bytes(file.read())
    refuse = {"foreign_page": "raw_language not in ('zh', 'en') and raw_language_score > 0.9"}
    kept, extracted = [], []
    for chosen in ({}, refuse):
        source = reader("web", HtmlSource(kind="html", paths=str(tmp_path / "*"), groups=1, refuse=chosen), Extract())
        calls, call = list[str](), source._pages._child.call
        monkeypatch.setattr(
            source._pages._child, "call", lambda calls=calls, call=call, **item: calls.append("") or call(**item)
        )
        read = one(source)
        stage = Language(stages.Language())
        stage.setup()
        languages = stage(read.documents.select(["text"]))
        good = [
            language in ("zh", "en") and score > 0.65
            for language, score in zip(*languages.to_pydict().values(), strict=True)
        ]
        kept.append(set(read.documents.filter(pa.array(good))["id"].to_pylist()))
        extracted.append(len(calls))
        refused = read.ledger["dropped"].get("foreign_page", 0)
    assert len(kept[0] & kept[1]) >= 0.99 * len(kept[0]) > 100
    assert kept[1] <= kept[0]
    assert extracted[1] == extracted[0] - refused
    assert refused > 0.2 * extracted[0]
