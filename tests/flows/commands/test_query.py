"""`sluice query` and `sluice inspect`: one SELECT over views of the columns, and everything of one document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.engine import job
from tasks.storage import columns
from tests import small
from tests.commands import HOSTILE, ask, told
from tests.generations import night
from tests.whole import go

# -- inspect ---------------------------------------------------------------------------------------------------


def test_a_document_is_shown_whole_by_the_beginning_of_its_id(computed: Any) -> None:
    spec, run = computed
    output, verdict = (run.pipeline.outputs[name] for name in ("documents", "verdict"))
    place = int(output.index.rows.argmax())
    row = columns.read(run.store, output.path(place)).to_pylist()[3]
    whole = row["id"].hex()
    found = told("inspect", spec, whole[:9].upper())
    assert {name: found[name] for name in row} == row | {"id": whole}
    assert found["kept"] == columns.read(run.store, verdict.path(place), ("kept",))["kept"][3].as_py()
    assert (found["shard"], found["position"]) == (run.pipeline.uids()[place], 3)
    assert set(found) >= {"language", "words", "quality", "domain", "channel", "fails_short", "tokens", "cluster"}
    assert list(found)[:5] == ["id", "source", "url", "text", "kept"]
    shown = ask("inspect", spec, whole).output
    assert row["text"] in shown
    assert whole in shown


@pytest.mark.parametrize(
    ("beginning", "message"),
    [
        ("", "'' is not a document's id"),
        ("xyz", "'xyz' is not a document's id"),
        ("0" * 33, "is not a document's id"),
        ("0" * 32, "no document has an id that begins with 000"),
    ],
)
def test_ids_of_no_document_are_refused(computed: Any, beginning: str, message: str) -> None:
    assert message in ask("inspect", computed[0], beginning, code=2).stderr


def test_a_document_is_shown_by_its_url(computed: Any) -> None:
    spec, _ = computed
    url = "https://example.org/1/3"
    [[name]] = told("query", spec, f"select id from corpus where url = '{url}'")["rows"]
    assert told("inspect", spec, url) == told("inspect", spec, name)
    assert "no document has the url https://example.org/1/" in ask("inspect", spec, url[:-1], code=2).stderr
    hostile = ask("inspect", spec, f"{HOSTILE}?", code=2).stderr
    assert "no document has the url" in hostile
    assert "\x1b" not in hostile


def test_an_ambiguous_id_is_refused_with_some_that_it_may_mean(computed: Any) -> None:
    rows = told(
        "query", computed[0], "select left(id, 1), count(*), min(id) from documents group by 1 having count(*) > 1"
    )
    begin, count, least = rows["rows"][0]
    message = ask("inspect", computed[0], begin, code=2).stderr
    assert f"{count} documents have an id that begins with {begin}" in message
    assert told("inspect", computed[0], least)["id"] == least


def test_crawled_text_neither_is_markup_nor_reaches_the_terminal_as_control(computed: Any) -> None:
    spec, _ = computed
    found = told("query", spec, "select id, url from corpus where contains(url, '[/bold]')")
    [[name, url]] = found["rows"]
    assert url == HOSTILE
    for shown in (
        ask("query", spec, f"select url, text, '[/nothing]' as \"[/a]\" from corpus where id = '{name}'").output,
        ask("query", spec, f"select * from corpus where id = '{name}'").output,
        ask("inspect", spec, name).output,
    ):
        assert "\x1b" not in shown
        assert "[/bold]" in shown
        assert "[red]river[/red] runs [/blue]" in shown


# -- query -------------------------------------------------------------------------------------------------------------


def test_corpus_has_every_column_and_begins_with_the_six(computed: Any) -> None:
    spec, run = computed
    found = told("query", spec, "select * from corpus")
    assert found["columns"][:6] == ["id", "source", "url", "text", "kept", "reason"]
    every = {name for node in run.pipeline.nodes for name in node.writes}
    assert set(found["columns"]) >= every
    assert len(found["rows"]) == 2 * 60 + 1 + 24
    described = told("query", spec, "describe corpus")
    assert [row[0] for row in described["rows"]] == found["columns"]


def test_answers_are_those_of_the_columns(computed: Any) -> None:
    spec, run = computed
    counted: Counter[tuple[str, str | None]] = Counter()
    for place, files_ in run.pipeline.files(("source", "reason")):
        rows = job.read(run.store, files_, None).to_pydict()
        counted.update(zip(rows["source"], rows["reason"], strict=True))
        assert place < 4
    found = told("query", spec, "select source, reason, count(*) as n from corpus group by all")
    assert found["columns"] == ["source", "reason", "n"]
    assert {(source, reason): n for source, reason, n in found["rows"]} == counted


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("select count(*) from corpus", [[145]]),
        ("SELECT COUNT(*) FROM Corpus WHERE SOURCE = 'code'", [[24]]),
        ("from documents select count(distinct id)", [[145]]),
        ("select count(*) from language join quality using (id) where language is not null", [[145]]),
        ("select count(*) from language natural join quality", [[145]]),
        ("select count(*) from corpus a join corpus b on a.id = b.id and a.words = b.words", [[145]]),
        ("select count(c.text) from verdict v, documents c where c.id = v.id", [[145]]),
        ("with kept_ones as (select id from corpus where kept) select count(*) > 9 from kept_ones k", [[True]]),
        ("with corpus as (select 1 as one) select one from corpus", [[1]]),
        ("select count(*) from (select distinct source from corpus)", [[2]]),
        ("select corpus.kept is null from corpus where exists (select 1 from tokens) limit 1", [[False]]),
        ("select d.site from documents as d where d.source = 'code' limit 1", [[None]]),
        ("select sum(n) from (select count(*) as n from corpus group by language)", [[145]]),
        ("select struct_extract(documents, 'source') from documents order by id limit 0", []),
        ("select count(columns('^words$')) from signals", [[145]]),
        ("select count(*) from corpus union all select 1 order by 1", [[1], [145]]),
        ("values (1, 'a')", [[1, "a"]]),
        ("select sum(range) from range(4)", [[6]]),
    ],
)
def test_joins_subqueries_and_names_work_as_in_sql(computed: Any, sql: str, answer: list[Any]) -> None:
    assert told("query", computed[0], sql)["rows"] == answer


def test_a_duplicate_is_followed_to_the_document_that_stays(computed: Any) -> None:
    on = "on (b.shard, b.position) = (a.duplicate_of.shard, a.duplicate_of.position)"
    sql = f"select count(*), count(b.id), count(b.id) filter (b.kept) from corpus a left join corpus b {on}"
    [[number, *found]] = told("query", computed[0], f"{sql} where a.reason = 'duplicate'")["rows"]
    assert number > 9
    assert found == [number] * 2
    sql = f"select a.text, b.text from corpus a join corpus b {on} where a.reason = 'duplicate'"
    for copy, stays in told("query", computed[0], sql)["rows"]:
        shared = set(copy.splitlines()) & set(stays.splitlines())
        assert len(shared) >= len(stays.splitlines()) / 2


def test_values_are_json_whatever_their_type(computed: Any) -> None:
    sql = """select 12345678901234567890.12::decimal(38, 2), 0.1::decimal(5, 2), [1, 2]::int[2], 'a'::enum('a', 'b'),
             map([[1]], [2]), interval 3 days, timestamp '2024-05-01 10:00:00',
             '12345678-1234-1234-1234-123456789012'::uuid, time '10:00', [{'b': '\\xAA'::blob, 'n': 'nan'::float}]"""
    [row] = told("query", computed[0], sql)["rows"]
    expected: list[Any] = ["12345678901234567890.12", 0.1, [1, 2], "a", {"key": [[1]], "value": [2]}, "3 days, 0:00:00"]
    expected += ["2024-05-01 10:00:00", "12345678-1234-1234-1234-123456789012", "10:00:00", [{"b": "aa", "n": "nan"}]]
    assert row == expected
    sql = """select 'abc'::blob, 2::hugeint**70, 'nan'::float, 1/0, date '2024-05-01', {'a': [1, null]}, map([1], [2]),
             18446744073709551615::ubigint, 1.5::decimal(9, 2), null, chr(8232)"""
    [row] = told("query", computed[0], sql)["rows"]
    expected = ["616263", 2.0**70, "nan", "inf", "2024-05-01", {"a": [1, None]}, {"1": 2}]
    expected += [2**64 - 1, 1.5, None, "\u2028"]
    assert row == expected
    assert told("query", computed[0], "select tokens, alike from corpus where kept limit 1")["rows"][0][0][0] >= 0


@pytest.mark.parametrize(
    "sql",
    [
        "copy corpus to '{folder}/stolen.csv'",
        "copy (select * from corpus) to '{folder}/stolen.csv'",
        "attach '{folder}/stolen.db'",
        "select 1; select 2",
        "select * from read_csv('{folder}/small.yaml')",
        "select * from read_parquet('{folder}/store/**/*.parquet')",
        "select * from read_text('{folder}/small.yaml')",
        "select * from '{folder}/small.yaml'",
        "select * from glob('{folder}/*')",
        "select * from corpus where id in (select file from glob('{folder}/*'))",
        "with a as (select * from read_blob('{folder}/small.yaml')) select * from a",
        "select getenv('HOME')",
        "select * from duckdb_settings()",
        "select * from query('select 1')",
        "pragma version",
        "insert into corpus values (1)",
        "create table t as select 1",
        "drop view corpus",
        "set threads = 4",
        "install httpfs",
        "load httpfs",
        "call pragma_version()",
        "export database '{folder}/stolen'",
        "show tables",
        "with pg_settings as (select 1) select * from pg_catalog.pg_settings",
        "select * from (with pg_settings as (select 1) select 1), pg_settings",
        'select * from (with "{folder}/small.yaml" as (select 1) select 1), "{folder}/small.yaml"',
        "select " + "(" * 3000 + "1" + ")" * 3000,
        "select 1" + " + 1" * 900,
        "select '\udcff'",
        "select error(chr(27) || '[2J')",
        "select * from information_schema.tables",
        "selec 1",
        "",
        "select nothing from corpus",
        "select * from langauge",
    ],
)
def test_what_is_not_one_select_over_the_views_is_refused(computed: Any, sql: str) -> None:
    folder = computed[0].parent
    before = sorted(folder.rglob("*"))
    told_why = ask("query", computed[0], sql.format(folder=folder), code=2).stderr
    assert told_why.startswith("sluice: query: ")
    assert told_why.count("\n") == 1
    assert "\x1b" not in told_why
    assert sorted(folder.rglob("*")) == before


def test_a_mistaken_name_is_told_with_the_nearest(computed: Any) -> None:
    assert "did you mean language?" in ask("query", computed[0], "select * from langauge", code=2).stderr
    assert "did you mean language?" in ask("query", computed[0], "select langauge from corpus", code=2).stderr
    assert "`describe corpus` names its columns" in ask("query", computed[0], "select foo from corpus", code=2).stderr
    said = ask("query", computed[0], "select url, offset from documents limit 1 offset 2", code=2).stderr
    assert 'the column is written "offset"' in said
    assert "written" not in ask("query", computed[0], "select url fro documents limit 1 offset 2", code=2).stderr


def test_a_column_that_another_view_has_is_told_with_it(computed: Any) -> None:
    error = ask("query", computed[0], "select kept, count(*) from documents group by 1", code=2).stderr
    assert error.rstrip().endswith("; kept is a column of corpus")


def test_before_anything_is_computed_questions_end_in_a_plain_error(computed: Any, tmp_path: Path) -> None:
    for question in (("query", computed[0], "select count(*) from corpus"), ("inspect", computed[0], "0")):
        assert "holds no documents of this spec yet" in ask(*question, "--store", tmp_path / "empty", code=1).stderr
    assert told("funnel", computed[0], "--store", tmp_path / "empty")["in"] == 0
    asked = ask("funnel", computed[0], "--store", tmp_path / "empty")
    assert "holds no documents of this spec yet" in asked.stderr


def test_what_is_not_computed_is_null_or_told(computed: Any, copied: Path) -> None:
    store = copied.parent / "other"
    go(copied, [f"store={store}"], until="language")
    told_kept = ask("query", copied, "--store", store, "select kept from corpus", code=2).stderr
    assert "in FROM clause; kept is written by verdict, which `sluice run` has still to compute" in told_kept
    assert (
        "verdict is not computed yet" in ask("query", copied, "--store", store, "select * from verdict", code=2).stderr
    )
    assert told("query", copied, "--store", store, "select count(language) from corpus")["rows"] == [[145]]
    small.web(copied.parent / "web", 3, 60, seed=2)
    go(copied, until="language")
    sql = "select count(*), count(language), count(words) from corpus"
    [[every, judged, measured]] = told("query", copied, sql)["rows"]
    assert every == judged == 205
    assert measured == 145  # a new file makes a shard of its own
    assert told("query", copied, "select count(*) from signals")["rows"] == [[measured]]
    assert told("funnel", copied)["pending"] == 60  # verdicts of older documents stand


def test_an_answer_of_a_part_of_the_documents_says_so(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=20)
    night(spec)
    count = "select count(*) from corpus where kept"
    assert ask("query", spec, count).stderr == ""
    assert ask("duplicates", spec).stderr == ""
    small.web(tmp_path / "web", 5, 20, 9)
    go(spec, until="language")
    for sql in (count, "select * from corpus limit 1", "select count(*) from verdict"):
        said = ask("query", spec, sql).stderr
        assert "not computed: " in said
        assert "verdict for 1 of " in said
    assert "verdict for 1 of " in ask("query", spec, count, "--json").stderr
    assert ask("query", spec, "select count(language) from corpus where language = 'en'").stderr == ""
    assert "exact for 1 of " in ask("duplicates", spec).stderr
    night(spec)
    assert ask("query", spec, count).stderr == ""


def test_a_narrow_terminal_folds_and_cuts_nothing(computed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = computed
    [[name]] = told("query", spec, "select id from corpus limit 1")["rows"]
    for width in (30, 60, 2000):
        monkeypatch.setattr("flows.terminal._WIDE", width)
        monkeypatch.setattr("flows.terminal._WIDTH", width)
        for command in (("inspect", spec, name), ("query", spec, "select *, 1 as x from corpus limit 1")):
            shown = ask(*command).output
            assert "…" not in shown
            cells = "".join(line.split("│")[2].strip() for line in shown.splitlines() if line.count("│") == 3)
            assert name in cells
        assert "…" not in ask("plan", spec).output
        shown = ask("query", spec, "select id, language, words from corpus limit 1").output
        assert (name in shown) == (width > 40)
