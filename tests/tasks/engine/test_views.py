"""Views: what DuckDB scans lazily gives what the joined columns give, and only what is asked for is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from flows.cli import cli
from flows.commands import query
from flows.run import Run
from tasks.engine import views
from tasks.engine.pipeline import Pipeline
from tasks.storage import columns
from tests import small
from tests.commands import ask, told
from tests.whole import go


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Spec and run of a small corpus of many row groups, which are read in parts that do not fit them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns, "ROW_GROUP", 16)
        patched.setattr(views, "ROW_GROUP", 24)
        spec = small.corpus(tmp_path_factory.mktemp("grouped"), files=3)
        yield spec, go(spec)


@pytest.fixture(scope="module")
def joined(grouped: Any) -> duckdb.DuckDBPyConnection:
    return whole(grouped[1].pipeline)


def whole(pipeline: Pipeline) -> duckdb.DuckDBPyConnection:
    """A corpus as one table in memory, of files that were read whole, with null for those that are missing."""
    kinds = {field.name: field.type for node in pipeline.nodes if node.writes for field in node.schema}
    tables = []
    for place in range(len(pipeline.shards)):
        found: dict[str, Any] = {}
        for output in pipeline.outputs.values():
            if output.index.digests and output.index.done[place]:
                table = columns.read(pipeline.store, output.path(place))
                found |= {name: table[name] for name in table.column_names}
        found["id"] = pa.array([value.as_py().hex() for value in found["id"]])
        found |= {name: pa.nulls(len(found["id"]), kind) for name, kind in kinds.items() if name not in found}
        tables.append(pa.table({name: found[name] for name in sorted(found)}))
    connection = duckdb.connect(config={"threads": 1})
    connection.register("corpus", pa.concat_tables(tables))
    return connection


@contextmanager
def read(patched: pytest.MonkeyPatch) -> Any:
    """(file, columns, first row) of everything that is read meanwhile."""
    found: list[tuple[str, tuple[str, ...], int]] = []
    real = columns.opened

    @contextmanager
    def noting(store: Any, path: str, expect: str) -> Any:
        with real(store, path, expect) as part:

            def noted(names: Sequence[str], begin: int, end: int) -> pa.Table:
                found.append((path, tuple(names), begin))
                return part(names, begin, end)

            yield noted

    with patched.context() as context:
        context.setattr(columns, "opened", noting)
        yield found


@pytest.mark.parametrize(
    "sql",
    [
        "select id, url, kept, words, tokens, alike from corpus",
        "select id from corpus limit 5 offset 70",
        "select count(*), count(kept), avg(words), sum(quality), min(url) from corpus",
        "select id, text from corpus where words > 300",
        "select id, words from corpus where words between 200 and 210 or language = 'zh' and not kept",
        "select id, quality from corpus where quality > 0.5 and language_score < 0.99",
        "select id from corpus where kept is null",
        "select id from corpus where reason is not null and reason <> 'short'",
        "select id, domain from corpus where domain in ('code', 'nothing') and words is not null",
        "select count(*) from corpus where kept = null or source = 'code'",
        "select id, text from corpus where words = 1e9",
        "select text from corpus where text like '%river%' and url like '%/1/%'",
        "select id from corpus where cluster is not null and cluster % 2 = 0",
        "select id, alike from corpus where len(alike) > 0 and alike[1].similarity > 0.8",
        "select a.id, b.id from corpus a join corpus b on a.words = b.words and a.id < b.id order by 1, 2",
        "select language, array_agg(id), sum(quality), first(text) from corpus group by 1",
        "select id, row_number() over () as n from corpus where source = 'web'",
        "select text from corpus where text = (select text from corpus where words = 320 limit 1)",
        "select distinct on (language) language, id, text from corpus order by language, words desc, id",
    ],
)
def test_a_view_answers_as_one_table_does(grouped: Any, joined: duckdb.DuckDBPyConnection, sql: str) -> None:
    expected = joined.execute(sql).fetchall()
    with query.select(grouped[1].pipeline, sql) as answer:
        assert list(answer.rows) == [[query.plain(value) for value in row] for row in expected]


def test_what_is_not_computed_is_null_to_conditions_too(copied: Path) -> None:
    small.web(copied.parent / "web", 3, 50, seed=2)
    go(copied, until="language")
    run = Run.of(str(copied))
    run.resolve()
    oracle = whole(run.pipeline)
    for sql in (
        "select count(*), count(language), count(words), sum(words) from corpus",
        "select id, language, words from corpus where words is null",
        "select id, text from corpus where words > 100 or language = 'zh'",
        "select id, words from corpus where coalesce(words, 7) = 7 and url is not null",
    ):
        with query.select(run.pipeline, sql) as answer:
            assert list(answer.rows) == [list(row) for row in oracle.execute(sql).fetchall()]
    assert oracle.execute("select count(*) from corpus where words is null").fetchall() > [(40,)]


def test_a_limit_reads_no_further_than_it_needs(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = grouped[1].pipeline
    with read(monkeypatch) as found, query.select(pipeline, "select * from corpus limit 5") as answer:
        assert len(list(answer.rows)) == 5
    assert {begin for _, _, begin in found} == {0}
    assert {path for path, _, _ in found} <= {
        output.path(0) for output in pipeline.outputs.values() if output.folders and output.index.keys[0]
    }


def test_only_columns_that_are_asked_for_are_read(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "with all_of_them as (select * from corpus) select count(*), avg(words) from all_of_them"
    with read(monkeypatch) as found, query.select(grouped[1].pipeline, sql) as answer:
        list(answer.rows)
    assert {names for _, names, _ in found} == {("words",)}


def test_what_a_condition_refuses_is_not_read(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = grouped[1].pipeline
    sql = "select words, count(*) from signals group by 1 having count(*) = 1 order by 1 desc limit 1"
    with query.select(pipeline, sql) as answer:
        [[most, _]] = answer.rows
    with (
        read(monkeypatch) as found,
        query.select(pipeline, f"select * from corpus where words = {most} and text is not null") as answer,
    ):
        [row] = answer.rows
    assert row[answer.columns.index("words")] == most
    assert len({begin for _, names, begin in found if "url" in names}) == 1
    assert len([names for _, names, _ in found if "words" in names]) > 6
    assert len([names for _, names, _ in found if "url" in names]) == 1


def test_ids_are_written_in_hexadecimal_wherever_they_lie() -> None:
    ids = pa.array([np.random.default_rng(n).bytes(16) for n in range(40)], pa.binary(16))
    for part in (ids, ids.slice(7, 11), ids.slice(39), ids.slice(40)):
        assert views.hexadecimal(part).to_pylist() == [value.hex() for value in part.to_pylist()]


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(copied: Path, damage: str) -> None:
    run = Run.of(str(copied))
    run.resolve()
    output = run.pipeline.outputs["signals"]
    paths = [copied.parent / "store" / output.path(place) for place in range(len(run.pipeline.shards))]
    if damage == "gone":
        paths[-1].unlink()
    elif damage == "cut":
        paths[-1].write_bytes(paths[-1].read_bytes()[:-100])
    else:
        paths[-1].write_bytes(paths[0].read_bytes())
    path = output.path(len(paths) - 1)
    for command in (("query", copied, "select sum(words) from corpus"), ("query", copied, "select * from corpus")):
        result = ask(*command, "--json", code=1)
        error = json.loads(result.stdout.splitlines()[-1])["error"]
        assert error.startswith(f"{path} is missing or damaged (")
        assert "a run that reads it makes it again, `sluice invalidate SPEC " in error
    assert told("query", copied, "select count(*) from language")["rows"] == [[145]]


def test_what_stops_an_answer_ends_its_line(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_AT_ONCE", 1)
    sql = "select case when range = 200000 then error('here' || chr(27)) else repeat('x', 99) end from range(300000)"
    result = CliRunner().invoke(cli, ["query", str(grouped[0]), sql, "--json"])
    begun, last = result.stdout.splitlines()
    assert begun.startswith('{"columns": ["CASE ')
    assert json.loads(last) == {
        "exit": 2, "status": "failed", "error": "query: Invalid Input Error: here\\x1b",
    }  # fmt: skip
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_what_memory_does_not_hold_is_spilled_or_told(
    grouped: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(query, "MEMORY", "64MiB")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spilled = "select count(*) from (select distinct repeat(range::varchar, 9) from range(2000000))"
    assert told("query", grouped[0], spilled)["rows"] == [[2000000]]
    whole = "select length(string_agg(repeat('x', 99), '')) from range(3000000)"
    error = told("query", grouped[0], whole, code=1)["error"]
    assert error.startswith("query: too large for this machine: Out of Memory Error: ")
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_of_many_rows_the_first_are_shown_and_all_are_in_the_json(grouped: Any) -> None:
    many = "select range as number from range(5000)"
    shown = ask("query", grouped[0], many).output
    assert shown.splitlines()[-1] == "the first 1,000 rows; `--json` gives all, a `limit` fewer"
    assert "999" in shown
    assert "1000 " not in shown
    assert told("query", grouped[0], many)["rows"] == [[number] for number in range(5000)]
    assert ask("query", grouped[0], "from range(1000)").output.splitlines()[-1] == "1,000 rows"


def test_columns_of_the_same_name_are_all_shown(grouped: Any) -> None:
    names = ", ".join(f"{number} as same" for number in range(100, 110))
    shown = ask("query", grouped[0], f"select {names}").output
    assert all(str(number) in shown for number in range(100, 110))


def test_an_answer_is_written_as_it_is_read(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def rows() -> Any:
        for number in range(3):
            assert len(written) == number + 1
            yield [number]

    from flows.cli import command as commands

    write: Callable[[str], None] = written.append
    monkeypatch.setattr(commands.sys.stdout, "write", write)
    monkeypatch.setattr(commands.click, "echo", lambda text="": written.append(text))
    commands.print_json_rows(["a"], rows())
    assert json.loads("".join(written)) == {"columns": ["a"], "rows": [[0], [1], [2]]}
