"""Records that reading refused are found by `sluice query` and, by their address, by `sluice inspect`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.engine import views
from tasks.engine.reading import RAW_LANGUAGE, REFUSED
from tasks.storage import columns
from tasks.storage.manifest import Manifest
from tests import flips, small
from tests.commands import HOSTILE, ask, told
from tests.whole import go

LOST = "https://example.org/lost"
LINES: list[Any] = [
    {"text": "The river runs over the gravel. " * 9, "url": "https://example.org/kept"},
    *({"text": None, "url": LOST} for _ in range(2)),
    {"text": "", "url": HOSTILE},
    {"text": "\u200b", "url": "https://example.org/kept"},
    ["no document"],
]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """The spec of a small corpus whose documents are read, with refused records among them."""
    spec = small.corpus(tmp_path, files=1, documents=20)
    (tmp_path / "web" / "web-80.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(line) + "\n" for line in LINES).encode())
    )
    with spec.open("a") as more:
        more.write("gates: {quarantined: 50%}\n")
    return spec, go(spec, until="documents")


def test_refused_records_are_a_view_as_many_as_the_funnel_counts(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = read
    monkeypatch.setattr(views, "ROW_GROUP", 2)
    found = told("query", spec, "select reason, count(*) from refused group by 1 order by 1")["rows"]
    assert found == [["no_text", 4], ["not_json", 1]]
    assert told("query", spec, "select count(*) from refused where url is null")["rows"] == [[1]]
    sql = "select url, \"offset\", length, file from refused where url like '%lost' order by 2"
    [first, second] = told("query", spec, sql)["rows"]
    assert [first[0], first[3]] == [LOST, "web-80.jsonl.gz"]
    assert first[1] + first[2] + 1 == second[1]
    described = told("query", spec, "describe refused")["rows"]
    assert [name for name, *_ in described] == REFUSED.names
    assert "the views are documents, corpus, refused" in ask("query", spec, "from nothing", code=2).stderr


def test_a_url_that_became_no_document_is_shown_with_the_reason(read: Any) -> None:
    spec, _ = read
    found = told("inspect", spec, LOST)
    assert [(row["url"], row["reason"], row["source"]) for row in found["refused"]] == [(LOST, "no_text", "web")] * 2
    shown = ask("inspect", spec, LOST).stdout
    assert shown.count("no_text") >= 2
    assert "web-80.jsonl.gz" in shown
    assert "\x1b" not in ask("inspect", spec, HOSTILE).stdout
    assert told("inspect", spec, "https://example.org/kept")["text"].startswith("The river")
    message = ask("inspect", spec, "https://example.org/none", code=2).stderr
    assert message.strip().endswith("no document has the url https://example.org/none")


def test_of_shards_that_were_read_before_there_were_rows_inspect_says_so(read: Any) -> None:
    spec, run = read
    output = run.pipeline.outputs["documents"]
    [place] = output.index.refused
    for path in [path for path in run.store.walk(output.folders[place]) if "/manifest/" in path]:
        entries = [json.loads(line) for line in run.store.read(path).splitlines()[1:]]
        plain = [{name: value for name, value in entry.items() if name != "refused"} for entry in entries]
        run.store.commit(path, b"".join(json.dumps(entry).encode() + b"\n" for entry in plain))
    assert told("query", spec, "select count(*) from refused")["rows"] == [[0]]
    assert "of 1 shard the refused records are only counted" in ask("inspect", spec, LOST, code=2).stderr
    go(spec, until="documents", start="documents", replace=True)
    assert len(told("inspect", spec, LOST)["refused"]) == 2


def test_what_a_source_refuses_is_in_the_funnel_in_plan_and_by_its_url_in_inspect(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=40)
    (tmp_path / "games.txt").write_text("https://example.org/0/1\n")
    refuse = """raw_foreign: "raw_language <> 'en'", game: games"""
    text = spec.read_text().replace('web/*.jsonl.gz"}', f'web/*.jsonl.gz", refuse: {{{refuse}}}}}')
    spec.write_text(f"lists: {{games: {{urls: {tmp_path}/games.txt}}}}\n{text}")
    [planned] = [each for each in told("plan", spec)["admission"] if each["reason"] == "game"]
    assert planned == {"source": "web", "reason": "game", "refuse": "games", "by": "address", "records": 0}
    go(spec, until="documents")
    counted = told("funnel", spec)["sources"]["web"]
    assert counted["dropped"] == {"raw_foreign": 20, "game": 1}
    assert counted["in"] == 40
    game, foreign = told("plan", spec)["admission"]
    assert (game["refused"], foreign["refused"], foreign["records"], foreign["by"]) == (1, 20, 40, "text")
    assert "Admission, before extraction" in ask("plan", spec).stdout
    [row] = told("inspect", spec, "https://example.org/0/0")["refused"]
    assert (row["reason"], row["raw_language"]) == ("raw_foreign", "zh")
    assert "raw_language" in ask("inspect", spec, "https://example.org/0/0").stdout
    sql = "select reason, count(*), count(raw_language) from refused group by 1 order by 1"
    assert told("query", spec, sql)["rows"] == [["game", 1, 0], ["raw_foreign", 20, 20]]


def raw(spec: Path) -> list[list[Any]]:
    """How many documents of the web there are by the language of their raw text, and how many of these have a score."""
    asked = "select raw_language, count(*), count(raw_language_score) from corpus where source = 'web' group by 1"
    return told("query", spec, f"{asked} order by 1 nulls last")["rows"]


def test_the_language_of_raw_texts_is_a_column_of_documents_that_rules_read(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=40)
    text = spec.read_text().replace('web/*.jsonl.gz"}', 'web/*.jsonl.gz", refuse: {other: "raw_language = \'fr\'"}}')
    spec.write_text(text.replace("rules:\n", "rules:\n  - raw_chinese: \"raw_language = 'zh'\"\n"))
    go(spec, until="verdict")
    assert raw(spec) == [["en", 20, 20], ["zh", 20, 20]]
    asked = "select count(*), count(raw_language) from corpus where reason = 'raw_chinese'"
    assert told("query", spec, asked)["rows"] == [[20, 20]]
    assert told("inspect", spec, "https://example.org/0/1")["raw_language"] == "en"
    assert "raw_language_score" in ask("inspect", spec, "https://example.org/0/1").stdout
    assert told("query", spec, "select count(raw_language) from corpus where source = 'code'")["rows"] == [[0]]
    unknown = ask("plan", spec, "--set", "rules.raw_chinese=raw_language = 'cn'", code=2).output
    assert "cn is no language that lid.176.ftz gives" in unknown
    own = "stages.raw_language={kind: language, text: text}"
    assert "stages.raw_language: documents have a column raw_language" in ask("plan", spec, "--set", own, code=2).output


def test_documents_of_an_earlier_version_get_the_language_of_raw_texts_when_they_are_read_again(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=40)
    text = spec.read_text().replace('web/*.jsonl.gz"}', 'web/*.jsonl.gz", refuse: {other: "raw_language = \'fr\'"}}')
    spec.write_text(text)
    run = go(spec, until="documents")
    without_raw_language(run)
    before = go(spec)
    assert raw(spec) == [[None, 40, 0]]
    [version] = run.store.list("versions/small")
    assert "raw_language" not in run.store.json(f"versions/small/{version}")["stages"]["documents"]["columns"]
    again = go(spec)
    assert {stage["state"] for stage in again.record["stages"]} == {"cached"}
    small.web(tmp_path / "web", 1, 40, 1)
    after = go(spec)
    assert after.record["version"]["version"] == before.record["version"]["version"] + 1
    assert raw(spec) == [["en", 20, 20], ["zh", 20, 20], [None, 40, 0]]
    told("export", spec, tmp_path / "export")
    go(spec, until="documents", start="documents", replace=True)
    assert raw(spec) == [["en", 40, 40], ["zh", 40, 40]]


def test_documents_that_lack_the_language_of_raw_texts_are_no_others_when_they_are_made_again(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=40)
    text = spec.read_text().replace('web/*.jsonl.gz"}', 'web/*.jsonl.gz", refuse: {other: "raw_language = \'fr\'"}}')
    spec.write_text(text)
    without_raw_language(go(spec, until="documents"))
    again = go(spec, until="documents", start="documents")
    assert again.record["stages"][0]["note"] == "recomputed: same values"
    output = again.pipeline.outputs["documents"]
    [place] = [place for place, shard in enumerate(again.pipeline.shards) if shard.source == "web"]
    flipped = bytearray(again.store.read(output.path(place)))
    flipped[len(flipped) // 2] ^= 1
    flips.put(again.store, output.path(place), bytes(flipped))
    repaired = go(spec, until="language")
    assert any("was damaged and is made again" in stage["note"] for stage in repaired.record["stages"])
    assert raw(spec) == [["en", 20, 20], ["zh", 20, 20]]


def without_raw_language(run: Any) -> None:
    """Have documents as an earlier version wrote them."""
    output = run.pipeline.outputs["documents"]
    for folder in dict.fromkeys(output.folders):
        for entry in list(Manifest(run.store, folder).entries()):
            path = f"{folder}/{entry['key']}.parquet"
            table = columns.read(run.store, path)
            table = table.select([name for name in table.column_names if name not in RAW_LANGUAGE])
            told_of = {name: value for name, value in entry.items() if name not in ("bytes", "checksum")}
            told_of["columns"] = columns.digests(table)
            run.store.remove(path)
            Manifest(run.store, folder).append([told_of | columns.write(run.store, path, table, told_of)])


def test_refused_records_of_an_earlier_version_have_null_in_columns_that_came_later(read: Any) -> None:
    spec, run = read
    [path] = [path for path in run.store.walk("documents") if path.endswith(".refused.parquet")]
    table = columns.read(run.store, path).select(["source", "url", "reason", "file", "offset", "length", "measures"])
    output = run.pipeline.outputs["documents"]
    entries = [entry for entry in Manifest(run.store, output.folders[0]).entries() if "refused" in entry]
    [entry] = entries
    run.store.remove(path)
    told_of = {name: entry[name] for name in ("key", "shard", "ids")} | {"rows": table.num_rows}
    entry["refused"] = {"rows": table.num_rows} | columns.write(run.store, path, table, told_of)
    Manifest(run.store, output.folders[0]).append([entry])
    sql = "select count(*), count(status), count(file) from refused where status is null"
    assert told("query", spec, sql)["rows"] == [[5, 0, 5]]
    assert told("query", spec, "select count(*) from refused where status is null")["rows"] == [[5]]
    assert told("inspect", spec, LOST)["refused"][0]["raw_language"] is None


def test_a_flipped_bit_in_refused_records_is_noticed(read: Any) -> None:
    run = read[1]
    outcomes, missed = flips.counted(run.store, flips.refused(run), 20, 1)
    assert not missed
    assert outcomes[flips.NOTICED]


def test_a_damaged_file_of_refused_records_is_said_and_made_again(read: Any) -> None:
    spec, run = read
    before = told("query", spec, "select * from refused")
    [path] = [path for path in run.store.walk("documents") if path.endswith(".refused.parquet")]
    data = bytearray(run.store.read(path))
    data[len(data) // 3] ^= 1
    flips.put(run.store, path, bytes(data))
    for command in (("query", spec, "select * from refused"), ("inspect", spec, LOST)):
        said = ask(*command, code=1).stderr
        assert f"{path} is missing or damaged; `sluice run SPEC --from documents --replace` makes it again" in said
    go(spec, until="documents", start="documents", replace=True)
    assert told("query", spec, "select * from refused") == before
