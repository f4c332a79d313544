"""The command line: what each command says, refuses and leaves alone; its JSON and its exit codes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli import cli
from tasks import columns
from tasks.store import Store
from tests import small
from tests.whole import content, go, states

ROOT = Path(__file__).parents[1]
HOSTILE = "https://example.org/[/bold]\x1b[2J[red]"
COMMANDS = ("run", "plan", "funnel", "inspect", "query", "invalidate", "gc")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A corpus, one document of it with a hostile address, and the run that computed it up to the plan."""
    folder = tmp_path_factory.mktemp("first")
    spec = small.corpus(folder, files=2)
    row = {"text": "The [red]river[/red] runs [/blue] over the gravel. " * 9, "url": HOSTILE}
    (folder / "web" / "web-90.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    return spec, go(spec)


@pytest.fixture
def copied(first: Any, tmp_path: Path) -> Path:
    """The corpus and its store again, elsewhere, to be changed."""
    subprocess.run(["cp", "-r", f"{first[0].parent}/.", tmp_path], check=True)
    spec = tmp_path / "small.yaml"
    spec.write_text(small.SPEC.format(folder=tmp_path))
    return spec


def ask(*arguments: object, code: int = 0) -> Result:
    """A command's result; its exit code must be `code`, and whatever stopped it must not be a traceback."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def told(*arguments: object, code: int = 0) -> Any:
    """The JSON object on the last line of standard output."""
    return json.loads(ask(*arguments, "--json", code=code).stdout.splitlines()[-1])


def files(spec: Path) -> dict[str, int]:
    return Store(str(spec.parent / "store")).walk()


# -- plan --------------------------------------------------------------------------------------------------------------


def test_a_plan_of_nothing_says_what_would_run_and_commits_nothing(first: Any, tmp_path: Path) -> None:
    found = told("plan", first[0], "--store", tmp_path / "empty")
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == [stage["name"] for stage in first[1].record["stages"]] + ["train"]
    assert stages["documents"] | {"bytes": 0} == {
        **{"name": "documents", "recipe": "", "state": "stale", "shards": 4, "to_do": 4, "bytes": 0},
        "because": "web: never ran; code: never ran",
    }
    assert stages["learn_quality"]["state"] == "to learn"
    assert stages["quality"]["because"] == "waits for learn_quality"
    assert {"documents", "signals", "plan", "train"} <= set(found["expected"]["unknown"])
    assert found["pins"] == []
    assert not (tmp_path / "empty").exists()


def test_a_plan_of_a_complete_corpus_has_everything_cached_but_the_training(first: Any) -> None:
    spec, run = first
    found = told("plan", spec)
    assert {stage["state"] for stage in found["stages"][:-1]} == {"cached"}
    assert found["stages"][-1] | {"name": "train", "state": "stale"} == found["stages"][-1]
    assert found["expected"] == {"core_hours": 0, "bytes": 0, "unknown": ["train"]}
    training, usage = found["training"], run.plan_facts["usage"]
    assert training["steps"] == run.plan_facts["steps"] == 8
    assert training["tokens"] == 8 * 1024
    assert training["tokens_per_parameter"] == round(8192 / training["parameters"], 2)
    assert training["flops"] > 6 * training["tokens"] * (training["parameters"] - 400 * 32)
    assert training["epochs"] == {name: round(used["epochs"], 2) for name, used in usage.items()}
    pins = {pin["name"]: pin for pin in found["pins"]}
    assert set(pins) == {"groups_web", "groups_code", "held_out", "domain", "quality", "percentiles", "tokenizer"}
    assert pins["tokenizer"]["sha256"] == run.pipeline.pins.get("tokenizer")["sha256"]
    assert pins["tokenizer"]["run"] == run.name
    assert 0 <= pins["tokenizer"]["age_days"] < 1
    shown = ask("plan", spec).output
    assert all(word in shown for word in ("verdict", "cached", "tokens per parameter", "flops", pins["domain"]["run"]))


@pytest.mark.parametrize(
    ("setting", "stage", "because"),
    [
        ("rules.short=words < 80", "verdict", "settings.rules.short.drop: (words < 40) -> (words < 80)"),
        ("stages.duplicates.threshold=0.7", "candidates", "settings.threshold: 0.8 -> 0.7"),
        ("stages.language.characters=500", "language", "settings.characters: 1000 -> 500"),
        ("sources.web.text=body", "documents", "web: settings.text: text -> body"),
        ("stages.quality.where=words > 5", "quality", "where: None -> words > 5"),
    ],
)
def test_a_plan_names_the_setting_that_made_a_stage_stale(copied: Path, setting: str, stage: str, because: str) -> None:
    copied.write_text(copied.read_text().replace("domain <> 'code' and words < 40", "words < 40"))
    run = go(copied)
    found = {entry["name"]: entry for entry in told("plan", copied, "--set", setting)["stages"]}
    assert found[stage]["state"] == "stale"
    assert found[stage]["because"] == because
    output = run.pipeline.outputs[stage].index
    assert found[stage]["expected_bytes"] == pytest.approx(output.bytes[: found[stage]["to_do"]].sum(), rel=0.6)
    assert found[stage]["expected_core_hours"] > 0
    assert found[stage]["to_do"] == (2 if stage == "documents" else 4)
    above = list(found)[: list(found).index(stage)]
    assert {found[name]["state"] for name in above} <= {"cached"}


def test_a_plan_says_where_new_input_and_changed_learning_stand(copied: Path) -> None:
    small.web(copied.parent / "web", 3, 60, seed=2)
    found = told("plan", copied, "--set", "tokenizer.vocabulary=500")
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["documents"]["to_do"] == 1
    assert stages["documents"]["because"] == "web: new input"
    pins = {pin["name"]: pin for pin in found["pins"]}
    assert "settings.vocabulary: 400 -> 500" in pins["tokenizer"]["settings_since_changed"]
    assert "--retrain tokenizer" in pins["tokenizer"]["settings_since_changed"]
    assert "settings_since_changed" not in pins["quality"]


# -- funnel, inspect ---------------------------------------------------------------------------------------------------


def test_the_funnel_is_the_runs_and_balances(first: Any) -> None:
    spec, run = first
    counts = told("funnel", spec)
    assert counts == run.record["funnel"]
    assert counts["in"] == 2 * 60 + 1 + 24
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())
    shown = ask("funnel", spec).output
    assert all(reason in shown for reason in counts["dropped"])


def test_a_document_is_shown_whole_by_the_beginning_of_its_id(first: Any) -> None:
    spec, run = first
    output, verdict = (run.pipeline.outputs[name] for name in ("documents", "verdict"))
    row = columns.read(run.store, output.path(0)).to_pylist()[3]
    whole = row["id"].hex()
    found = told("inspect", spec, whole[:9].upper())
    assert {name: found[name] for name in row} == row | {"id": whole}
    assert found["kept"] == columns.read(run.store, verdict.path(0), ("kept",))["kept"][3].as_py()
    assert found["shard"] == run.pipeline.shards[0].name
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
def test_ids_of_no_document_are_refused(first: Any, beginning: str, message: str) -> None:
    assert message in ask("inspect", first[0], beginning, code=2).stderr


def test_an_ambiguous_id_is_refused_with_some_that_it_may_mean(first: Any) -> None:
    rows = told(
        "query", first[0], "select left(id, 1), count(*), min(id) from documents group by 1 having count(*) > 1"
    )
    begin, count, least = rows["rows"][0]
    message = ask("inspect", first[0], begin, code=2).stderr
    assert f"{count} documents have an id that begins with {begin}" in message
    assert told("inspect", first[0], least)["id"] == least


def test_crawled_text_neither_is_markup_nor_reaches_the_terminal_as_control(first: Any) -> None:
    spec, _ = first
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


def test_corpus_has_every_column_and_begins_with_the_six(first: Any) -> None:
    spec, run = first
    found = told("query", spec, "select * from corpus")
    assert found["columns"][:6] == ["id", "source", "url", "text", "kept", "reason"]
    every = {name for node in run.pipeline.nodes for name in node.writes}
    assert set(found["columns"]) >= every
    assert len(found["rows"]) == 2 * 60 + 1 + 24
    described = told("query", spec, "describe corpus")
    assert [row[0] for row in described["rows"]] == found["columns"]


def test_answers_are_those_of_the_columns(first: Any) -> None:
    spec, run = first
    counted: Counter[tuple[str, str | None]] = Counter()
    for place, files_ in run.pipeline.files(("source", "reason")):
        rows = {
            name: columns.read(run.store, path, names)[name].to_pylist() for path, names in files_ for name in names
        }
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
def test_joins_subqueries_and_names_work_as_in_sql(first: Any, sql: str, answer: list[Any]) -> None:
    assert told("query", first[0], sql)["rows"] == answer


def test_values_are_json_whatever_their_type(first: Any) -> None:
    sql = """select 'abc'::blob, 2::hugeint**70, 'nan'::float, 1/0, date '2024-05-01', {'a': [1, null]}, map([1], [2]),
             18446744073709551615::ubigint, 1.5::decimal(9, 2), null, chr(8232)"""
    [row] = told("query", first[0], sql)["rows"]
    expected = ["616263", 2.0**70, None, None, "2024-05-01", {"a": [1, None]}, {"1": 2}, 2**64 - 1, 1.5, None, "\u2028"]
    assert row == expected
    assert told("query", first[0], "select tokens, alike from corpus where kept limit 1")["rows"][0][0][0] >= 0


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
        "select * from information_schema.tables",
        "selec 1",
        "",
        "select nothing from corpus",
        "select * from langauge",
    ],
)
def test_what_is_not_one_select_over_the_views_is_refused(first: Any, sql: str) -> None:
    folder = first[0].parent
    before = sorted(folder.rglob("*"))
    assert ask("query", first[0], sql.format(folder=folder), code=2).stderr.startswith("sluice: query: ")
    assert sorted(folder.rglob("*")) == before


def test_a_mistaken_name_is_told_with_the_nearest(first: Any) -> None:
    assert "did you mean language?" in ask("query", first[0], "select * from langauge", code=2).stderr
    assert "did you mean language?" in ask("query", first[0], "select langauge from corpus", code=2).stderr


def test_before_anything_is_computed_questions_end_in_a_plain_error(first: Any, tmp_path: Path) -> None:
    for question in (("query", first[0], "select count(*) from corpus"), ("inspect", first[0], "0")):
        assert "holds no documents of this spec yet" in ask(*question, "--store", tmp_path / "empty", code=1).stderr
    assert told("funnel", first[0], "--store", tmp_path / "empty")["in"] == 0


def test_what_is_not_computed_is_null_or_told(first: Any, copied: Path) -> None:
    store = copied.parent / "other"
    go(copied, [f"store={store}"], until="language")
    told_kept = ask("query", copied, "--store", store, "select kept from corpus", code=2).stderr
    assert "kept is written by verdict, which is not computed yet" in told_kept
    assert (
        "verdict is not computed yet" in ask("query", copied, "--store", store, "select * from verdict", code=2).stderr
    )
    assert told("query", copied, "--store", store, "select count(language) from corpus")["rows"] == [[145]]
    small.web(copied.parent / "web", 3, 60, seed=2)
    go(copied, until="language")
    sql = "select count(*), count(language), count(words) from corpus"
    [[every, judged, measured]] = told("query", copied, sql)["rows"]
    assert every == judged == 205
    assert 0 < measured < 145
    assert told("query", copied, "select count(*) from signals")["rows"] == [[measured]]
    assert told("funnel", copied)["pending"] == 205


# -- invalidate, gc ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["documents", "language", "clusters", "verdict"])
def test_an_invalidated_stage_is_computed_again_and_nothing_else(first: Any, copied: Path, stage: str) -> None:
    told_of = told("invalidate", copied, stage)
    assert told_of["stage"] == stage
    assert told_of["removed"] >= 4
    found = {entry["name"]: entry["state"] for entry in told("plan", copied)["stages"]}
    assert found[stage] == "stale"
    again = go(copied)
    assert {name for name, state in states(again).items() if state == "computed"} == {stage}
    assert content(again) == content(first[1])


def test_gc_lists_nothing_that_stands_and_removes_what_a_change_left(copied: Path) -> None:
    before = told("gc", copied)
    assert not before["removed"]
    assert {path.split("/")[0] for path in before["files"]} == {"models"}
    assert all("/samples@" in path for path in before["files"])
    old = {path for path in files(copied) if path.startswith("columns/verdict@")}
    settings = ["rules.short=domain <> 'code' and words < 90"]
    go(copied, settings, retrain=["quality"])
    pins = json.loads((copied.parent / "store" / "pins" / "small.json").read_bytes())
    listed = told("gc", copied, "--set", settings[0])
    assert old <= set(listed["files"])
    assert listed["bytes"] == sum(listed["files"].values())
    assert all(files(copied)[path] == size for path, size in listed["files"].items())
    assert "nothing refers to them" in ask("gc", copied, "--set", settings[0]).output
    assert told("gc", copied, "--set", settings[0], "--yes")["files"] == listed["files"]
    left = files(copied)
    assert not set(listed["files"]) & set(left)
    assert {pin["path"] for history in pins.values() for pin in history if "path" in pin} <= set(left)
    assert set(states(go(copied, settings)).values()) == {"cached"}
    assert told("gc", copied, "--set", settings[0])["files"] == {}


def test_what_gc_took_is_computed_again_when_it_is_asked_for(first: Any, copied: Path) -> None:
    old = {path for path in files(copied) if path.startswith(("documents/web@", "columns/", "tokens/"))}
    changed = copied.parent / "web" / "web-01.jsonl.gz"
    kept = changed.read_bytes()
    small.web(copied.parent / "web", 1, 60, seed=5)
    go(copied)
    told("gc", copied, "--yes")
    assert old - set(files(copied))
    assert set(states(go(copied)).values()) == {"cached"}
    changed.write_bytes(kept)
    again = go(copied)
    assert states(again)["documents"] == states(again)["signals"] == states(again)["verdict"] == "computed"
    assert states(again)["tokens"] == "cached"  # a plan reads them
    assert content(again) == content(first[1])


def test_gc_leaves_other_lineages_plans_and_unfinished_stages_alone(copied: Path) -> None:
    other = copied.parent / "other.yaml"
    other.write_text(copied.read_text().replace("name: small", "name: other").replace("words < 40", "words < 77"))
    go(other)
    told("gc", copied, "--yes")
    assert set(states(go(other)).values()) == {"cached"}
    small.web(copied.parent / "web", 3, 60, seed=2)
    assert not [path for path in told("gc", copied)["files"] if "/samples@" not in path]
    go(copied, ["tokenizer.vocabulary=450"], retrain=["tokenizer"])
    told("gc", copied, "--set", "tokenizer.vocabulary=450", "--yes")
    plans = [json.loads(path.read_bytes()) for path in (copied.parent / "store" / "plans").glob("*/plan.json")]
    assert len(plans) == 3
    assert {file for plan in plans for file in plan["files"]} <= set(files(copied))


def test_questions_commit_nothing(first: Any, tmp_path: Path) -> None:
    spec, before = first[0], files(first[0])
    questions = (("plan",), ("funnel",), ("inspect", "0"), ("query", "select count(*) from corpus"), ("gc",))
    for command, *rest in questions:
        CliRunner().invoke(cli, [command, str(spec), *rest])
        CliRunner().invoke(cli, [command, str(spec), *rest, "--store", str(tmp_path / "empty")])
    assert files(spec) == before
    assert not (tmp_path / "empty").exists()


# -- mistakes, help ----------------------------------------------------------------------------------------------------

RULE = "rules.short=true) from t; create table x as select 1; select (true"
MISTAKES: list[tuple[list[str], int, str]] = [
    (["plan", "nowhere.yaml"], 2, "nowhere.yaml: there is no such file"),
    (["run", "{folder}"], 2, "is a directory"),
    (["plan", "{spec}", "--set", "training.stepz=1"], 2, "training.stepz is unknown; did you mean steps?"),
    (["plan", "{spec}", "--set", "training.steps=many"], 2, "should be a whole number"),
    (["plan", "{spec}", "--set", "nothing"], 2, "is not `key=value`"),
    (["run", "{spec}", "--set", RULE], 2, "is not one expression"),
    (["plan", "{spec}", "--set", "rules.short=wrods < 4"], 2, "column `wrods` is written by no stage; did you mean"),
    (["plan", "{spec}", "--set", "stages.domain.labels.code=reason = 'x'"], 2, "stages need each other: "),
    (["funnel", "{spec}", "--set", "sources.web.paths=nowhere/*.gz"], 2, "source web: nowhere/*.gz matches no file"),
    (["run", "{spec}", "--from", "langauge"], 2, "--from: langauge is no stage; did you mean language?"),
    (["run", "{spec}", "--until", "nothing"], 2, "--until: nothing is no stage"),
    (["run", "{spec}", "--from", "learn_quality"], 2, "`--retrain quality` learns it anew"),
    (["run", "{spec}", "--from", "train"], 2, "--from: train"),
    (["run", "{spec}", "--from", "verdict", "--until", "language"], 2, "verdict comes after language"),
    (["run", "{spec}", "--retrain", "langauge"], 2, "--retrain: langauge is not learned by this spec"),
    (["invalidate", "{spec}", "langauge"], 2, "did you mean language?"),
    (["invalidate", "{spec}", "learn_quality"], 2, "`sluice run --retrain quality`"),
    (["invalidate", "{spec}", "plan"], 2, "plan is no stage of columns"),
    (["plan", "{spec}", "--store", "nowhere://bucket"], 1, "Protocol not known: nowhere"),
    (["plan", "{spec}", "--store", "{spec}"], 1, "cannot be read"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_mistakes_are_told_in_one_line_with_their_exit_code(
    first: Any, arguments: list[str], code: int, message: str
) -> None:
    given = [argument.format(spec=first[0], folder=first[0].parent) for argument in arguments]
    result = ask(*given, "--json", code=code)
    assert message in result.stderr
    failed = json.loads(result.stdout.splitlines()[-1])
    assert failed["status"] == "failed"
    assert message in failed["error"]


def test_usage_errors_exit_with_two_and_help_tells_each_command() -> None:
    for wrong in (
        ["nothing"],
        ["plan"],
        ["plan", "x", "--nothing"],
        ["query", "x"],
        ["inspect", "x"],
        ["invalidate", "x"],
    ):
        ask(*wrong, code=2)
    whole = ask("--help").output
    assert "3 a gate" in whole
    for command in COMMANDS:
        assert command in whole
        shown = ask(command, "--help").output
        assert len(shown.split("\n\n")[1].split()) > 8
        assert "--json" in shown
        assert "--set KEY=VALUE" in shown
        assert "--store URL" in shown


# -- run ---------------------------------------------------------------------------------------------------------------

DRIVER = """
import json, sys
from pathlib import Path
from click.testing import CliRunner
from flows.cli import cli
from tasks.execute import Execution
from tests.whole import direct, go
from training import loop
Execution.__init__.__defaults__ = (None, direct)
spec, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
run = go(spec)
[tokenizer] = run.pipeline.pins.files("tokenizer")
loop.fit(run.spec, run.spec.store, run.record["plan"], f"small-{run.identity[:12]}", tokenizer, False)
answers = {}
for name, arguments in asked.items():
    result = CliRunner().invoke(cli, ["run", str(spec), *arguments])
    answers[name] = [result.exit_code, result.stdout, result.stderr]
print(json.dumps(answers))
"""
RUNS = {
    "cached": ["--json"],
    "shown": [],
    "changed": ["--json", "--until", "verdict", "--set", "rules.short=domain <> 'code' and words < 99"],
    "gate": ["--json", "--set", "gates.removed_per_source=1%"],
    "mixture": ["--json", "--set", "mixture.tokens=100M"],
    "missing": ["--json", "--set", "sources.code.paths=nowhere/*.py"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, standard output and error of several runs; in one process, so that Prefect's server starts once, and
    without Ray."""
    folder = tmp_path_factory.mktemp("runs")
    spec = small.corpus(folder, files=2)
    environment = os.environ | {"PREFECT_HOME": str(folder / "prefect")}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", DRIVER, str(spec), json.dumps(RUNS)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_a_run_tells_its_record_as_json_on_the_last_line(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, _ = runs["cached"]
    record = json.loads(stdout.splitlines()[-1])
    assert code == 0
    assert record["status"] == "completed"
    assert record.keys() >= {"run", "status", "stages", "funnel", "training"}
    assert all(s.keys() >= {"name", "recipe", "state", "shards", "rows", "seconds"} for s in record["stages"])
    assert {stage["state"] for stage in record["stages"]} == {"cached"}
    assert [stage["name"] for stage in record["stages"]][-2:] == ["plan", "train"]
    funnel = record["funnel"]
    assert funnel["in"] == funnel["kept"] + sum(funnel["dropped"].values()) + sum(funnel["quarantined"].values()) == 144
    training = record["training"]
    assert training.keys() >= {"steps", "tokens", "loss", "channels", "checkpoint", "export"}
    assert training["steps"] == 8
    assert training["channels"].keys() == {"code", "zh", "en"}
    assert all(channel.keys() == {"first", "last", "tokens"} for channel in training["channels"].values())
    assert sum(channel["tokens"] for channel in training["channels"].values()) == training["tokens"]


def test_a_run_shows_funnel_mixture_losses_and_where_things_are(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, stderr = runs["shown"]
    assert code == 0
    for word in ("Funnel", "kept", "dropped: short", "Mixture", "realised", "held out last", "checkpoint", "export"):
        assert word in stdout
    assert "Traceback" not in stderr


def test_a_changed_rule_is_computed_by_a_run_until_the_verdict(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, _ = runs["changed"]
    record = json.loads(stdout.splitlines()[-1])
    assert code == 0
    assert {stage["name"] for stage in record["stages"] if stage["state"] == "computed"} == {"verdict"}
    assert record["stages"][-1]["name"] == "verdict"
    assert "training" not in record


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("gate", 3, "verdict: duplicates take"),
        ("mixture", 2, "mixture: code needs"),
        ("missing", 2, "source code: nowhere/*.py matches no file"),
    ],
)
def test_what_stops_a_run_is_told_with_its_exit_code(
    runs: dict[str, tuple[int, str, str]], name: str, code: int, message: str
) -> None:
    ended, stdout, stderr = runs[name]
    record = json.loads(stdout.splitlines()[-1])
    assert ended == code
    assert record["status"] == "failed"
    assert message in record["error"]
    assert f"sluice: {record['error']}" in stderr
    assert "Traceback" not in stdout + stderr
