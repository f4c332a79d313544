"""The command line: plans and funnels, whole runs, mistakes and help; its JSON and its exit codes."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows import embedded
from flows.cli import cli
from flows.embedded import ServerError
from tasks.storage.manifest import Manifest
from tasks.storage.store import Store
from tests import small
from tests.commands import ask, files, told
from tests.whole import go

ROOT = Path(__file__).parents[2]
COMMANDS = ("run", "plan", "funnel", "inspect", "query", "invalidate", "gc")


# -- plan, funnel -----------------------------------------------------------------------------------------------------


def test_a_plan_of_nothing_says_what_would_run_and_commits_nothing(computed: Any, tmp_path: Path) -> None:
    found = told("plan", computed[0], "--store", tmp_path / "empty")
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == [stage["name"] for stage in computed[1].record["stages"]] + ["train"]
    assert stages["documents"] | {"bytes": 0} == {
        **{"name": "documents", "fingerprint": "", "state": "stale", "shards": 4, "to_do": 4, "bytes": 0},
        "because": "web: never ran; code: never ran",
    }
    assert stages["learn_quality"]["state"] == "to learn"
    assert stages["quality"]["because"] == "waits for learn_quality"
    assert {"documents", "signals", "plan", "train"} <= set(found["expected"]["unknown"])
    assert found["pins"] == []
    assert not (tmp_path / "empty").exists()


def test_a_plan_of_a_complete_corpus_has_everything_cached_but_the_training(computed: Any) -> None:
    spec, run = computed
    found = told("plan", spec)
    assert {stage["state"] for stage in found["stages"][:-1]} == {"cached"}
    assert found["stages"][-1] | {"name": "train", "state": "stale"} == found["stages"][-1]
    assert found["expected"] == {"core_hours": 0, "bytes": 0, "unknown": ["train"]}
    training, usage = found["training"], run.plan_facts["usage"]
    assert training["steps"] == run.plan_facts["steps"] == 8
    assert training["positions"] == 8 * 1024
    larger = told("plan", spec, "--set", "tokenizer.vocabulary=9000")["training"]
    assert larger["parameters"] == training["parameters"]  # those of the pinned tokenizer
    assert training["tokens_per_parameter"] == round(training["tokens"] / training["parameters"], 6)
    assert training["flops"] > 6 * training["positions"] * (training["parameters"] - 400 * 32)
    assert training["epochs"] == {name: round(used["epochs"], 6) for name, used in usage.items()}
    pins = {pin["name"]: pin for pin in found["pins"]}
    assert set(pins) == {*"groups_web groups_code held_out domain quality percentiles_quality tokenizer".split()}
    assert pins["tokenizer"]["sha256"] == run.pipeline.pins.get("tokenizer")["sha256"]
    assert pins["tokenizer"]["run"] == run.name
    assert 0 <= pins["tokenizer"]["age_days"] < 1
    shown = ask("plan", spec).output
    assert all(word in shown for word in ("verdict", "cached", "tokens per parameter", "flops", pins["domain"]["run"]))


@pytest.mark.parametrize(
    ("setting", "stage", "because"),
    [
        ("rules.short=words < 80", "verdict", "settings.rules.short.drop: (words < 40) -> (words < 80)"),
        ("stages.duplicates.threshold=0.7", "alike", "settings.threshold: 0.8 -> 0.7"),
        ("stages.language.characters=500", "language", "settings.characters: 1000 -> 500"),
        ("sources.web.text=body", "documents", "web: settings.text: text -> body"),
        ("stages.quality.where=words > 5", "quality", "where: not set -> (words > 5)"),
    ],
)
def test_a_plan_names_the_setting_that_made_a_stage_stale(copied: Path, setting: str, stage: str, because: str) -> None:
    copied.write_text(copied.read_text().replace("domain <> 'code' and words < 40", "words < 40"))
    run = go(copied)
    found = {entry["name"]: entry for entry in told("plan", copied, "--set", setting)["stages"]}
    assert found[stage]["state"] == "stale"
    assert found[stage]["because"] == because
    output = run.pipeline.outputs[stage].index
    assert found[stage]["expected_bytes"] >= 0.4 * output.bytes[: found[stage]["to_do"]].sum()
    assert found[stage]["expected_core_hours"] > 0
    assert found[stage]["to_do"] == (2 if stage == "documents" else 4)
    above = list(found)[: list(found).index(stage)]
    assert {found[name]["state"] for name in above} <= {"cached"}


def test_a_plan_says_where_new_input_and_changed_learning_stand(copied: Path) -> None:
    small.web(copied.parent / "web", 3, 60, seed=2)
    found = told("plan", copied, "--set", "tokenizer.vocabulary=500")
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["documents"]["to_do"] == 1
    assert stages["documents"]["because"] == "web: 1 new file (web-03.jsonl.gz)"
    pins = {pin["name"]: pin for pin in found["pins"]}
    assert "settings.vocabulary: 400 -> 500" in pins["tokenizer"]["settings_since_changed"]
    assert "--retrain tokenizer" in pins["tokenizer"]["settings_since_changed"]
    assert "settings_since_changed" not in pins["quality"]


def test_the_funnel_is_the_runs_and_balances(computed: Any) -> None:
    spec, run = computed
    counts = told("funnel", spec)
    assert counts == run.record["funnel"]
    assert counts["in"] == 2 * 60 + 1 + 24
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())
    shown = ask("funnel", spec).output
    assert all(reason in shown for reason in counts["dropped"])


def test_counts_that_do_not_add_up_are_said_with_what_mends_them(computed: Any, copied: Path) -> None:
    [folder] = [name for name in Store(str(copied.parent / "store")).folders("columns") if name.startswith("verdict@")]
    manifest = Manifest(Store(str(copied.parent / "store")), f"columns/{folder}")
    [*_, entry] = manifest.entries()
    [source, *_] = entry["ledger"]
    manifest.append([entry | {"ledger": {**entry["ledger"], source: entry["ledger"][source] | {"kept": 1_000}}}])
    shown = ask("funnel", copied, code=1).output
    assert "accounted for" in shown
    assert "`sluice invalidate SPEC verdict`" in shown
    ask("invalidate", copied, "verdict")
    assert go(copied).record["funnel"] == computed[1].record["funnel"]


def test_questions_commit_nothing(computed: Any, tmp_path: Path) -> None:
    spec, before = computed[0], files(computed[0])
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
    (["run", "{spec}", "--set", "sources.code.paths=nowhere/*.py"], 2, "source code: nowhere/*.py matches no file"),
    (["run", "{spec}", "--from", "langauge"], 2, "--from: langauge is no stage; did you mean language?"),
    (["run", "{spec}", "--from", "near_duplicates"], 2, "near_duplicates is no stage; did you mean alike?"),
    (["plan", "{spec}", "--set", "rules.short=lsh_groups is null"], 2, "did you mean `candidates`?"),
    (["run", "{spec}", "--until", "nothing"], 2, "--until: nothing is no stage"),
    (["run", "{spec}", "--from", "learn_quality"], 2, "`--retrain quality` learns it anew"),
    (["run", "{spec}", "--from", "train"], 2, "--from: train"),
    (["run", "{spec}", "--from", "verdict", "--until", "language"], 2, "verdict comes after language"),
    (["run", "{spec}", "--retrain", "langauge"], 2, "--retrain: langauge is not learned by this spec"),
    (["run", "{spec}", "--until", "verdict", "--retrain", "tokenizer"], 2, "learn_tokenizer comes after verdict"),
    (["run", "{spec}", "--replace"], 2, "--replace: says what to do with the other values of --from"),
    (["plan", "{spec}", "--set", "sources.web.paths=[]"], 2, "sources.web.paths"),
    (["plan", "{spec}", "--set", "seed=1e30"], 2, "seed"),
    (["plan", "{spec}", "--set", "mixture.tokens=1e30"], 2, "mixture.tokens"),
    (["invalidate", "{spec}", "langauge"], 2, "did you mean language?"),
    (["invalidate", "{spec}", "learn_quality"], 2, "`sluice run --retrain quality`"),
    (["invalidate", "{spec}", "plan"], 2, "plan is no stage of columns"),
    (["plan", "{spec}", "--store", "nowhere://bucket"], 1, "Protocol not known: nowhere"),
    (["plan", "{spec}", "--store", "{spec}"], 1, "small.yaml is, or is in, a file: name a folder"),
    (["lineage", "{spec}", "zz"], 2, "'zz' is not a document's id"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_mistakes_are_told_in_one_line_with_their_exit_code(
    computed: Any, arguments: list[str], code: int, message: str
) -> None:
    given = [argument.format(spec=computed[0], folder=computed[0].parent) for argument in arguments]
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
    assert "..." not in whole.partition("Commands:")[2]
    for command in COMMANDS:
        assert command in whole
        shown = ask(command, "--help").output
        assert len(shown.split("\n\n")[1].split()) > 8
        assert "--json" in shown
        assert "--set KEY=VALUE" in shown
        assert "--store URL" in shown


def test_errors_show_no_credentials_and_nothing_that_a_terminal_obeys(computed: Any) -> None:
    result = ask("plan", computed[0], "--store", "nowhere://me:hush@bucket/a?sig=hush", "--json", code=1)
    assert "nowhere://***@bucket/a?sig=***" in result.stderr
    assert "hush" not in result.output
    result = ask("plan", "no\x1b[2J\u202ewhere.yaml", code=2)
    assert result.stderr == "sluice: no\\x1b[2J\\u202ewhere.yaml: there is no such file\n"


@pytest.mark.parametrize("module", ["flows", "flows.cli"])
def test_the_package_run_as_a_module_is_the_command_line(module: str) -> None:
    command = [sys.executable, "-m", module, "plan", "nowhere.yaml", "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "sluice: nowhere.yaml: there is no such file\n"
    assert json.loads(ended.stdout) == {"exit": 2, "status": "failed", "error": "nowhere.yaml: there is no such file"}


# -- run ---------------------------------------------------------------------------------------------------------------

DRIVER = """
import json, sys
from pathlib import Path
from click.testing import CliRunner
from flows import embedded
from flows.cli import cli
from flows.embedded import ServerError
from tasks.engine.runner import Execution
from tests.whole import direct, go
from training import fit
def watched(*jobs):
    if name == "changed":
        answers["cleaned"] = answered("invalidate", str(spec), "language", "--json")
    if name == "interrupted":
        raise KeyboardInterrupt
    return direct(*jobs)
def answered(*arguments):
    result = CliRunner().invoke(cli, arguments)
    return [result.exit_code, result.stdout, result.stderr]
Execution.__init__.__defaults__ = (None, watched)
spec, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
name, answers = "", {}
run = go(spec)
tokenizer = run.pipeline.pins.get("tokenizer")
fit.fit(run.spec, run.spec.store, run.record["plan"], f"small-{run.identity[:12]}", tokenizer, False)
for name, arguments in asked.items():
    answers[name] = answered("run", str(spec), *arguments)
newest = max((spec.parent / "store" / "runs" / "records").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
answers["record"] = [0, newest.read_text(), ""]
print(json.dumps(answers))
"""
RUNS = {
    "cached": ["--json"],
    "shown": [],
    "changed": ["--json", "--until", "verdict", "--set", "rules.short=domain <> 'code' and words < 99"],
    "gate": ["--json", "--set", "gates.removed_per_source=1%"],
    "mixture": ["--json", "--set", "mixture.tokens=100M"],
    "interrupted": ["--json", "--set", "stages.language.characters=500"],
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
    assert all(s.keys() >= {"name", "fingerprint", "state", "shards", "rows", "seconds"} for s in record["stages"])
    assert {stage["state"] for stage in record["stages"]} == {"cached"}
    assert [stage["name"] for stage in record["stages"]][-2:] == ["plan", "train"]
    funnel = record["funnel"]
    assert funnel["in"] == funnel["kept"] + sum(funnel["dropped"].values()) + sum(funnel["quarantined"].values()) == 144
    training = record["training"]
    assert training.keys() >= {"steps", "tokens", "loss", "channels", "checkpoint", "export"}
    assert training["steps"] == 8
    assert Path(record["plan"], "plan.json").is_file()
    assert Path(training["checkpoint"]).is_file()
    assert Path(training["export"], "model.safetensors").is_file()
    assert training["channels"].keys() == {"code", "zh", "en"}
    assert all(channel.keys() == {"first", "last", "last_step", "tokens"} for channel in training["channels"].values())
    assert sum(channel["tokens"] for channel in training["channels"].values()) == training["tokens"]
    held_out = training["held_out"].values()
    assert all(each.keys() == {"first", "last", "documents", "tokens", "bits_per_byte"} for each in held_out)
    assert all(0 < each["bits_per_byte"] < each["last"] / math.log(2) for each in held_out)  # a token is some bytes
    plan, train = record["stages"][-2:]
    assert (train["shards"], train["rows"]) == (0, plan["rows"])
    losses, evaluated = shown_losses(Path(training["export"]).parents[1] / "records" / record["run"])
    assert losses[0] == ["channel", "tokens", "first step", "last step", "held out first", "held out last"]
    assert evaluated[0] == ["channel", "bits per byte", "evaluated on"]  # beside losses: too wide
    assert {row[0] for row in losses[2:]} == {row[0] for row in evaluated[2:]} == {"code", "zh", "en"}


def shown_losses(record: Path) -> list[list[list[str]]]:
    """The tables of the page of losses in Prefect's UI, row by row."""
    parts = (record / "channel_losses.md").read_text().split("\n\n")
    tables = [part.strip().splitlines() for part in parts if part.startswith("|")]
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table] for table in tables]


def test_a_run_shows_funnel_mixture_losses_and_where_things_are(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, stderr = runs["shown"]
    assert code == 0
    for word in ("Funnel", "kept", "dropped: short", "Mixture", "realised", "held out last", "checkpoint", "export"):
        assert word in stdout
    assert re.search(r"code +│[^\n]*│ \d+ of \d+ +│", stdout)  # documents used
    assert re.search(r"code +│[^\n]*│ [\d,]+ tokens of \d+ documents +│", stdout)  # evaluated on
    assert "Traceback" not in stderr


def test_a_changed_rule_is_computed_by_a_run_until_the_verdict(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, _ = runs["changed"]
    record = json.loads(stdout.splitlines()[-1])
    assert code == 0
    assert {stage["name"] for stage in record["stages"] if stage["state"] == "computed"} == {"verdict"}
    assert record["stages"][-1]["name"] == "verdict"
    assert "training" not in record


def test_a_store_that_a_run_works_on_is_not_cleaned(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, _ = runs["cleaned"]
    assert code == 1
    run = json.loads(runs["changed"][1].splitlines()[-1])["run"]
    assert f"{run} is working on it; wait for its end, or stop it" in json.loads(stdout)["error"]


def test_a_run_that_ctrl_c_stops_says_so_as_does_its_record(runs: dict[str, tuple[int, str, str]]) -> None:
    code, stdout, stderr = runs["interrupted"]
    assert code == 130
    assert json.loads(stdout.splitlines()[-1])["error"] == "interrupted"
    assert "Traceback" not in stderr
    record = json.loads(runs["record"][1])
    assert record["status"] == "failed"
    assert record["error"] == "run: interrupted"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("gate", 3, "verdict: duplicates"),
        ("mixture", 2, "mixture: code needs"),
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


def test_tokenizers_are_tried_and_a_mistake_is_told_without_a_traceback(computed: Any, tmp_path: Path) -> None:
    def command(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "flows.cli", "tokenizers", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=ROOT)

    wrong = command(computed[0], tmp_path / "tried", "--store", tmp_path / "empty", "--json")
    assert wrong.returncode == 2, wrong.stderr
    assert "has no version in" in json.loads(wrong.stdout.splitlines()[-1])["error"]
    assert "Traceback" not in wrong.stderr
    assert not (tmp_path / "tried").exists()
    (tmp_path / "dirty.txt").write_text("\ufeffgold\n河流\n")  # as editors on Windows write it
    given = ("--vocabulary", 800, "--dirty", tmp_path / "dirty.txt", "--dirty-where", "source = 'code'", "--json")
    done = command(computed[0], tmp_path / "tried", *given)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["tokenizers"]
    assert [each["kind"] for each in found] == ["byte-bpe", "byte-bpe-clean"]
    assert found[0]["dirty"] > found[1]["dirty"] == 0
    cleaned = json.loads((tmp_path / "tried" / f"byte-bpe-clean-{found[1]['size']}.json").read_text())
    vocabulary = cleaned["model"]["vocab"]
    assert not {"gold", "Ġgold", "Ġreturn"} & vocabulary.keys()
    names = {f"{each['kind']}-{each['size']}.json" for each in found}
    assert names | {"tokenizers.md", "tokenizers.svg"} == {path.name for path in (tmp_path / "tried").iterdir()}


def test_a_run_says_at_once_what_is_started_but_where_json_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped() -> None:
        raise ServerError("no Prefect here")

    monkeypatch.setattr(embedded, "server", stopped)
    spec = small.corpus(tmp_path, files=1, documents=4)
    said = ask("run", spec, code=1)
    assert said.stderr == "sluice: starting Prefect and Ray, which takes some seconds\nsluice: no Prefect here\n"
    assert ask("run", spec, "--json", code=1).stderr == "sluice: no Prefect here\n"


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_files_are_read_as_utf8_whatever_the_locale_says(locale: str) -> None:
    show = "command._main = lambda: print(open(sys.argv[1]).encoding)"
    code = f"import sys; from flows.cli import command; {show}; command.main()"
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0"}
    asked = [sys.executable, "-c", code, __file__]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.lower() == "utf-8\n"
